/** Paper section 5.3 and 5.4.7: under load, cookies both ways, a limit for every source, and peace at rest. */
import { describe, expect, it } from 'vitest';
import type { Node } from '../../../test/sim/node.ts';
import { generator } from '../../../test/sim/random.ts';
import { World, outer, outer6, peerOf, statusOf } from '../../../test/sim/world.ts';
import { PacketBatch } from '../src/batch.ts';
import { Device } from '../src/device.ts';
import { nobleCrypto } from '../src/noble.ts';
import { hex, isZero } from './support/bytes.ts';
import { junkInitiation, memoised } from './support/lab.ts';
import * as paper from './support/paper.ts';
import {
  COOKIE_LIFETIME,
  DAY,
  INITIATIONS_IN_ALL,
  JITTER,
  MINUTE,
  REKEY_TIMEOUT,
  SECOND,
  UNDER_LOAD,
} from './support/spec.ts';

const random = generator(13);
const quick = memoised(nobleCrypto);
const mac2Of = (bytes: Uint8Array): Uint8Array => bytes.subarray(bytes.length - 16);

/** Handshake messages with a valid mac1 and nothing behind it, from as many addresses. */
function flood(node: Node, count: number = UNDER_LOAD + 20): void {
  for (let i = 0; i < count; i++) node.accept(junkInitiation(node.publicKey, random), outer(1000 + i, 9));
}

