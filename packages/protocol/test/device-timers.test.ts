/** Paper section 6: every timer, at its millisecond, on hosts whose clocks jump from one announced deadline to the next. */
import { describe, expect, it } from 'vitest';
import type { Node } from '../../../test/sim/node.ts';
import { World, statusOf } from '../../../test/sim/world.ts';
import { toyCrypto } from '../../../test/sim/toy-crypto.ts';
import {
  DAY,
  DEAF_TIMEOUT,
  HOUR,
  INITIATIONS_IN_ALL,
  JITTER,
  KEEPALIVE_TIMEOUT,
  MINUTE,
  REJECT_AFTER_TIME,
  REKEY_AFTER_TIME,
  REKEY_TIMEOUT,
  RENEW_ON_RECEIVE,
  SECOND,
  STAGED_PACKETS,
  ZERO_KEYS_AFTER,
} from './support/spec.ts';

function timesOf(world: World, from: string, kind: 'initiation' | 'response' | 'keepalive' | 'data'): number[] {
  return world.log.of({ from, kind }).map(({ at }) => at);
}

/** A session of `a` (initiator) and `b` that began at 0 with one packet of `a`. */
function paired(seed: number): readonly [World, Node, Node] {
  const world = new World({ seed, crypto: toyCrypto });
  const [a, b] = world.pair();
  world.ping(a, b);
  world.run(0);
  expect(b.delivered.length).toBe(1);
  return [world, a, b];
}

const handshakes = ({ kind }: { readonly kind: string }): boolean => kind !== 'initiation' && kind !== 'response';

describe('keepalive', () => {
  it('goes out 10 s after data came with nothing sent back; then silence for 24 h', () => {
    const [world] = paired(1);
    world.run(DAY);
    expect(world.log.entries.map((e) => `${e.from} ${e.kind} @${e.at}`)).toEqual([
      'a initiation @0',
      'b response @0',
      'a data @0',
      `b keepalive @${KEEPALIVE_TIMEOUT}`,
    ]);
  });

  it('after a question and an answer: one from the asker at most, then silence for 24 h', () => {
    const [world, a, b] = paired(2);
    world.run(100);
    world.ping(b, a);
    world.run(DAY);
    expect(timesOf(world, 'a', 'keepalive')).toEqual([100 + KEEPALIVE_TIMEOUT]);
    expect(timesOf(world, 'b', 'keepalive')).toEqual([]);
    expect(world.log.entries.length).toBe(5);
  });

  it('is not needed by who sends within 10 s, at the last moment too', () => {
    const [world, a, b] = paired(3);
    world.run(KEEPALIVE_TIMEOUT - 1);
    world.ping(b, a);
    world.run(DAY);
    expect(timesOf(world, 'b', 'keepalive')).toEqual([]);
  });

  it('is followed by one more if data came meanwhile, and by no third', () => {
    const [world, a, b] = paired(4);
    world.run(4 * SECOND);
    world.ping(a, b);
    world.run(SECOND);
    world.ping(a, b);
    world.run(DAY);
    expect(timesOf(world, 'b', 'keepalive')).toEqual([KEEPALIVE_TIMEOUT, 2 * KEEPALIVE_TIMEOUT]);
    expect(timesOf(world, 'a', 'keepalive')).toEqual([]);
  });

  it('is not answered by a keepalive and reaches no packet device', () => {
    const [world, a, b] = paired(5);
    world.run(HOUR);
    expect(world.log.count('b', 'keepalive')).toBe(1);
    expect([a.delivered.length, b.delivered.length]).toEqual([0, 1]);
  });
});

