/** Hosts that move, sleep and have their clocks set. */
import { describe } from 'vitest';
import { isAfter } from '@sealane/protocol';
import { ipPacket, packetId } from '../packets.ts';
import { isLongRun, require, simulate } from '../suite.ts';
import { toyCrypto } from '../toy-crypto.ts';
import { World, outer, peerOf } from '../world.ts';

const SECOND = 1_000;
const HOUR = 3_600 * SECOND;
const YEARS = 10 * 365.25 * 24 * HOUR;
/** A move every five seconds. */
const MOVES = isLongRun ? 120 : 30;
const STEPS = [SECOND, -SECOND, HOUR, -HOUR, YEARS, -YEARS];

describe('hosts', () => {
  simulate({
    goal: 'R10',
    title: `a client that moves ${MOVES} times, every 5 s, 10 round trips a second: at most one lost a move`,
    seeds: 25,
    worst: 'lostInAMove',
    run(seed) {
      const world = new World({ seed, crypto: toyCrypto });
      const random = world.random.fork('moves');
      world.network.link = { ...world.network.link, delay: random.between(1, 45) };
      world.log.keep = () => false;
      const [a, b] = world.pair();
      b.onPacket = (packet) => {
        b.send(ipPacket(b.inner, a.inner, packetId(packet)));
        return true;
      };
      const answered = new Set<number>();
      a.onPacket = (packet) => {
        answered.add(packetId(packet));
        return true;
      };
      world.ping(a, b, 0);
      world.run(SECOND);
      let id = 1;
      let lostInAMove = 0;
      for (let move = 0; move < MOVES; move++) {
        const first = id;
        const moveAt = random.between(0, 5 * SECOND);
        world.clock.after(moveAt, () => a.move([outer(100 + random.below(900), 1 + random.below(65_535))]));
        for (let i = 0; i < 50; i++) {
          world.ping(a, b, id++);
          world.run(100);
        }
        let lost = 0;
        for (let n = first; n < id - 1; n++) if (!answered.has(n)) lost++;
        lostInAMove = Math.max(lostInAMove, lost);
      }
      require(lostInAMove <= 1, `${lostInAMove} lost in a move`);
      return { lostInAMove };
    },
  });

  simulate({
    goal: 'R11',
    title: 'wall clock steps of 1 s, 1 h, 10 y, suspends of 8 h, restarts: usable <= 6 s later, no timestamp twice',
    seeds: 120,
    worst: 'msToUse',
    run(seed) {
      const world = new World({ seed, crypto: toyCrypto, link: { delay: 20 } });
      const random = world.random.fork('clocks');
      world.log.keep = () => false;
      const [a, b] = world.pair();
      const nodes = [a, b] as const;
      const highest: (Uint8Array | undefined)[] = [undefined, undefined];
      let initiations = 0;
      world.network.onSend = ({ kind, from }) => {
        if (kind !== 'initiation') return;
        initiations++;
        const i = from === 'a' ? 0 : 1;
        const timestamp = nodes[i].device.timestamp!;
        const before = highest[i];
        require(before === undefined || isAfter(timestamp, before), `${from} used a timestamp again or went back`);
        highest[i] = timestamp.slice();
      };
      world.ping(a, b);
      world.run(SECOND);
      let msToUse = 0;
      // A server speaks when it is spoken to: then only who slept can find out.
      let server = b;
      for (const node of nodes) {
        node.onPacket = () => {
          if (node === server) world.ping(node, node === a ? b : a);
        };
      }
      for (let round = 0; round < 30; round++) {
        const node = nodes[random.below(2)]!;
        const other = node === a ? b : a;
        server = other;
        const event = random.below(STEPS.length + 2);
        if (event < STEPS.length) {
          node.step({ wallMs: STEPS[event]! });
        } else if (event === STEPS.length) {
          // The host sleeps: its monotonic clock stands still while the rest of the world, and the wall clock, go on.
          other.step({ monotonicMs: 8 * HOUR, wallMs: 8 * HOUR });
          node.step({ wallMs: 8 * HOUR });
        } else {
          node.kill();
          node.restart(node.device.timestamp);
          node.configure({ peers: [peerOf(other)] });
        }
        const [wereA, wereB] = [a.delivered.length, b.delivered.length];
        const began = world.clock.now;
        const used = (): boolean => a.delivered.length > wereA && b.delivered.length > wereB;
        while (!used() && world.clock.now - began < 6 * SECOND) {
          world.ping(node, other, round);
          world.runUntil(used, 250);
        }
        const what =
          event < STEPS.length ? `a step of ${STEPS[event]} ms` : ['a suspend', 'a restart'][event - STEPS.length];
        require(used(), `round ${round}, ${what} of ${node.name}: not usable after 6 s`);
        msToUse = Math.max(msToUse, world.clock.now - began);
        world.run(random.between(1, 200) * SECOND);
      }
      require(initiations > 10, 'too few handshakes to judge timestamps');
      return { msToUse, initiations };
    },
  });
});