describe('under load', () => {
  it('is reached with 128 waiting handshakes, not with 127, and lasts a second', () => {
    for (const [count, expected] of [
      [UNDER_LOAD - 1, false],
      [UNDER_LOAD, true],
    ] as const) {
      const world = new World({ seed: 1, crypto: quick });
      const b = world.add('b');
      flood(b, count);
      world.run(0);
      expect(b.device.status(b.now).underLoad).toBe(expected);
      expect(world.log.count('b', 'cookie') > 0).toBe(expected);
      world.run(SECOND - 1);
      expect(b.device.status(b.now).underLoad).toBe(expected);
      world.run(1);
      expect(b.device.status(b.now).underLoad).toBe(false);
    }
  });

  it('the queue takes 1,024 and drops the rest', () => {
    const world = new World({ seed: 2, crypto: quick });
    const b = world.add('b');
    flood(b, 1_500);
    expect(b.device.status(b.now).drops['handshake-queue-full']).toBe(476);
    world.run(0);
    expect(world.log.count('b', 'cookie')).toBe(1_024);
  });

  it('the upper half of the queue is for sources that have nothing waiting: a few cannot fill it', () => {
    const world = new World({ seed: 12, crypto: quick });
    const b = world.add('b');
    const junk = junkInitiation(b.publicKey, random);
    for (let i = 0; i < 4_000; i++) b.accept(junk, outer(1_000 + (i % 200), 1 + i));
    // 512 of anybody, and the first half has all 200 already.
    expect(b.device.status(b.now).drops['handshake-queue-full']).toBe(4_000 - 512);
    // One /64 is one source, whatever its ports and hosts.
    const network = outer6(1);
    for (let i = 0; i < 10; i++) b.accept(junk, outer6(i, 7 + i));
    expect(b.device.status(b.now).drops['handshake-queue-full']).toBe(4_000 - 512 + 9);
    world.run(0);
    expect(world.log.count('b', 'cookie')).toBe(513);
    // What was answered makes room again, for the same sources too.
    b.accept(junk, network);
    b.accept(junk, outer(1_000));
    world.run(0);
    expect(world.log.count('b', 'cookie')).toBe(515);
  });

  it('an honest peer gets in while 200 sources keep the queue as full as they can', () => {
    const world = new World({ seed: 13, crypto: quick, link: { delay: 5 } });
    const [a, b] = world.pair();
    const junk = junkInitiation(b.publicKey, random);
    const keepFull = (): void => {
      for (let i = 0; i < 1_200; i++) b.accept(junk, outer(1_000 + (i % 200), 9));
      world.clock.after(10, keepFull);
    };
    keepFull();
    world.ping(a, b);
    expect(world.runUntil(() => b.delivered.length > 0, SECOND)).toBe(true);
    expect(a.eventsOf('cookie-received').length).toBeLessThanOrEqual(1);
    expect(b.device.status(b.now).drops['handshake-queue-full']).toBeGreaterThan(500);
  });

  it('what has a wrong mac1 neither takes room in the queue nor counts as load', () => {
    const world = new World({ seed: 14, crypto: quick });
    const [a, b] = world.pair();
    for (let i = 0; i < 3_000; i++) {
      const forged = junkInitiation(b.publicKey, random);
      forged[116 + (i % 16)]! ^= 1;
      b.accept(forged, outer(1_000 + i, 9));
    }
    world.ping(a, b);
    world.run(0);
    expect(b.device.status(b.now)).toMatchObject({
      underLoad: false,
      drops: { 'bad-mac1': 3_000, 'cookie-required': 0 },
    });
    expect(b.delivered.length).toBe(1);
    expect(world.log.of({ from: 'b', kind: 'cookie' })).toEqual([]);
  });

  it('cookie replies to nothing that was sent neither take room in the queue nor count as load', () => {
    const world = new World({ seed: 15, crypto: quick });
    const [a, b] = world.pair();
    for (let i = 0; i < 3_000; i++) {
      const reply = random.bytes(64);
      reply.set([3, 0, 0, 0]);
      expect(b.accept(reply, outer(1_000 + i, 9))).toBe('bad-cookie-reply');
    }
    expect(b.device.status(b.now)).toMatchObject({ underLoad: false, drops: { 'bad-cookie-reply': 3_000 } });
    world.ping(a, b);
    world.run(0);
    expect(b.delivered.length).toBe(1);
    expect(world.log.of({ from: 'b', kind: 'cookie' })).toEqual([]);
  });

  it('a responder asks an initiator for proof, which gives it and is served', () => {
    const world = new World({ seed: 3, crypto: quick, link: { delay: 10 } });
    const [a, b] = world.pair();
    const keepLoad = (): void => {
      flood(b);
      world.clock.after(900, keepLoad);
    };
    keepLoad();
    world.ping(a, b);
    const done = world.runUntil(() => b.delivered.length > 0, 6 * SECOND);
    expect(done).toBe(true);
    world.run(0);
    expect(b.device.status(b.now).underLoad).toBe(true);
    const sent = world.log.of({ from: 'a', kind: 'initiation' });
    expect(isZero(mac2Of(sent[0]!.bytes))).toBe(true);
    expect(isZero(mac2Of(sent.at(-1)!.bytes))).toBe(false);
    expect(sent.length).toBe(2);
    expect(a.eventsOf('cookie-received').length).toBe(1);
    const [reply] = world.log.of({ from: 'b', to: 'a', kind: 'cookie' });
    expect(reply!.bytes.length).toBeLessThan(0.7 * 148);
    expect(paper.openCookieReply(reply!.bytes, b.publicKey, sent[0]!.bytes.subarray(116, 132))).toHaveLength(16);
    expect(statusOf(b, a).sessions).toBe(1);
  });

  it('an initiator asks a responder for proof, whose next response has it', () => {
    const world = new World({ seed: 4, crypto: quick, link: { delay: 10 } });
    const [a, b] = world.pair();
    world.network.onSend = ({ kind, from }) => {
      if (kind === 'response' && from === 'b') world.clock.after(5, () => flood(a));
    };
    world.ping(a, b);
    world.run(100);
    expect(world.log.of({ from: 'a', to: 'b', kind: 'cookie' }).length).toBe(1);
    expect(b.eventsOf('cookie-received').length).toBe(1);
    expect(statusOf(a, b).sessions).toBe(0);
    expect(world.runUntil(() => b.delivered.length > 0, 6 * SECOND)).toBe(true);
    const responses = world.log.of({ from: 'b', kind: 'response' });
    expect(responses.map(({ bytes }) => isZero(mac2Of(bytes)))).toEqual([true, false]);
    expect(a.device.status(a.now).underLoad).toBe(true);
  });

  it('a cookie is good for its address and port only, and for 120 s', () => {
    const world = new World({ seed: 5, crypto: quick });
    const b = world.add('b');
    const source = outer(40, 1000);
    const cookieFor = (from: typeof source): Uint8Array => {
      flood(b);
      const junk = junkInitiation(b.publicKey, random);
      b.accept(junk, from);
      world.run(0);
      const reply = world.log.of({ from: 'b', kind: 'cookie' }).at(-1)!;
      expect(reply.destination).toEqual(from);
      return paper.openCookieReply(reply.bytes, b.publicKey, junk.subarray(116, 132))!;
    };
    const cookie = cookieFor(source);
    const judge = (from: typeof source): number => {
      flood(b);
      world.run(0);
      const before = world.log.count('b', 'cookie');
      b.accept(junkInitiation(b.publicKey, random, cookie), from);
      world.run(0);
      return world.log.count('b', 'cookie') - before;
    };
    expect(judge(source)).toBe(0);
    expect(judge(outer(40, 1001))).toBe(1);
    expect(judge(outer(41, 1000))).toBe(1);
    expect(judge(outer6(40, 1000))).toBe(1);
    world.run(COOKIE_LIFETIME - SECOND);
    expect(judge(source)).toBe(0);
    world.run(2 * SECOND);
    expect(judge(source)).toBe(1);
  });

  it('a source that proved its address gets 5 at once and 20 a second', () => {
    const world = new World({ seed: 6, crypto: quick });
    const b = world.add('b');
    const source = outer(40, 1000);
    flood(b);
    const junk = junkInitiation(b.publicKey, random);
    b.accept(junk, source);
    world.run(0);
    const cookie = paper.openCookieReply(
      world.log.of({ from: 'b', kind: 'cookie' }).at(-1)!.bytes,
      b.publicKey,
      junk.subarray(116, 132),
    )!;
    const judged = (): number => b.device.status(b.now).drops['handshake-failed'];
    const start = judged();
    for (let i = 0; i < 50; i++) b.accept(junkInitiation(b.publicKey, random, cookie), source);
    world.run(0);
    expect(judged() - start).toBe(5);
    expect(b.device.status(b.now).drops['rate-limited']).toBe(45);
    for (let ms = 0; ms < 10_000; ms += 10) {
      if (ms % 500 === 0) flood(b);
      b.accept(junkInitiation(b.publicKey, random, cookie), source);
      world.run(10);
    }
    expect(judged() - start).toBeGreaterThanOrEqual(5 + 199);
    expect(judged() - start).toBeLessThanOrEqual(5 + 206);
  });

  it('established sessions do not notice', () => {
    const world = new World({ seed: 7, crypto: quick });
    const [a, b] = world.pair();
    world.ping(a, b);
    world.run(SECOND);
    for (let i = 0; i < 20; i++) {
      flood(b);
      expect(world.ping(a, b)).toBe('send');
      expect(world.ping(b, a)).toBe('send');
      world.run(100);
    }
    expect([a.delivered.length, b.delivered.length]).toEqual([20, 21]);
  });

  it('ends with the flood: a second later an honest peer needs no cookie', () => {
    const world = new World({ seed: 8, crypto: quick });
    const [a, b] = world.pair();
    flood(b, 1_000);
    world.run(SECOND);
    world.ping(a, b);
    world.run(0);
    expect(b.delivered.length).toBe(1);
    expect(world.log.of({ from: 'b', to: 'a', kind: 'cookie' })).toEqual([]);
  });

  it('no reply is longer than 0.70 of what it answers, and none goes to a wrong mac1', () => {
    const world = new World({ seed: 9, crypto: quick });
    const b = world.add('b');
    flood(b);
    for (let i = 0; i < 200; i++) {
      const forged = junkInitiation(b.publicKey, random);
      forged[120]! ^= 1;
      b.accept(forged, outer(2000 + i));
      b.accept(paper.withMacs(random.bytes(60).fill(0, 1, 4).fill(2, 0, 1), b.publicKey), outer(3000 + i));
    }
    world.run(0);
    const replies = world.log.of({ from: 'b' });
    expect(replies.length).toBe(UNDER_LOAD + 20 + 200);
    expect(replies.every(({ bytes }) => bytes.length <= 0.7 * 92)).toBe(true);
    expect(b.device.status(b.now).drops['bad-mac1']).toBe(200);
  });
});