describe('persistent keepalive', () => {
  it('begins a session by itself and then goes out every 25 s, from one side only', () => {
    const world = new World({ seed: 10, crypto: toyCrypto });
    const [a, b] = world.pair();
    a.configure({ peers: [{ publicKey: b.publicKey, persistentKeepalive: 25 }] });
    world.run(100 * SECOND);
    expect(timesOf(world, 'a', 'initiation')).toEqual([0]);
    expect(timesOf(world, 'a', 'keepalive')).toEqual([0, 25_000, 50_000, 75_000, 100_000]);
    expect(world.log.of({ from: 'b' }).map(({ kind }) => kind)).toEqual(['response']);
    a.configure({ peers: [{ publicKey: b.publicKey, persistentKeepalive: 0 }] });
    world.run(HOUR);
    expect(timesOf(world, 'a', 'keepalive').length).toBe(5);
  });

  it('waits anew after every authenticated packet in or out', () => {
    const [world, a, b] = paired(11);
    a.configure({ peers: [{ publicKey: b.publicKey, persistentKeepalive: 8 }] });
    world.run(0);
    const start = timesOf(world, 'a', 'keepalive').length;
    for (let i = 0; i < 5; i++) {
      world.run(7 * SECOND);
      world.ping(i % 2 === 0 ? a : b, i % 2 === 0 ? b : a);
    }
    world.run(0);
    expect(timesOf(world, 'a', 'keepalive').length).toBe(start);
    world.run(8 * SECOND - 1);
    expect(timesOf(world, 'a', 'keepalive').length).toBe(start);
    world.run(1);
    expect(timesOf(world, 'a', 'keepalive').length).toBe(start + 1);
  });

  it('keeps a NAT with a timeout of 2 s open', () => {
    const world = new World({ seed: 12, crypto: toyCrypto, keyPool: 3, link: { delay: 20 } });
    world.log.keep = ({ kind }) => kind === 'initiation';
    const [a, b] = world.pair();
    world.network.nat('a', Uint8Array.of(198, 51, 100, 1), 2 * SECOND);
    a.configure({ peers: [{ publicKey: b.publicKey, persistentKeepalive: 1 }] });
    for (let count = 1; count <= 12; count++) {
      world.run(5 * MINUTE);
      world.ping(b, a, count);
      world.run(100);
      expect(a.delivered.length).toBe(count);
    }
    expect(world.log.count('b', 'initiation')).toBe(0);
  });
});

