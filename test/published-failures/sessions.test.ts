/** Published failures of other implementations around sessions, counters and timers, each named by where it happened. */
import { describe, expect, it } from 'vitest';
import { nobleCrypto } from '@sealane/protocol';
import { insideOf, memoised } from '../../packages/protocol/test/support/lab.ts';
import * as paper from '../../packages/protocol/test/support/paper.ts';
import type { Node } from '../sim/node.ts';
import { toyCrypto } from '../sim/toy-crypto.ts';
import { World, peerOf, statusOf } from '../sim/world.ts';
import { ipPacket, packetId } from '../sim/packets.ts';

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
/** The long run takes the numbers in full. */
const PACKETS = process.env['SEALANE_FULL'] === undefined ? 100_000 : 10_000_000;
const LIMIT = 2n ** 64n - 2n ** 13n - 1n;
const quick = memoised(nobleCrypto);

function setCounter(from: Node, to: Node, counter: bigint): void {
  const keypair = insideOf(from, to).keypairs.current!;
  keypair.counterLow = Number(counter & 0xffff_ffffn);
  keypair.counterHigh = Number(counter >> 32n);
}

/** Packets every `ms` both ways. */
function talk(world: World, a: Node, b: Node, ms: number): void {
  world.ping(a, b);
  world.ping(b, a);
  world.clock.after(ms, () => talk(world, a, b, ms));
}