describe('the cookie secret', () => {
  it('is drawn for the first reply and zero after close', () => {
    const drawn: Uint8Array[] = [];
    const device = new Device({
      crypto: quick,
      random(length) {
        const bytes = random.bytes(length);
        drawn.push(bytes);
        return bytes;
      },
    });
    const privateKey = random.bytes(32);
    device.configure({ privateKey }, 0);
    const publicKey = device.status(0).publicKey!;
    const batch = new PacketBatch(new Uint8Array(148 * UNDER_LOAD), UNDER_LOAD);
    for (let i = 0; i < UNDER_LOAD; i++) {
      batch.buffer.set(junkInitiation(publicKey, random), 148 * i);
      batch.push(148 * i, 148, outer(i));
    }
    device.open(batch, 0);
    expect(drawn.filter(({ length }) => length === 32)).toEqual([]);
    device.tick(0, 0);
    const secrets = drawn.filter(({ length }) => length === 32);
    expect(secrets.map((secret) => isZero(secret))).toEqual([false]);
    device.close();
    expect(secrets.map((secret) => isZero(secret))).toEqual([true]);
  });
});

describe('a tick', () => {
  it('judges four handshakes and leaves the others for the next, so that data comes first', () => {
    const device = new Device({ crypto: quick, random: (length) => random.bytes(length) });
    device.configure({ privateKey: random.bytes(32) }, 0);
    const publicKey = device.status(0).publicKey!;
    const batch = new PacketBatch(new Uint8Array(148 * 20), 20);
    for (let i = 0; i < 20; i++) {
      batch.buffer.set(junkInitiation(publicKey, random), 148 * i);
      batch.push(148 * i, 148, outer(i));
    }
    device.open(batch, 0);
    for (let judged = 0; judged <= 20; judged += 4) {
      expect(device.status(0).drops['handshake-failed']).toBe(judged);
      expect(device.nextDeadline().at <= 0).toBe(judged < 20);
      device.tick(0, 0);
    }
  });
});