describe('renewal by time', () => {
  it('comes with the first packet that the initiator sends 120 s into the session', () => {
    const [world, a, b] = paired(20);
    world.run(REKEY_AFTER_TIME - 0.5);
    world.ping(a, b);
    world.run(0.4);
    expect(timesOf(world, 'a', 'initiation')).toEqual([0]);
    world.run(0.1);
    expect(world.ping(a, b)).toBe('send');
    world.run(0);
    expect(timesOf(world, 'a', 'initiation')).toEqual([0, REKEY_AFTER_TIME]);
    expect(b.delivered.length).toBe(3);
    expect(statusOf(a, b).sessions).toBe(2);
  });

  it('is never begun by the responder, however much it sends', () => {
    const [world, a, b] = paired(21);
    world.network.filter = ({ from, kind }) => from === 'b' || kind !== 'initiation';
    for (let at = 0; at < REJECT_AFTER_TIME - SECOND; at += SECOND) {
      world.run(SECOND);
      world.ping(b, a);
      world.ping(a, b);
    }
    expect(timesOf(world, 'b', 'initiation')).toEqual([]);
    expect(timesOf(world, 'a', 'initiation').length).toBeGreaterThan(1);
  });

  it('comes with the first packet that the initiator receives 165 s into the session, once', () => {
    for (const [at, expected] of [
      [RENEW_ON_RECEIVE - 1, [0]],
      [RENEW_ON_RECEIVE, [0, RENEW_ON_RECEIVE]],
    ] as const) {
      const [world, a, b] = paired(22);
      world.network.filter = ({ kind, at: when }) => when === 0 || kind !== 'initiation';
      world.run(at);
      world.ping(b, a);
      world.run(REKEY_TIMEOUT - 1);
      expect(timesOf(world, 'a', 'initiation')).toEqual(expected);
    }
  });

  it('in an hour of traffic both ways makes 30 handshakes, all by one side', () => {
    const world = new World({ seed: 23, crypto: toyCrypto, keyPool: 3, link: { delay: 30 } });
    const [a, b] = world.pair();
    world.log.keep = ({ kind }) => kind === 'initiation';
    let id = 0;
    world.ping(a, b, id++);
    for (let at = 0; at < HOUR; at += 500) {
      world.run(500);
      world.ping(a, b, id);
      world.ping(b, a, id++);
    }
    world.run(SECOND);
    const made = world.log.count('a', 'initiation');
    expect(made).toBeGreaterThanOrEqual(29);
    expect(made).toBeLessThanOrEqual(31);
    expect(world.log.count('b', 'initiation')).toBe(0);
    expect(b.delivered.length).toBe(id);
    expect(a.delivered.length).toBe(id - 1);
  });

  it('of a side that only receives comes in time: no packet is lost in an hour', () => {
    const world = new World({ seed: 24, crypto: toyCrypto, keyPool: 3, link: { delay: 30 } });
    const [a, b] = world.pair();
    a.rekey();
    world.run(SECOND);
    for (let i = 0; i < 3_600; i++) {
      world.ping(b, a, i);
      world.run(SECOND);
    }
    expect(a.delivered.length).toBe(3_600);
    expect(world.log.count('b', 'initiation')).toBe(0);
    expect(world.log.count('a', 'initiation')).toBeLessThanOrEqual(31);
  });

  it('comes as early as the operator asks the initiator to, and only there', () => {
    const world = new World({ seed: 25, crypto: toyCrypto, keyPool: 3 });
    const [a, b] = world.pair();
    a.configure({ peers: [{ publicKey: b.publicKey, rekeyInterval: 10_000 }] });
    a.rekey();
    world.run(0);
    for (let i = 0; i < 610; i++) {
      world.ping(a, b, i);
      world.ping(b, a, i);
      world.run(100);
    }
    expect(timesOf(world, 'a', 'initiation')).toEqual([0, 10_000, 20_000, 30_000, 40_000, 50_000, 60_000]);
    expect(timesOf(world, 'b', 'initiation')).toEqual([]);
    expect(b.delivered.length).toBe(610);
    expect(statusOf(a, b)).toMatchObject({ sessions: 7, rekeyInterval: 10_000 });
  });

  it('asked of the responder changes nothing', () => {
    const world = new World({ seed: 26, crypto: toyCrypto, keyPool: 3 });
    const [a, b] = world.pair();
    b.configure({ peers: [{ publicKey: a.publicKey, rekeyInterval: 10_000 }] });
    world.ping(a, b);
    for (let i = 0; i < 110; i++) {
      world.run(SECOND);
      world.ping(b, a, i);
    }
    expect([...timesOf(world, 'a', 'initiation'), ...timesOf(world, 'b', 'initiation')]).toEqual([0]);
  });
});

describe('expiry', () => {
  it('at 180.000 s nothing is sent or accepted any more; a millisecond before, both', () => {
    const [world, a, b] = paired(30);
    let sealedInTime: Uint8Array | undefined;
    world.network.filter = (datagram) => {
      if (datagram.kind === 'data' && datagram.bytes.length === 112) sealedInTime = datagram.bytes.slice();
      return handshakes(datagram) && datagram.bytes.length !== 112;
    };
    world.run(REJECT_AFTER_TIME - 1);
    expect(world.ping(a, b, 1)).toBe('send');
    expect(world.ping(b, a, 1)).toBe('send');
    expect(world.ping(a, b, 2, 70)).toBe('send');
    world.run(0);
    expect([a.delivered.length, b.delivered.length]).toEqual([1, 2]);
    world.run(1);
    expect(world.ping(a, b, 3)).toBe('consumed');
    expect(world.ping(b, a, 3)).toBe('consumed');
    expect(['expired-session', 'unknown-index']).toContain(b.accept(sealedInTime!, a.endpoint));
    world.run(MINUTE);
    expect([a.delivered.length, b.delivered.length]).toEqual([1, 2]);
    expect(timesOf(world, 'a', 'data').filter((at) => at >= REJECT_AFTER_TIME)).toEqual([]);
    expect(timesOf(world, 'b', 'data').filter((at) => at >= REJECT_AFTER_TIME)).toEqual([]);
    expect(statusOf(a, b).session).toBeUndefined();
  });

  it('erases all keys 540 s after the last new session', () => {
    const [world, a, b] = paired(31);
    world.run(60 * SECOND);
    a.rekey();
    world.run(ZERO_KEYS_AFTER - 1);
    expect([...a.eventsOf('expired'), ...b.eventsOf('expired')]).toEqual([]);
    world.run(1);
    expect(a.eventsOf('expired')).toEqual([{ type: 'expired', publicKey: b.publicKey, at: 60_000 + ZERO_KEYS_AFTER }]);
    expect(b.eventsOf('expired')).toMatchObject([{ at: 60_000 + ZERO_KEYS_AFTER }]);
    expect(a.device.nextDeadline().at).toBe(Infinity);
    expect(b.device.nextDeadline().at).toBe(Infinity);
    world.ping(b, a);
    world.run(0);
    expect(a.delivered.length).toBe(1);
  });
});

