import { describe, expect, it } from 'vitest';
import { peerCard, type PeerView } from '../src/output/peers.ts';
import { styleFor } from '../src/output/style.ts';

const LIVE: NonNullable<PeerView['live']> = {
  hasPresharedKey: false,
  allowedIps: [],
  persistentKeepalive: 0,
  rekeyInterval: 120_000,
  cipherSuite: 'chacha20poly1305',
  rxBytes: 0,
  txBytes: 0,
  sessions: 1,
  session: { role: 'responder', ageMs: 1_000, expiresInMs: 179_000, hedged: false },
};

function cardWith(trouble: 'unanswered' | 'mtu' | undefined): string {
  const peer: PeerView = {
    name: 'alice',
    publicKey: 'x',
    addresses: ['10.7.0.2'],
    presharedKey: false,
    postQuantum: true,
    cipher: 'chacha20poly1305',
    added: '2026-01-31T12:00:00.000Z',
    live: { ...LIVE, postQuantum: { interval: 3_600_000, exchanges: 0, ...(trouble !== undefined && { trouble }) } },
  };
  return peerCard(peer, 0, styleFor({}));
}

describe('the card of a peer', () => {
  it('says why its session is not hedged', () => {
    expect(cardWith(undefined)).toMatch(/not hedged$/m);
    expect(cardWith('unanswered')).toContain('not hedged: the peer does not answer');
    expect(cardWith('mtu')).toContain('the MTU has no room for the exchange; it needs 1200');
  });
});