describe('cookie replies', () => {
  it('that are forged, late, replayed or for another are ignored', () => {
    const world = new World({ seed: 20, crypto: quick });
    const [a, b] = world.pair();
    world.network.filter = () => false;
    a.rekey();
    world.run(0);
    const { bytes: initiation } = world.log.of({ from: 'a' })[0]!;
    const make = (
      mac1: Uint8Array,
      responderPublic = b.publicKey,
      receiver = paper.readU32(initiation, 4),
    ): Uint8Array =>
      paper.cookieReply({ responderPublic, receiver, nonce: random.bytes(24), cookie: random.bytes(16), mac1 });
    const mac1 = initiation.slice(116, 132);
    a.accept(make(random.bytes(16)), b.endpoint);
    a.accept(make(mac1, a.publicKey), b.endpoint);
    a.accept(make(mac1, b.publicKey, 12), b.endpoint);
    const flipped = make(mac1);
    flipped[63]! ^= 1;
    a.accept(flipped, b.endpoint);
    world.run(0);
    expect(a.device.status(a.now).drops['bad-cookie-reply']).toBe(4);
    expect(a.eventsOf('cookie-received')).toEqual([]);
    const good = make(mac1);
    a.accept(good, b.endpoint);
    a.accept(good, b.endpoint);
    a.accept(make(mac1), b.endpoint);
    world.run(0);
    expect(a.eventsOf('cookie-received').length).toBe(1);
    expect(a.device.status(a.now).drops['bad-cookie-reply']).toBe(6);
  });

  it('without end bring one repetition at once and then no more than the usual', () => {
    const world = new World({ seed: 21, crypto: quick, keyPool: 4, link: { delay: 5 } });
    const [a, b] = world.pair();
    b.kill();
    // What answers at b's address does so with a cookie that it never honours.
    world.network.onSend = ({ kind, bytes }) => {
      if (kind !== 'initiation') return;
      const reply = paper.cookieReply({
        responderPublic: b.publicKey,
        receiver: paper.readU32(bytes, 4),
        nonce: random.bytes(24),
        cookie: random.bytes(16),
        mac1: bytes.slice(116, 132),
      });
      world.clock.after(5, () => void a.accept(reply, b.endpoint));
    };
    world.ping(a, b);
    world.run(MINUTE);
    const times = world.log.of({ from: 'a', kind: 'initiation' }).map(({ at }) => at);
    const inWindow = times.map((start) => times.filter((at) => at >= start && at < start + REKEY_TIMEOUT - 50).length);
    expect(Math.max(...inWindow)).toBeLessThanOrEqual(2);
    world.run(DAY);
    expect(a.eventsOf('unanswered').length).toBe(1);
    expect(world.log.count('a', 'initiation')).toBeLessThanOrEqual(INITIATIONS_IN_ALL + 1);
    expect(a.eventsOf('unanswered')[0]!.at).toBeLessThanOrEqual(INITIATIONS_IN_ALL * (REKEY_TIMEOUT + JITTER) + SECOND);
  });
});