describe('sessions', () => {
  it('tailscale-rs #338, gotatun 0.7.2: Reject-After-Messages was not enforced', () => {
    const world = new World({ seed: 1 });
    const [a, b] = world.pair();
    a.rekey();
    world.run(6 * SECOND);
    setCounter(a, b, LIMIT - 2n);
    world.network.filter = ({ kind }) => kind !== 'initiation';
    expect([world.ping(a, b), world.ping(a, b), world.ping(a, b)]).toEqual(['send', 'send', 'consumed']);
    world.run(SECOND);
    expect(b.delivered.length).toBe(2);
    world.network.filter = () => true;
    world.run(10 * SECOND);
    expect(b.delivered.length).toBe(3);
    expect(paper.counterOf(world.log.of({ from: 'a', kind: 'data' }).at(-1)!.bytes)).toBe(0n);
  });

  it('tailscale-rs #338, gotatun 0.7.2: nor on receiving, however authentic the packet', () => {
    const world = new World({ seed: 2 });
    const b = world.add('b');
    const a = world.add('a');
    b.configure({ peers: [peerOf(a)] });
    const made = paper.initiation({
      staticPrivate: a.privateKey,
      responderPublic: b.publicKey,
      ephemeralPrivate: new Uint8Array(32).fill(5),
      sender: 1,
      timestamp: paper.tai64n(b.unixMs),
    });
    b.accept(made.message, a.endpoint);
    world.run(0);
    const keys = made.finish(world.log.of({ kind: 'response' })[0]!.bytes)!;
    const packet = ipPacket(a.inner, b.inner);
    expect(b.accept(paper.data(keys.send, keys.receiver, LIMIT, packet), a.endpoint)).toBe('expired-session');
    expect(b.accept(paper.data(keys.send, keys.receiver, LIMIT - 1n, packet), a.endpoint)).toBe('deliver');
  });

  it.each([2n ** 31n, 2n ** 32n, 2n ** 53n - 1n, 2n ** 53n, 2n ** 60n])(
    'gotatun 0.4.1, boringtun 0.7.1: the nonce was 32 bits wide (counter %s)',
    (start) => {
      const world = new World({ seed: 3 });
      const [a, b] = world.pair();
      a.rekey();
      world.run(6 * SECOND);
      setCounter(a, b, start - 1n);
      for (let i = 0; i < 3; i++) expect(world.ping(a, b, i)).toBe('send');
      world.network.filter = ({ kind }) => kind !== 'initiation';
      world.run(0);
      const counters = world.log.of({ from: 'a', kind: 'data' }).map(({ bytes }) => paper.counterOf(bytes));
      expect(counters).toEqual([start - 1n, start, start + 1n]);
      expect(b.delivered.length).toBe(3);
    },
  );

  it('tailscale-rs #343: sessions lived past 180 s', () => {
    const world = new World({ seed: 4, link: { delay: 0 } });
    const [a, b] = world.pair();
    world.ping(a, b);
    world.run(0);
    world.network.filter = ({ kind }) => kind === 'data';
    const late = world.log.of({ from: 'a', kind: 'data' });
    expect(late.length).toBe(1);
    world.run(180 * SECOND - 1);
    expect(world.ping(a, b, 1)).toBe('send');
    world.run(0.5);
    expect(b.delivered.length).toBe(2);
    const recorded: Uint8Array[] = [];
    world.network.filter = ({ bytes }) => recorded.push(bytes.slice()) < 0;
    expect(world.ping(a, b, 2)).toBe('send');
    world.run(0.5);
    expect(world.ping(a, b, 3)).toBe('consumed');
    expect(b.accept(recorded[0]!, a.endpoint)).not.toBe('deliver');
  });

  it('tailscale-rs #283: both sides renewed, and only on sending', () => {
    const world = new World({ seed: 5, crypto: quick, keyPool: 4, link: { delay: 15 } });
    const [a, b] = world.pair();
    world.log.keep = ({ kind }) => kind === 'initiation';
    world.ping(a, b);
    world.clock.after(SECOND / 2, () => talk(world, a, b, SECOND / 2));
    world.run(HOUR);
    expect(Math.abs(world.log.count('a', 'initiation') - 30)).toBeLessThanOrEqual(1);
    expect(world.log.count('b', 'initiation')).toBe(0);
  });

  it('tailscale-rs #283: an initiator that only receives renews at 165 s', () => {
    const world = new World({ seed: 6, crypto: quick, keyPool: 4 });
    const [a, b] = world.pair();
    world.ping(a, b);
    world.run(165 * SECOND - 1);
    world.ping(b, a);
    world.run(0);
    expect(statusOf(a, b).sessions).toBe(1);
    world.run(1);
    world.ping(b, a);
    world.run(0);
    expect(statusOf(a, b).sessions).toBe(2);
    expect(world.log.count('b', 'initiation')).toBe(0);
  });

  it('gotatun 0.7.2 (8b593e7): two idle peers exchanged keepalives for ever', () => {
    const world = new World({ seed: 7 });
    const [a, b] = world.pair();
    world.ping(a, b);
    world.run(30 * SECOND);
    expect(world.log.count('a', 'keepalive')).toBe(0);
    expect(world.log.count('b', 'keepalive')).toBe(1);
    const before = world.log.entries.length;
    world.run(24 * HOUR);
    expect(world.log.entries.length).toBe(before);
  });

  it.each([-1, -20, -1_000, -60_000, -HOUR])(
    'boringtun 40c28d2, gotatun 0.3.0: a clock that ran backwards (%i ms) was a panic',
    (monotonicMs) => {
      const world = new World({ seed: 8, crypto: quick, keyPool: 4, link: { delay: 10 } });
      const [a, b] = world.pair();
      talk(world, a, b, SECOND / 2);
      for (let i = 0; i < 10; i++) {
        world.run(20 * SECOND);
        (i % 2 === 0 ? a : b).step({ monotonicMs });
        const [was, were] = [a.delivered.length, b.delivered.length];
        world.run(10 * SECOND);
        expect(a.delivered.length).toBeGreaterThan(was);
        expect(b.delivered.length).toBeGreaterThan(were);
      }
    },
  );

  it('firezone/boringtun #16: both sides with persistent keepalive fought over initiating', () => {
    const world = new World({ seed: 9, crypto: toyCrypto, link: { delay: 20, jitter: 10 } });
    world.log.keep = ({ kind }) => kind === 'initiation';
    const [a, b] = world.pair({ persistentKeepalive: 25 });
    world.run(24 * HOUR);
    const times = world.log.of({ since: 10 * SECOND }).map(({ at }) => at);
    expect(times.length).toBeGreaterThan(500);
    expect(times.length).toBeLessThanOrEqual(720);
    expect(times.slice(1).filter((at, i) => at - times[i]! < 120 * SECOND)).toEqual([]);
    expect(Math.abs(statusOf(a, b).sessions - statusOf(b, a).sessions)).toBeLessThanOrEqual(1);
  });

  it('CVE-2017-7479 (OpenVPN): a peer could drive the packet counter into an assertion', () => {
    const world = new World({ seed: 10 });
    const [a, b] = world.pair();
    a.rekey();
    world.run(6 * SECOND);
    setCounter(a, b, LIMIT - 1n);
    world.network.filter = ({ kind }) => kind !== 'initiation';
    // The peer jumps to the last counter there is, repeats it, and then goes on with old ones.
    for (let i = 0; i < 50; i++) world.ping(a, b, i);
    world.run(0);
    expect(b.delivered.length).toBe(1);
    const last = world.log.of({ from: 'a', kind: 'data' }).at(-1)!.bytes;
    for (let i = 0; i < 50; i++) expect(b.accept(last, a.endpoint)).toBe('replay');
    world.network.filter = () => true;
    expect(world.ping(b, a)).toBe('send');
    world.run(10 * SECOND);
    expect(a.delivered.length).toBe(1);
  });

  it(
    `CVE-2024-26861 (kernel): two workers raced on one receive counter (${PACKETS} packets, all twice)`,
    { timeout: 3_600_000 },
    () => {
      const world = new World({ seed: 11, crypto: toyCrypto, link: { duplicate: 1, jitter: 3 } });
      const [a, b] = world.pair();
      world.log.keep = () => false;
      world.ping(a, b);
      world.run(SECOND);
      const times = new Uint8Array(PACKETS);
      b.onPacket = (packet) => {
        times[packetId(packet)]! += 1;
        return true;
      };
      for (let i = 0; i < PACKETS; i++) {
        world.ping(a, b, i);
        if (i % 10 === 9) world.run(1);
      }
      world.run(SECOND);
      expect(times.every((count) => count === 1)).toBe(true);
      expect(b.device.status(b.now).drops.replay).toBeGreaterThanOrEqual(PACKETS);
    },
  );
});
