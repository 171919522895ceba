/** Links that lose, double, damage and reorder: nothing is delivered twice, and we lose no more than they do. */
import { describe } from 'vitest';
import type { Node } from '../node.ts';
import { ipPacket, packetId } from '../packets.ts';
import { isLongRun, require, simulate } from '../suite.ts';
import { toyCrypto } from '../toy-crypto.ts';
import { World } from '../world.ts';

const SECOND = 1_000;
const HOUR = 3_600 * SECOND;
const HOURS = isLongRun ? 24 : 3;
/** Worlds a seed in the long run, and in an everyday one the first of them. */
const WORLDS = 100;
const CONNECTS = isLongRun ? WORLDS : 20;
const BAD = { delay: 40, jitter: 30, loss: 0.3, duplicate: 0.1, corrupt: 0.01, reorder: 0.25, reorderDelay: 200 };
/** Of those that the link let through: each copy may be damaged, and one datagram in ten has two. */
const INTACT = 1 - (0.9 * 0.01 + 0.1 * 0.01 ** 2);

function quantile(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
}

/** Counts what arrives; fails on what arrives twice. */
function counting(node: Node, size: number): { received: number } {
  const seen = new Uint8Array(size);
  const count = { received: 0 };
  node.onPacket = (packet) => {
    const id = packetId(packet);
    require(seen[id] === 0, `packet ${id} was delivered twice`);
    seen[id] = 1;
    count.received++;
    return true;
  };
  return count;
}

describe('a bad link', () => {
  simulate({
    goal: 'R5',
    title: `${HOURS} h of 30 % loss, reordering, copies, damage: none twice, loss of the link +-0.5 %`,
    seeds: 4,
    worst: 'excessPercent',
    run(seed) {
      const world = new World({ seed, crypto: toyCrypto, link: BAD });
      const [a, b] = world.pair();
      let passed = 0;
      world.log.keep = ({ kind, fate }) => {
        if (kind === 'data' && fate === 'sent') passed++;
        return false;
      };
      const rounds = (HOURS * HOUR) / (20 * SECOND);
      const counts = [counting(a, rounds * 20), counting(b, rounds * 20)];
      let sent = 0;
      for (let round = 0; round < rounds; round++) {
        for (let i = 0; i < 20; i++) {
          world.ping(a, b, round * 20 + i);
          world.ping(b, a, round * 20 + i);
          sent += 2;
          world.run(10);
        }
        world.run(20 * SECOND - 200);
      }
      world.run(5 * SECOND);
      const received = counts.reduce((sum, count) => sum + count.received, 0);
      const excessPercent = Math.abs((100 * (passed * INTACT - received)) / sent);
      require(excessPercent <= 0.5, `lost ${excessPercent.toFixed(2)} % beside what the link lost`);
      require(received / sent > 0.68, `only ${received} of ${sent} arrived`);
      return { excessPercent, deliveredPercent: (100 * received) / sent };
    },
  });

  const connects: number[] = [];
  simulate({
    goal: 'R5',
    title: `${CONNECTS} first handshakes a seed over that link: median <= 6 s, 99.9 % within 60 s`,
    seeds: 50,
    worst: 'slowestMs',
    run(seed) {
      let slowestMs = 0;
      for (let i = 0; i < CONNECTS; i++) {
        const world = new World({ seed: seed * WORLDS + i, crypto: toyCrypto, link: BAD });
        world.log.keep = () => false;
        const [a, b] = world.pair();
        world.ping(a, b);
        const up = world.runUntil(() => b.delivered.length > 0 || a.eventsOf('session').length > 0, 300 * SECOND);
        const ms = up ? world.clock.now : Infinity;
        connects.push(ms);
        slowestMs = Math.max(slowestMs, ms);
      }
      return { slowestMs };
    },
    judge() {
      connects.sort((x, y) => x - y);
      const median = quantile(connects, 0.5);
      require(median <= 6 * SECOND, `half take more than ${median} ms`);
      // 99.9 %, give or take what chance allows in so many tries.
      const slow = connects.filter((ms) => ms > 60 * SECOND).length;
      const expected = connects.length / 1_000;
      require(slow <= expected + 3 * Math.sqrt(expected), `${slow} of ${connects.length} took more than a minute`);
    },
  });

  simulate({
    goal: 'R6',
    title: 'packets that come 8,000 late are all taken, of those that come 8,200 late none is, and no other is lost',
    seeds: 3,
    most: 100,
    worst: 'dropped',
    run(seed) {
      const world = new World({ seed, crypto: toyCrypto });
      const random = world.random.fork('late');
      const [a, b] = world.pair();
      world.ping(a, b);
      world.run(SECOND);
      const captured: Uint8Array[] = [];
      world.network.filter = ({ bytes }) => captured.push(bytes.slice()) < 0;
      world.log.keep = () => false;
      for (let i = 0; i < 30_000; i++) a.send(ipPacket(a.inner, b.inner, i));
      let dropped = 0;
      for (const [depth, from, late] of [
        [8_000, 0, 'deliver'],
        [8_200, 15_000, 'replay'],
      ] as const) {
        const held = new Map<number, Uint8Array>();
        for (let i = from; i < from + 15_000; i++) {
          const due = held.get(i);
          if (due !== undefined) {
            const outcome = b.accept(due, a.endpoint);
            require(outcome === late, `a packet ${depth} late: ${outcome}`);
            if (outcome !== 'deliver') dropped++;
          }
          const datagram = captured[i]!;
          if (i + depth < from + 15_000 && random.chance(0.05)) held.set(i + depth, datagram);
          else require(b.accept(datagram, a.endpoint) === 'deliver', `packet ${i} came in time and was dropped`);
        }
      }
      require(dropped > 100, 'too few came late');
      return { dropped };
    },
  });
});
