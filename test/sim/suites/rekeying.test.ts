/** Days of traffic with a renewal every two minutes, and both sides beginning at once. */
import { describe } from 'vitest';
import { indexTablesOf } from '../../../packages/protocol/test/support/lab.ts';
import { generator } from '../random.ts';
import { steady } from '../steady.ts';
import { isLongRun, require, simulate } from '../suite.ts';
import { toyCrypto } from '../toy-crypto.ts';
import { World } from '../world.ts';

const SECOND = 1_000;
const HOUR = 3_600 * SECOND;
const COLLISIONS = 100;
const HOURS = isLongRun ? 24 : 3;

describe('rekeying', () => {
  simulate({
    goal: 'R4',
    title: `${HOURS} h, 10 packets/s both ways: none lost, twice or out of order, a handshake every 120 s and the way`,
    seeds: 3,
    worst: 'lost',
    run(seed) {
      const random = generator(seed);
      // Every other link is so short that the way does not count.
      const delayMs = seed % 2 === 0 ? random.between(0, 400) : random.between(0, 10);
      const result = steady({ random, crypto: toyCrypto, ms: HOURS * HOUR, gapMs: 100, delayMs });
      const lost = result.sent - result.delivered;
      const handshakes = result.initiations[0] + result.initiations[1];
      require(result.sent > HOURS * 71_000, `only ${result.sent} packets were sent`);
      require(lost === 0, `${lost} packets lost or twice, ${result.drops} dropped`);
      require(result.outOfOrder === 0, `${result.outOfOrder} packets out of order`);
      // A session begins with the answer and is renewed with the first packet after 120 s.
      const least = Math.floor((HOURS * HOUR) / (120 * SECOND + 2 * delayMs + 100));
      require(handshakes >= least && handshakes <= HOURS * 30 + 1, `${handshakes} handshakes, not ${least} and more`);
      require(result.initiations[1] === 0, 'the responder began handshakes');
      return { lost, handshakes };
    },
  });

  simulate({
    goal: 'R12',
    title: `${COLLISIONS} simultaneous initiations a seed: traffic both ways within 6 s, at most 3 indexes left`,
    seeds: 16,
    // Three initiations crossed: one side sent on a session that the other had left.
    always: [70],
    worst: 'msToUse',
    run(seed) {
      const world = new World({ seed, crypto: toyCrypto });
      const random = world.random.fork('collisions');
      world.network.link = { ...world.network.link, delay: random.between(0, 300), jitter: random.between(0, 200) };
      world.log.keep = () => false;
      const [a, b] = world.pair();
      let msToUse = 0;
      const tables = indexTablesOf(() => {
        for (let i = 0; i < COLLISIONS; i++) {
          const [beforeA, beforeB] = [a.delivered.length, b.delivered.length];
          const began = world.clock.now;
          a.rekey();
          world.clock.after(random.chance(0.5) ? 0 : random.between(0, 300), () => void b.rekey());
          const used = (): boolean => a.delivered.length > beforeA && b.delivered.length > beforeB;
          while (!used() && world.clock.now - began < 6 * SECOND) {
            world.ping(a, b, i);
            world.ping(b, a, i);
            world.runUntil(used, 250);
          }
          require(used(), `collision ${i}: no traffic both ways after 6 s`);
          msToUse = Math.max(msToUse, world.clock.now - began);
          world.run(SECOND + random.between(0, 8) * SECOND);
          if (random.chance(0.05)) world.run(200 * SECOND);
        }
      });
      world.run(200 * SECOND);
      const indexes = Math.max(...tables.map(({ size }) => size));
      require(tables.length === 2 && indexes <= 3, `${indexes} indexes in use`);
      return { msToUse, indexes };
    },
  });
});
