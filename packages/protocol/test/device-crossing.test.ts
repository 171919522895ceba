/** Two handshakes cross and only one of them ends in a session. */
import { describe, expect, it } from 'vitest';
import { World, statusOf } from '../../../test/sim/world.ts';
import { toyCrypto } from '../../../test/sim/toy-crypto.ts';
import { REKEY_AFTER_TIME, SECOND } from './support/spec.ts';

describe('a collision of which one handshake fails', () => {
  it.each([0, 1])('leaves one initiator, who renews at 120 s like any other (response %i lost)', (which) => {
    const world = new World({ seed: 30, crypto: toyCrypto, keyPool: 4, link: { delay: 50 } });
    const [a, b] = world.pair();
    const silent = [a, b][which]!;
    world.network.filter = ({ kind, from, at }) => !(kind === 'response' && from === silent.name && at < SECOND);
    a.rekey();
    b.rekey();
    world.run(SECOND);
    // The one that heard no response learned of the session by its first packet, and is its responder.
    const [initiator, responder] = which === 0 ? [a, b] : [b, a];
    expect([statusOf(initiator, responder).session?.role, statusOf(responder, initiator).session?.role]).toEqual([
      'initiator',
      'responder',
    ]);
    for (let i = 0; i < 300; i++) {
      world.ping(a, b, i);
      world.ping(b, a, i);
      world.run(SECOND / 2);
    }
    const renewals = world.log.of({ kind: 'initiation', since: SECOND });
    expect(renewals.map(({ from }) => from)).toEqual([initiator.name]);
    expect(renewals[0]!.at).toBeGreaterThanOrEqual(REKEY_AFTER_TIME);
    expect(renewals[0]!.at).toBeLessThanOrEqual(REKEY_AFTER_TIME + SECOND);
  });
});
