/** Bad networks and bad clocks: nothing is delivered twice, nothing throws, nothing stays stuck. */
import { describe, expect, it } from 'vitest';
import type { Node } from '../../../test/sim/node.ts';
import { packetId } from '../../../test/sim/packets.ts';
import { World, outer, seeds, statusOf } from '../../../test/sim/world.ts';
import { nobleCrypto } from '../src/noble.ts';
import { memoised } from './support/lab.ts';
import { DAY, HOUR, JITTER, MINUTE, REJECT_AFTER_TIME, SECOND } from './support/spec.ts';

const quick = memoised(nobleCrypto);

/** Sends a numbered packet every `ms` from one to the other; returns how many were sent so far. */
function stream(world: World, from: Node, to: Node, ms: number): () => number {
  let sent = 0;
  const next = (): void => {
    world.ping(from, to, sent++);
    world.clock.after(ms, next);
  };
  world.clock.after(ms, next);
  return () => sent;
}

/** The numbers that arrived, none of them twice. */
function idsOf(node: Node): number[] {
  const ids = node.delivered.map(({ packet }) => packetId(packet));
  expect(new Set(ids).size).toBe(ids.length);
  return ids;
}

describe('a bad link', () => {
  it.each(seeds(6))(
    'loss of 30 in 100 each way, reordering, duplicates, damage: up within a minute, then only the link loses (seed %i)',
    (seed) => {
      const world = new World({
        seed,
        crypto: quick,
        keyPool: 8,
        link: { delay: 40, jitter: 30, loss: 0.3, duplicate: 0.1, corrupt: 0.01, reorder: 0.25, reorderDelay: 200 },
      });
      world.log.keep = () => false;
      const [a, b] = world.pair();
      const sent = [stream(world, a, b, 300), stream(world, b, a, 300)];
      const up = (): boolean => a.delivered.length > 0 && b.delivered.length > 0;
      expect(world.runUntil(up, MINUTE)).toBe(true);
      world.run(20 * MINUTE);
      for (const [i, node] of [b, a].entries()) {
        const share = idsOf(node).length / sent[i]!();
        expect(share).toBeGreaterThan(0.63);
        expect(share).toBeLessThan(0.75);
      }
      expect(statusOf(a, b).sessions).toBeLessThan(40);
    },
  );

  it('every packet twice: none is delivered twice, all are delivered once', () => {
    const world = new World({ seed: 11, crypto: quick, keyPool: 4, link: { delay: 20, jitter: 15, duplicate: 1 } });
    const [a, b] = world.pair();
    const sent = [stream(world, a, b, 50), stream(world, b, a, 50)];
    world.run(2 * MINUTE);
    expect(sent[0]!() - idsOf(b).length).toBeLessThanOrEqual(2);
    expect(sent[1]!() - idsOf(a).length).toBeLessThanOrEqual(2);
    expect(b.device.status(b.now).drops.replay).toBeGreaterThan(1_000);
  });

  it('a partition of 10 min: traffic flows within 6 s of its end', () => {
    const world = new World({ seed: 12, crypto: quick, keyPool: 4, link: { delay: 20 } });
    const [a, b] = world.pair();
    stream(world, a, b, 100);
    stream(world, b, a, 100);
    world.run(MINUTE);
    world.network.partition('a', 'b');
    world.run(10 * MINUTE);
    world.network.heal();
    const [was, were] = [a.delivered.length, b.delivered.length];
    expect(world.runUntil(() => a.delivered.length > was && b.delivered.length > were, 6 * SECOND)).toBe(true);
  });

  it('a NAT that forgets: the server follows the next packet', () => {
    const world = new World({ seed: 13, crypto: quick, keyPool: 4, link: { delay: 20 } });
    const [a, b] = world.pair();
    world.network.nat('a', Uint8Array.of(198, 51, 100, 7));
    a.configure({ peers: [{ publicKey: b.publicKey, persistentKeepalive: 5 }] });
    world.run(SECOND);
    for (let i = 0; i < 20; i++) {
      world.network.rebind('a');
      world.run(5 * SECOND + 100);
      world.ping(b, a, i);
      world.run(100);
    }
    expect(idsOf(a).length).toBe(20);
    expect(statusOf(b, a).endpoint?.address).toEqual(Uint8Array.of(198, 51, 100, 7));
    expect(b.eventsOf('roamed').length).toBeGreaterThanOrEqual(20);
  });

  it('a hub and ten spokes that talk while spokes move', () => {
    const world = new World({ seed: 14, crypto: quick, keyPool: 4, link: { delay: 30, jitter: 20, loss: 0.05 } });
    world.log.keep = () => false;
    const hub = world.add('hub');
    const spokes = Array.from({ length: 10 }, (_, i) => world.add(`s${i}`));
    for (const spoke of spokes) {
      world.connect(spoke, hub);
      stream(world, spoke, hub, 2_000);
      stream(world, hub, spoke, 2_000);
    }
    const churn = world.random.fork('churn');
    for (let i = 0; i < 40; i++) {
      world.run(20 * SECOND);
      spokes[churn.below(10)]!.move([outer(20 + churn.below(60), 1 + churn.below(60_000))]);
    }
    for (const spoke of spokes) expect(spoke.delivered.length).toBeGreaterThan(320);
    expect(hub.delivered.length).toBeGreaterThan(3_500);
  });
});

