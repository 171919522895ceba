/** What a device says of its peers: everything but secrets. */
import { describe, expect, it } from 'vitest';
import type { Node } from '../../../test/sim/node.ts';
import { toyCrypto } from '../../../test/sim/toy-crypto.ts';
import { World, statusOf } from '../../../test/sim/world.ts';
import { REJECT_AFTER_TIME, REKEY_AFTER_TIME, SECOND } from './support/spec.ts';

const PSK = new Uint8Array(32).fill(9);
/** Of the simulation's wall clock. */
const startOf = (node: Node, world: World): number => node.unixMs - world.clock.now;

describe('the status of a peer', () => {
  it('is that of its configuration until there is a session', () => {
    const [a, b] = new World({ seed: 1, crypto: toyCrypto }).pair();
    const status = statusOf(a, b);
    expect(status).toStrictEqual({
      publicKey: b.publicKey,
      hasPresharedKey: false,
      endpoint: b.endpoint,
      allowedIps: [
        { address: b.inner, length: 32 },
        { address: b.inner6, length: 128 },
      ],
      persistentKeepalive: 0,
      rekeyInterval: REKEY_AFTER_TIME,
      cipherSuite: 'chacha20poly1305',
      rxBytes: 0,
      txBytes: 0,
      sessions: 0,
    });
    status.publicKey.fill(0);
    expect(statusOf(a, b).publicKey).toEqual(b.publicKey);
    const stranger = b.publicKey.map((byte) => byte ^ 1);
    a.configure({ replacePeers: true, peers: [{ publicKey: stranger }] });
    expect(Object.keys(a.device.status(a.now).peers[0]!)).not.toContain('endpoint');
  });

  it('tells role, age, renewal and end of its session, from both sides, as long as it is one', () => {
    const world = new World({ seed: 2, crypto: toyCrypto, link: { delay: 25 } });
    const [a, b] = world.pair({ presharedKey: PSK });
    world.ping(a, b, 1, 64);
    world.run(10 * SECOND);
    const [ofA, ofB] = [statusOf(a, b), statusOf(b, a)];
    // The initiator has the session with the response, after a round trip; the responder when it answered.
    const [ageA, ageB] = [10 * SECOND - 50, 10 * SECOND - 25];
    expect(ofA).toMatchObject({ hasPresharedKey: true, sessions: 1, handshakeMs: 50, txBytes: 148 + 96, rxBytes: 92 });
    expect(ofA.lastHandshake).toBe(startOf(a, world) + 50);
    expect(ofA.session).toStrictEqual({
      role: 'initiator',
      ageMs: ageA,
      rekeyInMs: REKEY_AFTER_TIME - ageA,
      expiresInMs: REJECT_AFTER_TIME - ageA,
      hedged: false,
    });
    expect(ofB).toMatchObject({ hasPresharedKey: true, sessions: 1, txBytes: 92, rxBytes: 148 + 96 });
    expect(Object.keys(ofB)).not.toContain('handshakeMs');
    expect(ofB.session).toStrictEqual({
      role: 'responder',
      ageMs: ageB,
      expiresInMs: REJECT_AFTER_TIME - ageB,
      hedged: false,
    });
    world.run(REKEY_AFTER_TIME);
    expect(statusOf(a, b).session?.rekeyInMs).toBe(0);
    // At this very moment, before the tick that erases it.
    const over = a.now + REJECT_AFTER_TIME - ageA - REKEY_AFTER_TIME;
    const sessionAt = (now: number): unknown => a.device.status(now).peers[0]!.session;
    expect(sessionAt(over - 1)).toMatchObject({ expiresInMs: 1 });
    expect(sessionAt(over)).toBeUndefined();
  });

  it('says whether a post-quantum key is in the session', () => {
    const world = new World({ seed: 3, crypto: toyCrypto });
    const [a, b] = world.pair({ postQuantum: 3_600_000 });
    expect(statusOf(a, b).postQuantum).toStrictEqual({ interval: 3_600_000, exchanges: 0 });
    a.rekey();
    world.run(SECOND);
    for (const status of [statusOf(a, b), statusOf(b, a)]) {
      expect([status.session?.hedged, status.postQuantum?.exchanges]).toEqual([true, 1]);
    }
  });
});
