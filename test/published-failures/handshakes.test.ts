/** Published failures of other implementations around handshakes, each named by where it happened. */
import { describe, expect, it } from 'vitest';
import { nobleCrypto } from '@sealane/protocol';
import { indexTablesOf, memoised } from '../../packages/protocol/test/support/lab.ts';
import * as paper from '../../packages/protocol/test/support/paper.ts';
import { generator } from '../sim/random.ts';
import { toyCrypto } from '../sim/toy-crypto.ts';
import { World, outer, statusOf } from '../sim/world.ts';

const SECOND = 1_000;
const random = generator(44);
const quick = memoised(nobleCrypto);
/** The long run takes the numbers in full. */
const FULL = process.env['SEALANE_FULL'] !== undefined;
const REPLACED = FULL ? 100_000 : 10_000;
const timeout = FULL ? 3_600_000 : 60_000;

describe('handshakes', { timeout }, () => {
  it('tailscale-rs #334: an invalid response destroyed the pending handshake', () => {
    const world = new World({ seed: 1, crypto: quick });
    const [a, b] = world.pair();
    let held: Uint8Array | undefined;
    world.network.filter = ({ kind, bytes }) => {
      if (kind === 'response') held ??= bytes.slice();
      return kind !== 'response';
    };
    world.ping(a, b, 7);
    world.run(0);
    const ephemerals = Array.from({ length: 4 }, () => random.bytes(32));
    for (let i = 0; i < 1_000; i++) {
      const body = held!.slice(0, 60);
      body.set(ephemerals[i % 4]!, 12);
      a.accept(paper.withMacs(body, a.publicKey), b.endpoint);
      if (i % 16 === 15) world.run(0);
    }
    world.run(0);
    expect(a.device.status(a.now).drops['handshake-failed']).toBe(1_000);
    a.accept(held!, b.endpoint);
    world.run(0);
    expect(b.delivered.length).toBe(1);
    expect(world.log.count('a', 'initiation')).toBe(1);
  });

  it(`tailscale-rs #333: index entries leaked when a handshake was replaced (${REPLACED} of them)`, () => {
    const world = new World({ seed: 2, crypto: toyCrypto });
    const [a] = world.pair();
    world.network.filter = () => false;
    world.log.keep = () => false;
    const tables = indexTablesOf(() => {
      while (world.log.count('a', 'initiation') < REPLACED) {
        a.rekey();
        world.run(20);
      }
    });
    expect(tables.map(({ size }) => size)).toEqual([1]);
  });

  it('tailscale-rs #339: an unanswered handshake was never given up', () => {
    const world = new World({ seed: 3, crypto: quick, keyPool: 4 });
    const [a, b] = world.pair();
    world.network.partition('a', 'b');
    for (let i = 0; i < 200; i++) world.ping(a, b, i);
    world.run(600 * SECOND);
    expect(world.log.count('a', 'initiation')).toBe(20);
    expect(a.eventsOf('unanswered')).toHaveLength(1);
    // 72 were pushed out by newer ones, the 128 that stayed were freed in the end.
    expect(a.device.status(a.now).drops['staging-overflow']).toBe(200);
    world.network.heal();
    world.ping(a, b, 999);
    world.run(SECOND);
    expect(b.delivered.length).toBe(1);
  });

  it('gotatun 0.4.1 (a89bba8): responses were thrown away after 250 ms', () => {
    const world = new World({ seed: 4 });
    const [a, b] = world.pair();
    world.network.setLink('b', 'a', { delay: 4_900 });
    world.ping(a, b);
    world.run(5 * SECOND);
    expect(b.delivered.length).toBe(1);
    expect(world.log.count('a', 'initiation')).toBe(1);
  });

  it('gotatun 0.7.2: a changed preshared key did not reach the running tunnel', () => {
    const world = new World({ seed: 5 });
    const [a, b] = world.pair({ presharedKey: new Uint8Array(32).fill(1) });
    world.ping(a, b);
    world.run(6 * SECOND);
    const presharedKey = new Uint8Array(32).fill(2);
    b.configure({ peers: [{ publicKey: a.publicKey, presharedKey }] });
    world.ping(a, b);
    world.run(SECOND);
    expect(b.delivered.length).toBe(2);
    a.rekey();
    world.run(SECOND);
    expect(a.eventsOf('handshake-refused').map(({ reason }) => reason)).toEqual(['handshake-failed']);
    a.configure({ peers: [{ publicKey: b.publicKey, presharedKey }] });
    a.rekey();
    world.run(SECOND);
    expect(statusOf(b, a).sessions).toBe(2);
  });

  it('CVE-2021-46873: an initiation from the future burnt the key for ever', () => {
    const world = new World({ seed: 6 });
    const [a, b] = world.pair();
    const century = Date.UTC(2100, 0, 1) - a.unixMs;
    a.step({ wallMs: century });
    world.ping(a, b);
    world.run(SECOND);
    expect(statusOf(b, a).sessions).toBe(1);
    a.step({ wallMs: -century });
    a.restart();
    a.configure({
      peers: [{ publicKey: b.publicKey, endpoint: b.endpoint, allowedIps: [{ address: b.inner, length: 32 }] }],
    });
    world.ping(a, b);
    world.run(SECOND);
    expect(b.eventsOf('handshake-refused').map(({ reason }) => reason)).toEqual(['stale-timestamp']);
    // The operator takes the peer away and gives it again; nothing is restarted.
    b.configure({ peers: [{ publicKey: a.publicKey, remove: true }] });
    b.configure({ peers: [{ publicKey: a.publicKey, allowedIps: [{ address: a.inner, length: 32 }] }] });
    world.run(6 * SECOND);
    expect(b.delivered.length).toBe(2);
  });

  it('opnsense #9181, thingino #888: a client whose clock was reset at boot was locked out in silence', () => {
    const world = new World({ seed: 7 });
    const [a, b] = world.pair();
    world.ping(a, b);
    world.run(SECOND);
    const peers = [{ publicKey: b.publicKey, endpoint: b.endpoint, allowedIps: [{ address: b.inner, length: 32 }] }];
    const kept = a.device.timestamp!.slice();
    a.step({ wallMs: -50 * 365 * 86_400_000 });
    a.restart();
    a.configure({ peers });
    world.ping(a, b);
    world.run(SECOND);
    // Without what it kept it is refused, and the server knows and says why.
    expect(b.eventsOf('handshake-refused')).toMatchObject([{ reason: 'stale-timestamp', publicKey: a.publicKey }]);
    a.restart(kept);
    a.configure({ peers });
    world.ping(a, b);
    world.run(SECOND);
    expect(b.delivered.length).toBe(2);
  });

  it('clawpatrol #299: simultaneous initiations left both sides without common keys for hours', () => {
    for (let seed = 1; seed <= REPLACED / 50; seed++) {
      const world = new World({ seed, crypto: toyCrypto });
      const delays = world.random.fork('delays');
      world.network.link = { ...world.network.link, delay: delays.between(0, 300), jitter: delays.between(0, 100) };
      const [a, b] = world.pair();
      a.rekey();
      world.clock.after(delays.between(0, 200), () => void b.rekey());
      world.run(5 * SECOND);
      world.ping(a, b, 1);
      world.ping(b, a, 2);
      world.run(SECOND);
      expect([a.delivered.length, b.delivered.length], `seed ${seed}`).toEqual([1, 1]);
    }
  });

  it('wireguard-go ace50a0, 6ed56ff: private key changes in use, with its own key as peer, ended in deadlock', () => {
    const world = new World({ seed: 8, crypto: toyCrypto });
    const [a, b] = world.pair();
    world.log.keep = () => false;
    const keys = Array.from({ length: 8 }, () => random.bytes(32));
    for (let i = 0; i < REPLACED / 2; i++) {
      const privateKey = keys[i % 8]!;
      const next = keys[(i + 1) % 8]!;
      a.configure({ privateKey, peers: [{ publicKey: toyCrypto.publicKey(next), endpoint: outer(9) }] });
      b.configure({
        peers: [{ publicKey: toyCrypto.publicKey(privateKey), allowedIps: [{ address: a.inner, length: 32 }] }],
      });
      world.ping(a, b, i);
      world.run(1);
      // What was a peer is the own key by now, and no peer any more.
      const own = toyCrypto.publicKey(privateKey).join();
      expect(a.device.status(a.now).peers.some(({ publicKey }) => publicKey.join() === own)).toBe(false);
    }
    a.configure({
      peers: [{ publicKey: b.publicKey, endpoint: b.endpoint, allowedIps: [{ address: b.inner, length: 32 }] }],
    });
    const before = b.delivered.length;
    world.run(30 * SECOND);
    world.ping(a, b, 1);
    world.run(6 * SECOND);
    expect(b.delivered.length).toBeGreaterThan(before);
  });

  it('CVE-2024-28882 (OpenVPN): a client prolonged a session that was being closed', () => {
    const world = new World({ seed: 9 });
    const [a, b] = world.pair();
    world.ping(a, b);
    world.run(SECOND);
    const publicKey = a.publicKey;
    b.configure({ peers: [{ publicKey, remove: true }] });
    const sent = world.log.of({ from: 'b' }).length;
    for (let i = 0; i < 200; i++) {
      world.ping(a, b, i);
      if (i % 20 === 0) a.rekey();
      world.run(SECOND);
    }
    expect(b.delivered.length).toBe(1);
    expect(world.log.of({ from: 'b' }).length).toBe(sent);
    expect(b.device.status(b.now).peers).toEqual([]);
  });

  it('wireguard-go 0.0.20220316: after an address change it was dark for 15 s', () => {
    const world = new World({ seed: 10, link: { delay: 5 } });
    const [a, b] = world.pair();
    b.pinsSource = true;
    world.ping(a, b, 0);
    world.run(SECOND);
    const pinned = statusOf(b, a).endpoint?.source?.address;
    expect(pinned).toEqual(b.endpoint.address);
    // A send that fails with a pinned source forgets it, and the next packet goes out from where it can.
    b.device.forgetSource({ publicKey: a.publicKey, endpoint: undefined });
    expect(statusOf(b, a).endpoint?.source).toBeUndefined();
    b.move([outer(77)]);
    expect(world.ping(b, a, 1)).toBe('send');
    world.run(10);
    expect(a.delivered.length).toBe(1);
    expect(statusOf(a, b).endpoint?.address).toEqual(outer(77).address);
  });
});