describe('a peer that does not answer', () => {
  it('gets 20 initiations, 5 s + 0 to 333 ms apart; what was staged is freed; then silence', () => {
    const world = new World({ seed: 40, crypto: toyCrypto });
    const [a, b] = world.pair();
    world.network.partition('a', 'b');
    for (let i = 0; i < 10; i++) world.ping(a, b, i);
    world.run(DAY);
    const times = timesOf(world, 'a', 'initiation');
    expect(times.length).toBe(INITIATIONS_IN_ALL);
    const waits = times.slice(1).map((at, i) => at - times[i]! - REKEY_TIMEOUT);
    for (const wait of waits) {
      expect(wait).toBeGreaterThanOrEqual(0);
      expect(wait).toBeLessThanOrEqual(JITTER);
    }
    expect(new Set(waits).size).toBeGreaterThan(10);
    const [unanswered, ...more] = a.eventsOf('unanswered');
    expect(more).toEqual([]);
    expect(unanswered).toMatchObject({ publicKey: b.publicKey, initiations: INITIATIONS_IN_ALL });
    expect(unanswered!.at - times.at(-1)!).toBeGreaterThanOrEqual(REKEY_TIMEOUT);
    expect(unanswered!.at - times.at(-1)!).toBeLessThanOrEqual(REKEY_TIMEOUT + JITTER);
    expect(a.device.status(a.now).drops['staging-overflow']).toBe(10);
    expect(a.eventsOf('expired')).toMatchObject([{ at: unanswered!.at + ZERO_KEYS_AFTER }]);
    world.network.heal();
    world.ping(a, b, 99);
    world.run(SECOND);
    expect(b.delivered.length).toBe(1);
  });

  it('is tried no faster while traffic goes on for an hour', () => {
    const world = new World({ seed: 41, crypto: toyCrypto, keyPool: 3 });
    const [a, b] = world.pair();
    world.network.partition('a', 'b');
    for (let i = 0; i < 3_600; i++) {
      world.ping(a, b, i);
      world.run(SECOND);
    }
    const times = timesOf(world, 'a', 'initiation');
    for (let i = 1; i < times.length; i++) expect(times[i]! - times[i - 1]!).toBeGreaterThanOrEqual(REKEY_TIMEOUT);
    expect(times.length).toBeGreaterThan(500);
  });

  it('with persistent keepalive gets at most 20 a burst, and the next burst with the next keepalive', () => {
    const world = new World({ seed: 42, crypto: toyCrypto, keyPool: 3 });
    const [a, b] = world.pair();
    world.network.partition('a', 'b');
    a.configure({ peers: [{ publicKey: b.publicKey, persistentKeepalive: 25 }] });
    world.run(HOUR);
    const gaveUp = a.eventsOf('unanswered');
    expect(gaveUp.length).toBeGreaterThan(20);
    expect(gaveUp.every(({ initiations }) => initiations === INITIATIONS_IN_ALL)).toBe(true);
    const times = timesOf(world, 'a', 'initiation');
    for (let i = 1; i < times.length; i++) expect(times[i]! - times[i - 1]!).toBeGreaterThanOrEqual(REKEY_TIMEOUT);
  });

  it('leaves 128 packets waiting, the newest ones, in order', () => {
    const world = new World({ seed: 43, crypto: toyCrypto });
    const [a, b] = world.pair();
    world.network.partition('a', 'b');
    for (let i = 0; i < 200; i++) world.ping(a, b, i);
    expect(a.device.status(a.now).drops['staging-overflow']).toBe(200 - STAGED_PACKETS);
    world.network.heal();
    world.run(6 * SECOND);
    expect(b.delivered.map(({ packet }) => packet[23])).toEqual(Array.from({ length: 128 }, (_, i) => i + 72));
  });
});