describe('clocks', () => {
  it.each([-1, -10, -1_000, -60_000, -HOUR, -DAY])(
    'a monotonic clock that steps by %i ms: no exception, no timer stuck',
    (step) => {
      const world = new World({ seed: 20, crypto: quick, keyPool: 4, link: { delay: 10 } });
      const [a, b] = world.pair();
      stream(world, a, b, 500);
      stream(world, b, a, 500);
      world.run(30 * SECOND);
      for (let i = 0; i < 5; i++) {
        a.step({ monotonicMs: step });
        const [was, were] = [a.delivered.length, b.delivered.length];
        world.run(10 * SECOND);
        expect(a.delivered.length - was).toBeGreaterThanOrEqual(10);
        expect(b.delivered.length - were).toBeGreaterThanOrEqual(10);
      }
      // Timers still run: the session is renewed, and a dead peer is noticed in time.
      const sessions = statusOf(a, b).sessions;
      world.run(5 * MINUTE);
      expect(statusOf(a, b).sessions).toBeGreaterThanOrEqual(sessions + 2);
      expect(statusOf(a, b).sessions).toBeLessThanOrEqual(sessions + 3);
      world.network.partition('a', 'b');
      const before = world.log.count('a', 'initiation');
      world.run(20 * SECOND);
      expect(world.log.count('a', 'initiation')).toBeGreaterThan(before);
    },
  );

  it.each([-HOUR, -1])('a step of %i ms back in every state: waiting for a response, staged, expired, idle', (step) => {
    const world = new World({ seed: 21, crypto: quick });
    const [a, b] = world.pair();
    world.network.partition('a', 'b');
    world.ping(a, b);
    world.run(SECOND);
    a.step({ monotonicMs: step });
    // A sleep under way ends first; then what remained of the wait begins anew.
    world.run(2 * (5 * SECOND + JITTER));
    expect(world.log.count('a', 'initiation')).toBeGreaterThanOrEqual(2);
    world.network.heal();
    world.run(6 * SECOND);
    expect(b.delivered.length).toBe(1);
    a.step({ monotonicMs: step });
    b.step({ monotonicMs: step });
    world.run(2 * REJECT_AFTER_TIME);
    expect(statusOf(a, b).session).toBeUndefined();
    a.step({ monotonicMs: step });
    world.ping(a, b);
    world.run(SECOND);
    expect(b.delivered.length).toBe(2);
    a.step({ monotonicMs: step });
    expect(a.device.tick(a.now, a.unixMs)).toEqual({ datagrams: [], events: [] });
    world.run(DAY);
    expect(a.eventsOf('expired').length).toBe(1);
  });

  it.each([SECOND, HOUR, 8 * HOUR])('a sleep of %i ms that the clock sees: usable again at once', (slept) => {
    const world = new World({ seed: 22, crypto: quick, link: { delay: 10 } });
    const [a, b] = world.pair();
    world.ping(a, b);
    world.run(10 * SECOND);
    a.step({ monotonicMs: slept, wallMs: slept });
    const were = b.delivered.length;
    world.ping(a, b);
    expect(world.runUntil(() => b.delivered.length > were, 6 * SECOND)).toBe(true);
  });

  it('a sleep of 8 h that the monotonic clock does not see: usable again within 16 s of traffic', () => {
    const world = new World({ seed: 23, crypto: quick, link: { delay: 10 } });
    const [a, b] = world.pair();
    world.ping(a, b);
    world.run(10 * SECOND);
    // For a no time passes, for b eight hours do.
    a.step({ monotonicMs: -8 * HOUR });
    b.step({ monotonicMs: 8 * HOUR });
    world.run(SECOND);
    const were = b.delivered.length;
    stream(world, a, b, 500);
    expect(world.runUntil(() => b.delivered.length > were, 16 * SECOND)).toBe(true);
  });

  it.each([SECOND, -SECOND, HOUR, -HOUR, 10 * 365 * DAY, -10 * 365 * DAY])(
    'a wall clock that steps by %i ms does not keep a peer from renewing',
    (wallMs) => {
      const world = new World({ seed: 24, crypto: quick, keyPool: 4 });
      const [a, b] = world.pair();
      world.ping(a, b);
      world.run(10 * SECOND);
      a.step({ wallMs });
      a.rekey();
      world.run(SECOND);
      expect(statusOf(b, a).sessions).toBe(2);
      a.step({ wallMs: -2 * wallMs });
      world.run(10 * SECOND);
      a.rekey();
      world.run(SECOND);
      expect(statusOf(b, a).sessions).toBe(3);
    },
  );
});