describe('a cookie', () => {
  it.each([
    [COOKIE_LIFETIME - 5 * SECOND - 1, true],
    [COOKIE_LIFETIME - 5 * SECOND, false],
  ])('is used %i ms after it came: %s, for the secret behind it may be as old', (age, used) => {
    const world = new World({ seed: 24, crypto: quick });
    const [a, b] = world.pair();
    world.network.filter = () => false;
    a.rekey();
    world.run(0);
    const [first] = world.log.of({ from: 'a' });
    const reply = paper.cookieReply({
      responderPublic: b.publicKey,
      receiver: paper.readU32(first!.bytes, 4),
      nonce: random.bytes(24),
      cookie: random.bytes(16),
      mac1: first!.bytes.slice(116, 132),
    });
    a.accept(reply, b.endpoint);
    world.run(age);
    const before = world.log.count('a', 'initiation');
    a.rekey();
    world.run(0);
    const sent = world.log.of({ from: 'a', kind: 'initiation' });
    expect(sent.length).toBe(before + 1);
    expect(isZero(mac2Of(sent.at(-1)!.bytes))).toBe(!used);
  });

  it('is another one for the same source once its secret is 120 s old', () => {
    const world = new World({ seed: 25, crypto: quick });
    const b = world.add('b');
    const source = outer(40, 1000);
    const cookie = (): string => {
      flood(b);
      const junk = junkInitiation(b.publicKey, random);
      b.accept(junk, source);
      world.run(0);
      const reply = world.log.of({ from: 'b', kind: 'cookie' }).at(-1)!;
      return hex(paper.openCookieReply(reply.bytes, b.publicKey, junk.subarray(116, 132))!);
    };
    const first = cookie();
    world.run(COOKIE_LIFETIME - 1);
    expect(cookie()).toBe(first);
    world.run(1);
    expect(cookie()).not.toBe(first);
  });
});

describe('at rest', () => {
  it('400 handshakes of one peer bring no cookie reply', () => {
    const world = new World({ seed: 30, crypto: quick, keyPool: 4 });
    const [a, b] = world.pair();
    world.log.keep = () => false;
    for (let i = 0; i < 400; i++) {
      a.rekey();
      world.run(REKEY_TIMEOUT);
    }
    expect(statusOf(b, a).sessions).toBe(400);
    expect(world.log.count('a', 'cookie') + world.log.count('b', 'cookie')).toBe(0);
  });

  it('a hub serves 60 peers that begin within a second', () => {
    const world = new World({ seed: 31, crypto: quick, keyPool: 1, link: { delay: 20, jitter: 30 } });
    const hub = world.add('hub');
    const spokes = Array.from({ length: 60 }, (_, i) => world.add(`s${i}`));
    hub.configure({ peers: spokes.map((spoke) => peerOf(spoke)) });
    for (const spoke of spokes) {
      spoke.configure({ peers: [peerOf(hub)] });
      world.clock.at(random.between(0, SECOND), () => void world.ping(spoke, hub));
    }
    expect(world.runUntil(() => hub.delivered.length === 60, 15 * SECOND)).toBe(true);
    expect(new Set(hub.delivered.map(({ publicKey }) => hex(publicKey))).size).toBe(60);
  });
});
