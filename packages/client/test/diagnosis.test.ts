import { DROP_REASONS, type DropReason } from '@sealane/protocol';
import { parseEndpoint } from '@sealane/tunnel';
import { describe, expect, it } from 'vitest';
import { explainAltered, explainEcho, explainHandshake, type HandshakeEvidence } from '../src/ping/diagnosis.ts';

function drops(some: Partial<Record<DropReason, number>> = {}): Record<DropReason, number> {
  return { ...(Object.fromEntries(DROP_REASONS.map((reason) => [reason, 0])) as Record<DropReason, number>), ...some };
}

const SILENCE: HandshakeEvidence = {
  endpoint: parseEndpoint('192.0.2.1:51820')!,
  publicKey: 'OWN=',
  cipher: 'chacha20poly1305',
  waitedMs: 10_000,
  cookieReceived: false,
  drops: drops(),
  now: 1_800_000_000_000,
};

describe('explainHandshake', () => {
  it.each([
    ['refused', /192\.0\.2\.1:51820 is reachable, but nothing listens there/],
    ['network-unreachable', /no route leads to/],
    ['host-unreachable', /is unreachable/],
    ['forbidden', /is forbidden on this computer/],
  ] as const)('believes the network when it says %s', (refusal, summary) => {
    expect(explainHandshake({ ...SILENCE, refusal })).toMatchObject({
      failure: refusal,
      summary: expect.stringMatching(summary) as string,
      exitCode: 3,
    });
  });

  it('knows a wrong preshared key by an answer that does not open', () => {
    const { failure, exitCode } = explainHandshake({ ...SILENCE, drops: drops({ 'handshake-failed': 1 }) });
    expect([failure, exitCode]).toEqual(['wrong-preshared-key', 1]);
  });

  it('knows a stranger by what it sends', () => {
    expect(explainHandshake({ ...SILENCE, drops: drops({ malformed: 3 }) }).failure).toBe('not-wireguard');
  });

  it('names everything that silence may mean, our public key among it', () => {
    const { failure, hints } = explainHandshake(SILENCE);
    expect(failure).toBe('no-answer');
    expect(hints).toHaveLength(4);
    expect(hints.join('\n')).toMatch(/PublicKey[^]*OWN=[^]*Cipher = aes256gcm[^]*firewall/);
  });

  it.each([false, true])('suspects its own AES-256-GCM, which no other peer knows (cookie %s)', (cookieReceived) => {
    const { hints } = explainHandshake({ ...SILENCE, cipher: 'aes256gcm', cookieReceived });
    expect(hints[1]).toBe(
      "the server needs 'Cipher = aes256gcm' for us too ('sealaned peer set'), and no WireGuard peer but Sealane knows it",
    );
  });

  it('does not doubt the key of a server that sent a cookie', () => {
    const { hints } = explainHandshake({ ...SILENCE, cookieReceived: true });
    expect(hints[0]).toContain('the server lives and its PublicKey is right');
    expect(hints.join()).not.toContain('may not be the key');
  });

  it('suspects the clock first when it is behind the configuration, not for a minute', () => {
    const behind = explainHandshake({ ...SILENCE, configTime: SILENCE.now + 61_000 });
    expect(behind.hints[0]).toContain("this computer's clock (2027-01-15T08:00:00.000Z) is earlier");
    expect(explainHandshake({ ...SILENCE, configTime: SILENCE.now + 59_000 }).hints).toEqual(
      explainHandshake(SILENCE).hints,
    );
  });
});

describe('what is wrong behind a handshake', () => {
  it('is told apart: nothing, loss, other content', () => {
    expect(explainEcho('10.8.0.1', 0, false)).toMatchObject({ failure: 'no-echo', exitCode: 4 });
    expect(explainEcho('10.8.0.1', 0, true).hints[0]).toContain('packets do come back');
    expect(explainEcho('10.8.0.1', 3, true)).toMatchObject({ failure: 'lost', exitCode: 4 });
    expect(explainAltered('10.8.0.1')).toMatchObject({ failure: 'altered', exitCode: 4 });
  });
});
