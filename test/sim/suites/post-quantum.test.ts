/** A day of renewals over a bad link, with either side restarting at any moment: traffic never waits for the exchange. */
import { describe } from 'vitest';
import type { Node } from '../node.ts';
import { isLongRun, require, simulate } from '../suite.ts';
import { toyCrypto } from '../toy-crypto.ts';
import { peerOf, statusOf, World } from '../world.ts';

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const HOURS = isLongRun ? 24 : 3;
const GAP = 5 * SECOND;

describe('post-quantum exchange', () => {
  simulate({
    goal: 'PQ',
    title: `${HOURS} h, up to 10 % loss, a restart every two hours: never dark for longer than handshakes take, hedged in the end`,
    seeds: 6,
    worst: 'darkSeconds',
    run(seed) {
      const world = new World({ seed, crypto: toyCrypto });
      const random = world.random.fork('post-quantum');
      const loss = random.between(0, 0.1);
      const link = { delay: random.between(1, 200), jitter: random.between(0, 100), duplicate: 0.02, reorder: 0.02 };
      world.network.link = { ...world.network.link, ...link, loss, reorderDelay: 300 };
      world.log.keep = () => false;
      const both = { postQuantum: Math.round(random.between(10 * MINUTE, HOUR)) };
      const [a, b] = world.pair(both);
      const newest = new Map<Node, number>([
        [a, 0],
        [b, 0],
      ]);
      for (const node of [a, b]) node.onPacket = () => (newest.set(node, world.clock.now), true);

      let [dark, samples, hedged, restarts, id] = [0, 0, 0, 0, 0];
      let nextRestart = random.between(0, 4 * HOUR);
      const end = HOURS * HOUR;
      while (world.clock.now < end) {
        if (world.clock.now >= nextRestart) {
          restarts++;
          nextRestart += random.between(0, 4 * HOUR);
          const [node, other] = random.chance(0.5) ? [a, b] : [b, a];
          node.kill();
          world.run(random.between(0, 20 * SECOND));
          node.restart();
          node.configure({ peers: [peerOf(other, both)] });
          for (const each of [a, b]) newest.set(each, world.clock.now);
        }
        if (random.chance(0.002)) (random.chance(0.5) ? a : b).rekey();
        world.ping(a, b, id++);
        world.ping(b, a, id++);
        world.run(GAP);
        samples++;
        if (isHedged(a, b) && isHedged(b, a)) hedged++;
        for (const at of newest.values()) dark = Math.max(dark, world.clock.now - at);
      }
      // Fifteen seconds to find the peer deaf, then a handshake every five, of which a quarter fails.
      require(dark <= 60 * SECOND, `dark for ${dark / SECOND} s`);
      require(hedged / samples >= 0.9, `hedged for ${((100 * hedged) / samples).toFixed(1)} % of the time only`);

      world.network.link = { ...world.network.link, loss: 0, duplicate: 0, reorder: 0 };
      for (let i = 0; i < 60; i++) {
        world.ping(a, b, id++);
        world.ping(b, a, id++);
        world.run(GAP);
      }
      require(isHedged(a, b) && isHedged(b, a), 'not hedged five minutes after the last loss');
      const { exchanges } = statusOf(a, b).postQuantum!;
      return { darkSeconds: dark / SECOND, unhedgedPercent: 100 - (100 * hedged) / samples, restarts, exchanges };
    },
  });
});

function isHedged(node: Node, other: Node): boolean {
  return statusOf(node, other).session?.hedged === true;
}