describe('deafness', () => {
  it('after 15 s + jitter without an authentic answer to data a handshake begins', () => {
    const [world, a, b] = paired(50);
    world.run(20 * SECOND);
    world.network.cut('b', 'a');
    world.ping(a, b, 1);
    world.run(3 * SECOND);
    world.ping(a, b, 2);
    world.run(DEAF_TIMEOUT);
    const [, second] = timesOf(world, 'a', 'initiation');
    expect(second).toBeGreaterThanOrEqual(20_000 + DEAF_TIMEOUT);
    expect(second).toBeLessThanOrEqual(20_000 + DEAF_TIMEOUT + JITTER);
  });

  it('is over with any authentic packet: a peer that keeps alive is not deaf', () => {
    const [world, a, b] = paired(51);
    for (let i = 0; i < 50; i++) {
      world.run(2 * SECOND);
      world.ping(a, b, i);
    }
    expect(timesOf(world, 'a', 'initiation')).toEqual([0]);
    expect(world.log.count('b', 'keepalive')).toBeGreaterThan(5);
  });

  it('is not suspected after keepalives, which need no answer', () => {
    const world = new World({ seed: 52, crypto: toyCrypto });
    const [a, b] = world.pair({});
    a.configure({ peers: [{ publicKey: b.publicKey, persistentKeepalive: 5 }] });
    world.run(SECOND);
    world.network.cut('b', 'a');
    world.run(100 * SECOND);
    expect(timesOf(world, 'a', 'initiation')).toEqual([0]);
  });

  it('makes it forget the local address that it answered from', () => {
    const [world, a, b] = paired(53);
    a.pinsSource = true;
    world.ping(b, a);
    world.run(SECOND);
    expect(statusOf(a, b).endpoint?.source?.address).toEqual(a.endpoint.address);
    world.network.cut('b', 'a');
    world.ping(a, b);
    world.run(16 * SECOND);
    expect(statusOf(a, b).endpoint?.source).toBeUndefined();
    expect(statusOf(a, b).endpoint?.address).toEqual(b.endpoint.address);
  });

  it('ends when the peer comes back without its sessions: at most 16 s and the way', () => {
    const [world, a, b] = paired(54);
    world.run(MINUTE);
    b.kill();
    world.run(SECOND);
    b.restart();
    b.configure({ peers: [{ publicKey: a.publicKey, allowedIps: [{ address: a.inner, length: 32 }] }] });
    const before = b.delivered.length;
    const start = world.clock.now;
    const ping = (): void => {
      world.ping(a, b);
      world.clock.after(100, ping);
    };
    ping();
    expect(world.runUntil(() => b.delivered.length > before, HOUR)).toBe(true);
    expect(world.clock.now - start).toBeLessThanOrEqual(DEAF_TIMEOUT + JITTER);
  });
});

describe('two sides at once', () => {
  it('a rekey of everything has one session at a time and loses nothing, 10 peers', () => {
    const world = new World({ seed: 60, crypto: toyCrypto, keyPool: 4, link: { delay: 10, jitter: 5 } });
    const hub = world.add('hub');
    const spokes = Array.from({ length: 10 }, (_, i) => world.add(`spoke${i}`));
    for (const spoke of spokes) world.connect(spoke, hub);
    for (const spoke of spokes) world.ping(spoke, hub, 1);
    world.run(SECOND);
    expect(hub.rekey()).toBe(10);
    world.run(SECOND);
    for (const spoke of spokes) {
      world.ping(hub, spoke, 2);
      expect(statusOf(hub, spoke).session?.role).toBe('initiator');
    }
    world.run(SECOND);
    expect(hub.delivered.length).toBe(10);
    for (const spoke of spokes) expect(spoke.delivered.length).toBe(1);
  });
});
