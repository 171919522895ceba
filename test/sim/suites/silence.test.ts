/** What must not be sent, and what must not be kept: strangers, idle peers, floods and the dead. */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { describe } from 'vitest';
import { RateLimiter } from '../../../packages/protocol/src/ratelimiter.ts';
import { isLongRun, require, simulate } from '../suite.ts';
import { toyCrypto } from '../toy-crypto.ts';
import { World, outer } from '../world.ts';

const SECOND = 1_000;
const HOUR = 3_600 * SECOND;
const SOURCES = isLongRun ? 1_000_000 : 300_000;
const DEAD = isLongRun ? 10_000 : 500;

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

function heapUsed(): number {
  collect();
  return process.memoryUsage().heapUsed;
}

describe('silence', () => {
  simulate({
    goal: 'R13',
    title: 'not a byte for 400 datagrams without a valid mac1; idle, nothing for 24 h after the last keepalive',
    seeds: 90,
    worst: 'keepalives',
    run(seed) {
      const world = new World({ seed, crypto: toyCrypto, link: { delay: 10 } });
      const random = world.random.fork('strangers');
      const [a, b] = world.pair();
      const genuine: Uint8Array[] = [];
      world.network.onSend = ({ bytes }) => void genuine.push(bytes.slice());
      const count = 1 + random.below(30);
      for (let i = 0; i < count; i++) {
        world.ping(a, b, i);
        if (random.chance(0.5)) world.ping(b, a, i);
        world.run(random.between(0, 3) * SECOND);
      }
      world.run(30 * SECOND);
      const before = world.log.entries.length;
      for (let i = 0; i < 400; i++) {
        const bytes = random.chance(0.5)
          ? random.bytes(random.below(200))
          : genuine[random.below(genuine.length)]!.slice();
        // Below the macs: whatever else is right about a handshake message, mac1 is not any more.
        if (bytes.length > 0) bytes[random.below(Math.max(1, bytes.length - 16))]! ^= 1 << random.below(8);
        b.accept(bytes, outer(300 + random.below(50)));
        if (random.chance(0.1)) world.run(random.between(0, 100));
      }
      world.run(SECOND);
      const answers = world.log.entries.slice(before).filter(({ from }) => from === 'b').length;
      require(answers === 0, `${answers} datagrams answered strangers`);
      world.run(30 * SECOND);
      const quiet = world.log.entries.length;
      world.run(24 * HOUR);
      require(world.log.entries.length === quiet, 'an idle tunnel spoke');
      return { keepalives: world.log.count('a', 'keepalive') + world.log.count('b', 'keepalive') };
    },
  });

  simulate({
    goal: 'S6',
    title: `a limiter asked by ${SOURCES} sources: <= 65,536 entries, <= 16 MiB, fails closed, empty 2 s later`,
    seeds: 1,
    most: 3,
    worst: 'bytes',
    run(seed) {
      let most = 0;
      for (const [family, change] of [
        ['IPv4', (address: Uint8Array, i: number): void => new DataView(address.buffer).setUint32(0, i)],
        ['IPv6 in one /64', (address: Uint8Array, i: number): void => new DataView(address.buffer).setUint32(12, i)],
        ['IPv6 of many /64', (address: Uint8Array, i: number): void => new DataView(address.buffer).setUint32(4, i)],
      ] as const) {
        const limiter = new RateLimiter();
        const address = new Uint8Array(family === 'IPv4' ? 4 : 16);
        const before = heapUsed();
        let now = seed * 1_000;
        let allowed = 0;
        for (let i = 0; i < SOURCES; i++) {
          change(address, Math.imul(i + 1, 0x9e3779b1));
          if (limiter.allow(address, now)) allowed++;
          now += 0.0005;
          require(limiter.size <= 65_536, `${family}: ${limiter.size} entries`);
        }
        const bytes = heapUsed() - before;
        most = Math.max(most, bytes);
        require(bytes <= 16 * 2 ** 20, `${family}: ${bytes} bytes`);
        const expected = family === 'IPv6 in one /64' ? 5 + 20 : 65_536;
        require(allowed <= expected, `${family}: ${allowed} were let through`);
        limiter.sweep(now + 2 * SECOND);
        require(limiter.size === 0, `${family}: ${limiter.size} entries are left`);
      }
      return { bytes: most };
    },
  });

  simulate({
    goal: 'S17',
    title: `${DEAD} dead peers with keepalive 25: at most 20 initiations a burst each`,
    seeds: 1,
    most: 1,
    worst: 'initiationsPerPeerAndHour',
    run(seed) {
      const world = new World({ seed, crypto: toyCrypto });
      const a = world.add('a');
      world.log.keep = () => false;
      const peers = Array.from({ length: DEAD }, (_, i) => ({
        publicKey: toyCrypto.publicKey(world.random.bytes(32)),
        endpoint: outer(256 + i, 1 + (i % 60_000)),
        persistentKeepalive: 25,
      }));
      const inBurst = new Map<string, number>();
      a.configure({ peers });
      const minutes = isLongRun ? 4 : 8;
      for (let second = 0; second < minutes * 60; second++) world.run(SECOND);
      const initiations = world.log.count('a', 'initiation');
      for (const { initiations: made, publicKey } of a.eventsOf('unanswered')) {
        require(made <= 20, `a burst of ${made} initiations`);
        inBurst.set(publicKey.join(), (inBurst.get(publicKey.join()) ?? 0) + made);
      }
      require(inBurst.size === DEAD, `only ${inBurst.size} peers were given up`);
      const finished = [...inBurst.values()].reduce((sum, made) => sum + made, 0);
      // What is not in a finished burst is in the one under way.
      require(initiations - finished <= 20 * DEAD, `${initiations - finished} initiations in bursts under way`);
      return { initiationsPerPeerAndHour: (initiations / DEAD / minutes) * 60 };
    },
  });
});
