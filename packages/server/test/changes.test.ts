import { formatKey } from '@sealane/protocol';
import { formatPrefix } from '@sealane/tunnel';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { peerChanges } from '../src/running/changes.ts';
import type { RegistryPeer } from '../src/state/registry-file.ts';

function peer(n: number, changes: Partial<RegistryPeer> = {}): RegistryPeer {
  return {
    name: `peer${n}`,
    publicKey: formatKey(new Uint8Array(32).fill(n)),
    presharedKey: formatKey(new Uint8Array(32).fill(100 + n)),
    addresses: [`10.7.0.${n + 1}`, `fd07::${n + 1}`],
    added: '2026-01-31T12:00:00.000Z',
    ...changes,
  };
}

describe('peerChanges', () => {
  it('gives a new peer its key, its preshared key and its addresses as allowed IPs', () => {
    const [update, ...rest] = peerChanges([], [peer(1)]);
    expect(rest).toEqual([]);
    expect(update!.publicKey).toEqual(new Uint8Array(32).fill(1));
    expect(update!.presharedKey).toEqual(new Uint8Array(32).fill(101));
    expect(update!.replaceAllowedIps).toBe(true);
    expect(update!.allowedIps!.map(formatPrefix)).toEqual(['10.7.0.2/32', 'fd07::2/128']);
  });

  it('takes the preshared key away from a peer that has none any more', () => {
    const { presharedKey: _, ...without } = peer(1);
    expect(peerChanges([peer(1)], [without])[0]!.presharedKey).toEqual(new Uint8Array(32));
  });

  it('gives a peer its cipher, and the default back', () => {
    const other = peer(1, { cipher: 'aes256gcm' });
    expect(peerChanges([peer(1)], [other])[0]!.cipherSuite).toBe('aes256gcm');
    expect(peerChanges([other], [peer(1)])[0]!.cipherSuite).toBe('chacha20poly1305');
    expect(peerChanges([other], [other])).toEqual([]);
  });

  it('takes a peer away and gives it again when its timestamps are to be forgotten', () => {
    const [old, next] = [peer(1), peer(1, { forgotten: '2026-02-01T00:00:00.000Z' })];
    const [gone, again, ...rest] = peerChanges([old, peer(2)], [next, peer(2)]);
    expect(gone).toEqual({ publicKey: again!.publicKey, remove: true });
    expect(again).toEqual(peerChanges([], [old])[0]);
    expect(rest).toEqual([]);
    expect(peerChanges([next], [next])).toEqual([]);
  });

  it('leaves a peer alone that only got another name', () => {
    expect(peerChanges([peer(1)], [peer(1, { name: 'renamed' })])).toEqual([]);
  });

  it('names exactly the peers that differ, those to remove first', () => {
    const sets = fc.uniqueArray(fc.integer({ min: 1, max: 60 }), { maxLength: 20 });
    fc.assert(
      fc.property(sets, sets, sets, (before, after, moved) => {
        const old = before.map((n) => peer(n));
        const next = after.map((n) => peer(n, moved.includes(n) ? { addresses: [`10.7.1.${n}`] } : {}));
        const changes = peerChanges(old, next);
        const removed = before.filter((n) => !after.includes(n));
        const set = after.filter((n) => !before.includes(n) || moved.includes(n));
        expect(changes.map(({ publicKey, remove }) => [publicKey[0], remove === true])).toEqual([
          ...removed.map((n) => [n, true]),
          ...set.map((n) => [n, false]),
        ]);
      }),
      { seed: 7 },
    );
  });
});
