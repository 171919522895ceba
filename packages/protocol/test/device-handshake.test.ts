/** Paper sections 5.4 and 6: who may begin a session, what it takes, and what is ignored in silence. */
import { describe, expect, it } from 'vitest';
import type { Node } from '../../../test/sim/node.ts';
import { ipPacket } from '../../../test/sim/packets.ts';
import { generator } from '../../../test/sim/random.ts';
import { toyCrypto } from '../../../test/sim/toy-crypto.ts';
import { World, outer, peerOf, statusOf } from '../../../test/sim/world.ts';
import { nobleCrypto } from '../src/noble.ts';
import { concat, hex, isZero } from './support/bytes.ts';
import { insideOf, memoised, recording } from './support/lab.ts';
import * as paper from './support/paper.ts';
import { DAY, HOUR, REKEY_AFTER_TIME, SECOND } from './support/spec.ts';

const random = generator(99);
const PSK = random.bytes(32);

function sessions(node: Node, other: Node): number {
  return statusOf(node, other).sessions;
}

/** Everything about a device but its drop counters. */
function stateOf(node: Node): unknown {
  const { drops: _, ...rest } = node.device.status(node.now);
  return rest;
}

/** An initiator that is no Sealane: the paper's own, known to `node` under its public key. */
function stranger(
  node: Node,
  number = 200,
): {
  privateKey: Uint8Array;
  publicKey: Uint8Array;
  inner: Uint8Array;
  source: ReturnType<typeof outer>;
  initiation: (timestampMs: number, sender?: number) => ReturnType<typeof paper.initiation>;
} {
  const privateKey = random.bytes(32);
  const publicKey = paper.publicOf(privateKey);
  const inner = Uint8Array.of(10, 9, 0, number);
  node.configure({ peers: [{ publicKey, allowedIps: [{ address: inner, length: 32 }] }] });
  return {
    privateKey,
    publicKey,
    inner,
    source: outer(number),
    initiation: (timestampMs, sender = 1) =>
      paper.initiation({
        staticPrivate: privateKey,
        responderPublic: node.publicKey,
        ephemeralPrivate: random.bytes(32),
        sender,
        timestamp: paper.tai64n(timestampMs),
      }),
  };
}

describe('a handshake', () => {
  it('is one initiation, one response and then data, which confirms the session', () => {
    const world = new World({ seed: 1, link: { delay: 25 } });
    const [a, b] = world.pair();
    expect(world.ping(a, b, 7)).toBe('consumed');
    world.run(200);
    expect(world.log.entries.map((e) => `${e.from} ${e.kind} ${e.bytes.length} @${e.at}`)).toEqual([
      'a initiation 148 @0',
      'b response 92 @25',
      'a data 96 @50',
    ]);
    expect(b.delivered.map(({ packet }) => hex(packet))).toEqual([hex(ipPacket(a.inner, b.inner, 7))]);
    expect(a.eventsOf('session')).toEqual([
      { type: 'session', publicKey: b.publicKey, role: 'initiator', number: 1, handshakeMs: 50, at: 50 },
    ]);
    expect(b.eventsOf('session')).toMatchObject([
      { type: 'session', publicKey: a.publicKey, role: 'responder', number: 1, at: 75 },
    ]);
    expect(statusOf(a, b).session?.role).toBe('initiator');
    expect(statusOf(b, a).session?.role).toBe('responder');
  });

  it('without data ends with a keepalive of the initiator, which confirms the session', () => {
    const world = new World({ seed: 2 });
    const [a, b] = world.pair();
    expect(a.rekey()).toBe(1);
    world.run(0);
    expect(world.log.entries.map((e) => `${e.from} ${e.kind}`)).toEqual(['a initiation', 'b response', 'a keepalive']);
    expect(sessions(b, a)).toBe(1);
    expect(b.delivered).toEqual([]);
    expect(world.ping(b, a)).toBe('send');
  });

  it.each(['chacha20poly1305', 'aes256gcm'] as const)(
    'works over IPv6 outside and inside, with a preshared key, sealed by %s',
    (cipherSuite) => {
      const world = new World({ seed: 3 });
      const [a, b] = world.pair({ presharedKey: PSK, cipherSuite });
      a.configure({ peers: [{ publicKey: b.publicKey, endpoint: b.endpoints[1]! }] });
      a.send(ipPacket(a.inner6, b.inner6, 1, 100));
      world.run(0);
      b.send(ipPacket(b.inner6, a.inner6, 2, 100));
      world.run(0);
      expect([a.delivered.length, b.delivered.length]).toEqual([1, 1]);
      expect(world.log.entries.every((e) => e.destination.address.length === 16)).toBe(true);
      expect(statusOf(a, b).cipherSuite).toBe(cipherSuite);
    },
  );

  it('fails between different cipher suites, and says so', () => {
    const world = new World({ seed: 4 });
    const [a, b] = world.pair();
    b.configure({ peers: [{ publicKey: a.publicKey, cipherSuite: 'aes256gcm' }] });
    world.ping(a, b);
    world.run(SECOND);
    expect(world.log.of({ from: 'b' })).toEqual([]);
    expect(b.eventsOf('handshake-refused').length).toBe(1);
    expect([sessions(a, b), sessions(b, a)]).toEqual([0, 0]);
  });

  it('completes when the response takes 4.9 s', () => {
    const world = new World({ seed: 5, crypto: toyCrypto });
    const [a, b] = world.pair();
    world.network.setLink('b', 'a', { delay: 4_900 });
    world.ping(a, b);
    world.run(4_901);
    expect(b.delivered.length).toBe(1);
    expect(world.log.count('a', 'initiation')).toBe(1);
  });

  it('survives 1,000 forged responses with the right index', () => {
    const world = new World({ seed: 6, crypto: memoised(nobleCrypto) });
    const ephemerals = Array.from({ length: 8 }, () => random.bytes(32));
    const [a, b] = world.pair();
    let held: Uint8Array | undefined;
    world.network.filter = ({ kind, bytes }) => {
      if (kind !== 'response') return true;
      held = bytes.slice();
      return false;
    };
    world.ping(a, b);
    world.run(0);
    expect(held).toBeDefined();
    const before = stateOf(a);
    for (let i = 0; i < 1_000; i++) {
      const body = held!.slice(0, 60);
      // Another ephemeral key, or another tag under the right one.
      if (i % 2 === 0) body.set(ephemerals[i % 8]!, 12);
      else body[44 + (i % 16)]! ^= 1 + (i % 255);
      a.accept(paper.withMacs(body, a.publicKey), b.endpoint);
      if (i % 10 === 9) world.run(0);
    }
    expect(stateOf(a)).toEqual(before);
    expect(a.device.status(a.now).drops['handshake-failed']).toBe(1_000);
    world.network.filter = () => true;
    a.accept(held!, b.endpoint);
    world.run(0);
    expect(b.delivered.length).toBe(1);
    expect(world.log.count('a', 'initiation')).toBe(1);
  });

  it('takes no response twice and none to an initiation that was replaced', () => {
    const world = new World({ seed: 7, crypto: toyCrypto });
    const [a, b] = world.pair();
    const responses: Uint8Array[] = [];
    world.network.filter = ({ kind, bytes }) => kind !== 'response' || responses.push(bytes.slice()) < 0;
    world.ping(a, b);
    world.run(6 * SECOND);
    expect(responses.length).toBe(2);
    a.accept(responses[0]!, b.endpoint);
    world.run(0);
    expect(sessions(a, b)).toBe(0);
    expect(a.device.status(a.now).drops['unknown-index']).toBe(1);
    a.accept(responses[1]!, b.endpoint);
    world.run(0);
    expect(sessions(a, b)).toBe(1);
    a.accept(responses[1]!, b.endpoint);
    world.run(0);
    expect(sessions(a, b)).toBe(1);
    expect(a.device.status(a.now).drops['unknown-index']).toBe(2);
  });
});

describe('an initiation that waits', () => {
  it('is dropped with its keys when the other side made the session meanwhile', () => {
    const world = new World({ seed: 8 });
    const seen = recording(nobleCrypto);
    const a = world.add('a', { crypto: seen.crypto });
    const b = world.add('b');
    world.connect(a, b);
    let late: Uint8Array | undefined;
    world.network.filter = ({ kind, from, bytes }) => {
      if (kind !== 'response' || from !== 'b') return true;
      late = bytes.slice();
      return false;
    };
    a.rekey();
    world.run(SECOND);
    world.network.filter = () => true;
    b.rekey();
    world.run(SECOND);
    expect(statusOf(a, b).session?.role).toBe('responder');
    // Ours and the shared secret stay; no ephemeral key and no chaining key does.
    expect(new Set(seen.secrets.filter(({ array }) => !isZero(array)).map(({ value }) => value)).size).toBe(2);
    a.accept(late!, b.endpoint);
    world.run(REKEY_AFTER_TIME);
    expect(a.device.status(a.now).drops['unknown-index']).toBe(1);
    expect(sessions(a, b)).toBe(1);
  });
});

describe('an initiation', () => {
  it('is answered as the paper says; the session carries data both ways', () => {
    const world = new World({ seed: 10 });
    const b = world.add('b');
    const s = stranger(b);
    const made = s.initiation(b.unixMs, 0xfedcba98);
    expect(b.accept(made.message, s.source)).toBe('consumed');
    world.run(0);
    const [entry] = world.log.of({ from: 'b', kind: 'response' });
    expect(hex(entry!.bytes.subarray(76))).toBe('00'.repeat(16));
    expect(paper.readU32(entry!.bytes, 8)).toBe(0xfedcba98);
    const keys = made.finish(entry!.bytes)!;
    const packet = ipPacket(s.inner, b.inner, 3, 64);
    expect(b.accept(paper.data(keys.send, keys.receiver, 0n, packet), s.source)).toBe('deliver');
    expect(hex(b.delivered[0]!.packet)).toBe(hex(packet));
    world.run(0);
    expect(b.send(ipPacket(b.inner, s.inner, 4, 61))).toBe('send');
    const answer = world.log.of({ from: 'b', kind: 'data' })[0]!.bytes;
    expect(paper.readU32(answer, 4)).toBe(0xfedcba98);
    expect(paper.counterOf(answer)).toBe(0n);
    expect(hex(paper.openData(keys.receive, answer)!)).toBe(
      hex(concat(ipPacket(b.inner, s.inner, 4, 61), new Uint8Array(3))),
    );
  });

  it('is opened by the paper, carries a whitened timestamp and a random index', () => {
    const world = new World({ seed: 11 });
    const [a, b] = world.pair({ presharedKey: PSK });
    world.network.filter = () => false;
    world.ping(a, b);
    world.run(0);
    const message = world.log.of({ kind: 'initiation' })[0]!.bytes;
    const answered = paper.answer(message, {
      staticPrivate: b.privateKey,
      ephemeralPrivate: random.bytes(32),
      sender: 5,
      presharedKey: PSK,
    })!;
    expect(hex(answered.initiator)).toBe(hex(a.publicKey));
    expect(hex(answered.timestamp)).toBe(hex(paper.tai64n(a.unixMs)));
    a.accept(answered.response, b.endpoint);
    world.run(0);
    const data = world.log.of({ kind: 'data' })[0]!.bytes;
    expect(paper.readU32(data, 4)).toBe(5);
    expect(hex(paper.openData(answered.receive, data)!)).toBe(hex(ipPacket(a.inner, b.inner)));
  });

  it('is ignored when it is a replay or older than the last one', () => {
    const world = new World({ seed: 12 });
    const b = world.add('b');
    const s = stranger(b);
    const first = s.initiation(b.unixMs);
    b.accept(first.message, s.source);
    world.run(SECOND);
    const before = stateOf(b);
    for (const message of [
      first.message,
      s.initiation(b.unixMs - 1_000).message,
      s.initiation(b.unixMs - 5_000).message,
    ]) {
      b.accept(message, outer(201));
      world.run(0);
    }
    expect(stateOf(b)).toEqual(before);
    expect(b.device.status(b.now).drops['stale-timestamp']).toBe(3);
    expect(world.log.count('b', 'response')).toBe(1);
    b.accept(s.initiation(b.unixMs + 17).message, s.source);
    world.run(0);
    expect(world.log.count('b', 'response')).toBe(2);
  });

  it('stays burnt by one that came from the future until the operator removes the peer', () => {
    const world = new World({ seed: 13 });
    const b = world.add('b');
    const s = stranger(b);
    b.accept(s.initiation(Date.UTC(2100, 0, 1)).message, s.source);
    world.run(SECOND);
    expect(world.log.count('b', 'response')).toBe(1);
    b.accept(s.initiation(b.unixMs).message, s.source);
    world.run(SECOND);
    expect(world.log.count('b', 'response')).toBe(1);
    expect(b.eventsOf('handshake-refused')).toMatchObject([{ reason: 'stale-timestamp', publicKey: s.publicKey }]);
    b.configure({ peers: [{ publicKey: s.publicKey, remove: true }] });
    b.configure({ peers: [{ publicKey: s.publicKey }] });
    b.accept(s.initiation(b.unixMs).message, s.source);
    world.run(0);
    expect(world.log.count('b', 'response')).toBe(2);
  });

  it('is taken at most every 20 ms from one peer', () => {
    const world = new World({ seed: 14, crypto: memoised(nobleCrypto), keyPool: 4 });
    const b = world.add('b');
    const s = stranger(b);
    for (let ms = 0; ms < 200; ms += 5) {
      b.accept(s.initiation(b.unixMs + ms * 1_000).message, s.source);
      world.run(5);
    }
    const times = world.log.of({ kind: 'response' }).map(({ at }) => at);
    expect(times).toEqual([0, 20, 40, 60, 80, 100, 120, 140, 160, 180]);
    expect(b.device.status(b.now).drops['initiation-flood']).toBe(30);
  });

  it('of an unknown peer, of a low-order key or for another key is met with silence and no change', () => {
    const world = new World({ seed: 15 });
    const [a, b] = world.pair();
    world.ping(a, b);
    world.run(SECOND);
    const before = stateOf(b);
    const log = world.log.entries.length;
    const make = (responderPublic: Uint8Array): Uint8Array =>
      paper.initiation({
        staticPrivate: random.bytes(32),
        responderPublic,
        ephemeralPrivate: random.bytes(32),
        sender: 1,
        timestamp: paper.tai64n(b.unixMs),
      }).message;
    b.accept(make(b.publicKey), outer(77));
    b.accept(make(paper.publicOf(random.bytes(32))), outer(77));
    const zeroEphemeral = make(b.publicKey).slice(0, 116);
    zeroEphemeral.fill(0, 8, 40);
    b.accept(paper.withMacs(zeroEphemeral, b.publicKey), outer(77));
    world.run(0);
    const { drops } = b.device.status(b.now);
    expect([drops['unknown-peer'], drops['bad-mac1'], drops['handshake-failed']]).toEqual([1, 1, 1]);
    expect(stateOf(b)).toEqual(before);
    expect(world.log.entries.length).toBe(log);
  });

  it('with any bit of it changed does nothing', () => {
    const world = new World({ seed: 16 });
    const b = world.add('b');
    const s = stranger(b);
    const { message } = s.initiation(b.unixMs);
    const before = stateOf(b);
    for (let byte = 0; byte < 132; byte++) {
      const forged = message.slice();
      forged[byte]! ^= 1 << (byte & 7);
      // Now and then with mac1 made anew, so that what lies behind it is reached; the index (4 to 7) is not authentic.
      const macked = byte >= 8 && byte < 116 && byte % 3 === 0;
      b.accept(macked ? paper.withMacs(forged.subarray(0, 116), b.publicKey) : forged, outer(78));
      world.run(0);
    }
    expect(stateOf(b)).toEqual(before);
    expect(world.log.entries).toEqual([]);
  });
});

describe('keys that do not fit', () => {
  it('a wrong public key of the responder: bad mac1, no answer', () => {
    const world = new World({ seed: 20 });
    const [a, b] = world.pair();
    const wrong = paper.publicOf(random.bytes(32));
    a.configure({ replacePeers: true, peers: [{ ...peerOf(b), publicKey: wrong }] });
    world.ping(a, b);
    world.run(10 * SECOND);
    expect(world.log.count('a', 'initiation')).toBeGreaterThanOrEqual(2);
    expect(world.log.of({ from: 'b' })).toEqual([]);
    expect(b.device.status(b.now).drops['bad-mac1']).toBeGreaterThanOrEqual(2);
  });

  it.each([
    ['only the initiator has one', { a: PSK }],
    ['only the responder has one', { b: PSK }],
    ['they differ', { a: PSK, b: random.bytes(32) }],
  ])('preshared keys: %s: no session, no data', (_, keys: { a?: Uint8Array; b?: Uint8Array }) => {
    const world = new World({ seed: 21 });
    const [a, b] = world.pair();
    if (keys.a) a.configure({ peers: [{ publicKey: b.publicKey, presharedKey: keys.a }] });
    if (keys.b) b.configure({ peers: [{ publicKey: a.publicKey, presharedKey: keys.b }] });
    world.ping(a, b);
    world.run(11 * SECOND);
    expect(world.ping(b, a)).toBe('consumed');
    world.run(0);
    expect(a.device.status(a.now).drops['handshake-failed']).toBeGreaterThanOrEqual(2);
    expect(a.eventsOf('handshake-refused')[0]).toMatchObject({ reason: 'handshake-failed', publicKey: b.publicKey });
    expect([...a.delivered, ...b.delivered]).toEqual([]);
    expect([sessions(a, b), sessions(b, a)]).toEqual([0, 0]);
  });

  it('a preshared key changed live: the session lives on, the next handshake uses the new one', () => {
    const world = new World({ seed: 22 });
    const [a, b] = world.pair({ presharedKey: PSK });
    world.ping(a, b);
    world.run(SECOND);
    const fresh = random.bytes(32);
    b.configure({ peers: [{ publicKey: a.publicKey, presharedKey: fresh }] });
    expect(world.ping(a, b)).toBe('send');
    world.run(SECOND);
    expect(b.delivered.length).toBe(2);
    a.rekey();
    world.run(SECOND);
    expect(sessions(a, b)).toBe(1);
    a.configure({ peers: [{ publicKey: b.publicKey, presharedKey: fresh }] });
    world.run(10 * SECOND);
    expect(sessions(a, b)).toBe(2);
    world.ping(a, b);
    world.run(0);
    expect(b.delivered.length).toBe(3);
    expect(statusOf(a, b).hasPresharedKey).toBe(true);
    a.configure({ peers: [{ publicKey: b.publicKey, presharedKey: new Uint8Array(32) }] });
    expect(statusOf(a, b).hasPresharedKey).toBe(false);
  });

  it('low-order public keys may be configured, nothing is ever sent to them', () => {
    const world = new World({ seed: 23 });
    const a = world.add('a');
    const lowOrder = ['00', '01'].map((first) => concat(Uint8Array.of(Number(first)), new Uint8Array(31)));
    const inner = Uint8Array.of(10, 5, 5, 5);
    for (const publicKey of lowOrder) {
      a.configure({
        peers: [
          { publicKey, endpoint: outer(40), persistentKeepalive: 1, allowedIps: [{ address: inner, length: 32 }] },
        ],
      });
      a.send(ipPacket(a.inner, inner));
      a.rekey();
      world.run(60 * SECOND);
    }
    expect(world.log.entries).toEqual([]);
    expect(a.device.status(a.now).peers.length).toBe(2);
  });
});

describe('the three sessions', () => {
  it('a responder sends on the new session only after a packet came on it, until then on the old one', () => {
    const world = new World({ seed: 30 });
    const [a, b] = world.pair();
    world.ping(a, b);
    world.run(6 * SECOND);
    const firstIndex = paper.readU32(world.log.of({ from: 'a', kind: 'initiation' })[0]!.bytes, 4);
    world.network.filter = ({ kind, from }) => !(from === 'a' && (kind === 'keepalive' || kind === 'data'));
    a.rekey();
    world.run(0);
    const secondIndex = paper.readU32(world.log.of({ from: 'a', kind: 'initiation' })[1]!.bytes, 4);
    expect(sessions(a, b)).toBe(2);
    expect(world.ping(b, a, 1)).toBe('send');
    world.run(0);
    expect(paper.readU32(world.log.of({ from: 'b', kind: 'data' }).at(-1)!.bytes, 4)).toBe(firstIndex);
    expect(a.delivered.length).toBe(1);
    world.network.filter = () => true;
    world.ping(a, b, 2);
    world.run(0);
    expect(sessions(b, a)).toBe(2);
    world.ping(b, a, 3);
    world.run(0);
    expect(paper.readU32(world.log.of({ from: 'b', kind: 'data' }).at(-1)!.bytes, 4)).toBe(secondIndex);
    expect(a.delivered.length).toBe(2);
  });

  it('a responder without a session stages its packets until the initiator has spoken', () => {
    const world = new World({ seed: 31, crypto: toyCrypto });
    const [a, b] = world.pair();
    world.network.filter = ({ kind, from }) => !(from === 'a' && (kind === 'keepalive' || kind === 'data'));
    a.rekey();
    world.run(0);
    expect(world.ping(b, a, 1)).toBe('consumed');
    world.run(SECOND);
    expect(world.log.count('b', 'data')).toBe(0);
    world.network.filter = () => true;
    world.ping(a, b, 2);
    world.run(0);
    expect(a.delivered.length).toBe(1);
    expect(world.log.count('b', 'initiation')).toBe(0);
  });

  it('packets on their way during a renewal arrive', () => {
    const world = new World({ seed: 32, crypto: toyCrypto, link: { delay: 50, jitter: 40 } });
    const [a, b] = world.pair();
    world.ping(a, b, 0);
    world.run(6 * SECOND);
    let id = 1;
    for (let i = 0; i < 300; i++) {
      if (i % 100 === 50) a.rekey();
      world.ping(a, b, id);
      world.ping(b, a, id++);
      world.run(10);
      if (i % 100 === 99) world.run(6 * SECOND);
    }
    expect(sessions(a, b)).toBe(4);
    expect(b.delivered.length).toBe(301);
    expect(a.delivered.length).toBe(300);
  });
});

describe('timestamps', () => {
  it('of one identity never repeat or go back, whatever the wall clock does', () => {
    const world = new World({ seed: 40, crypto: memoised(nobleCrypto), keyPool: 4 });
    const [a, b] = world.pair();
    const seen: string[] = [];
    world.network.filter = ({ kind, bytes, from }) => {
      if (kind === 'initiation' && from === 'a') {
        seen.push(
          hex(paper.answer(bytes, { staticPrivate: b.privateKey, ephemeralPrivate: PSK, sender: 1 })!.timestamp),
        );
      }
      return true;
    };
    let floor: Uint8Array | undefined;
    for (const wallMs of [0, -SECOND, -HOUR, 10 * 365 * DAY, -20 * 365 * DAY, 0, 0]) {
      a.step({ wallMs });
      for (let i = 0; i < 3; i++) {
        a.rekey();
        world.run(30);
      }
      floor = a.device.timestamp?.slice();
      a.device.close();
      a.restart(floor);
      a.configure({ peers: [peerOf(b)] });
    }
    expect(seen.length).toBe(21);
    expect(seen).toEqual(seen.toSorted());
    expect(new Set(seen).size).toBe(21);
    expect(hex(floor!)).toBe(seen.at(-1));
    expect(sessions(b, a)).toBe(21);
  });

  it('to keep are the highest of all peers, not the last', () => {
    const world = new World({ seed: 42 });
    const [a, b] = world.pair();
    const c = world.add('c');
    a.configure({ peers: [peerOf(c)] });
    a.rekey(b.publicKey);
    world.run(0);
    const highest = hex(a.device.timestamp!);
    expect(highest).toBe(hex(paper.tai64n(a.unixMs)));
    a.step({ wallMs: -HOUR });
    a.rekey(c.publicKey);
    world.run(0);
    expect(world.log.count('a', 'initiation')).toBe(2);
    expect(hex(a.device.timestamp!)).toBe(highest);
  });

  it('a clock reset without the floor is what locks a client out, and the server is told why', () => {
    const world = new World({ seed: 41, crypto: toyCrypto });
    const [a, b] = world.pair();
    world.ping(a, b);
    world.run(SECOND);
    a.restart();
    a.configure({ peers: [peerOf(b)] });
    a.step({ wallMs: -DAY });
    world.ping(a, b);
    world.run(SECOND);
    expect(b.delivered.length).toBe(1);
    expect(b.eventsOf('handshake-refused')).toMatchObject([{ reason: 'stale-timestamp', publicKey: a.publicKey }]);
  });
});

describe('configuration in use', () => {
  it('a removed peer neither sends nor receives from that moment on', () => {
    const world = new World({ seed: 50, crypto: toyCrypto, keyPool: 4 });
    const [a, b] = world.pair({ persistentKeepalive: 5 });
    world.ping(a, b);
    world.run(SECOND);
    const inside = insideOf(b, a);
    const pairs = [inside.keypairs.current!];
    b.configure({ peers: [{ publicKey: a.publicKey, remove: true }] });
    const delivered = b.delivered.length;
    const sent = world.log.of({ from: 'b' }).length;
    expect(world.ping(a, b)).toBe('send');
    expect(world.ping(b, a)).toBe('no-route');
    world.run(300 * SECOND);
    expect(b.delivered.length).toBe(delivered);
    expect(world.log.of({ from: 'b' }).length).toBe(sent);
    expect(pairs.some((pair) => pair.canSend(0) || pair.canReceive(0))).toBe(false);
    expect(b.device.status(b.now).peers).toEqual([]);
    expect(b.device.nextDeadline().at).toBe(Infinity);
  });

  it('a changed private key makes new sessions with the same peers', () => {
    const world = new World({ seed: 51 });
    const [a, b] = world.pair();
    world.ping(a, b);
    world.run(6 * SECOND);
    const privateKey = random.bytes(32);
    const publicKey = paper.publicOf(privateKey);
    a.configure({ privateKey });
    expect(hex(a.device.status(a.now).publicKey!)).toBe(hex(publicKey));
    b.configure({ peers: [{ ...peerOf(a), publicKey }] });
    expect(world.ping(a, b, 2)).toBe('consumed');
    world.run(SECOND);
    expect(b.delivered.length).toBe(2);
    expect(hex(b.delivered[1]!.publicKey)).toBe(hex(publicKey));
  });

  it('its own key is no peer, before or after the key is set', () => {
    const world = new World({ seed: 52, crypto: toyCrypto });
    const [a, b] = world.pair();
    a.configure({ peers: [{ publicKey: a.publicKey, endpoint: outer(9) }] });
    expect(a.device.status(a.now).peers.map(({ publicKey }) => hex(publicKey))).toEqual([hex(b.publicKey)]);
    a.configure({ privateKey: b.privateKey });
    expect(a.device.status(a.now).peers).toEqual([]);
  });

  it('without a private key everything stands still and nothing throws', () => {
    const world = new World({ seed: 53, crypto: toyCrypto, keyPool: 4 });
    const [a, b] = world.pair();
    world.ping(a, b);
    world.run(SECOND);
    a.configure({ privateKey: new Uint8Array(32) });
    expect(a.device.status(a.now).publicKey).toBeUndefined();
    const sent = world.log.of({ from: 'a' }).length;
    expect(world.ping(a, b)).toBe('device-down');
    b.rekey();
    world.run(HOUR);
    expect(world.log.of({ from: 'a' }).length).toBe(sent);
    a.configure({ privateKey: a.privateKey });
    world.ping(a, b);
    world.run(6 * SECOND);
    expect(b.delivered.length).toBe(2);
  });

  it('closed, it is silent and empty', () => {
    const world = new World({ seed: 54, crypto: toyCrypto, keyPool: 4 });
    const [a, b] = world.pair({ presharedKey: PSK, persistentKeepalive: 5 });
    world.ping(a, b);
    world.run(SECOND);
    a.device.close();
    const sent = world.log.of({ from: 'a' }).length;
    expect(world.ping(a, b)).toBe('device-down');
    world.ping(b, a);
    world.run(HOUR);
    expect(world.log.of({ from: 'a' }).length).toBe(sent);
    expect(a.delivered).toEqual([]);
    expect(a.device.nextDeadline().at).toBe(Infinity);
    expect(a.device.secrets()).toEqual({ presharedKeys: [] });
  });

  it('updateOnly creates nothing, replacePeers keeps the sessions of those it names', () => {
    const world = new World({ seed: 55, crypto: toyCrypto });
    const [a, b] = world.pair();
    const c = world.add('c');
    world.connect(a, c);
    world.ping(a, b);
    world.run(SECOND);
    a.configure({ peers: [{ publicKey: random.bytes(32), updateOnly: true, endpoint: outer(9) }] });
    expect(a.device.status(a.now).peers.length).toBe(2);
    a.configure({ replacePeers: true, peers: [{ publicKey: b.publicKey }] });
    expect(a.device.status(a.now).peers.length).toBe(1);
    expect(world.ping(a, b)).toBe('send');
    expect(world.ping(a, c)).toBe('no-route');
  });

  it('has 65,536 peers at most', { timeout: 60_000 }, () => {
    const world = new World({ seed: 58, crypto: toyCrypto });
    const a = world.add('a');
    const peers = Array.from({ length: 2 ** 16 + 1 }, () => ({ publicKey: random.bytes(32) }));
    expect(() => a.configure({ peers })).toThrow('peers must not be more than 65536');
    expect(a.device.status(a.now).peers).toEqual([]);
    a.configure({ peers: peers.slice(1) });
    expect(() => a.configure({ peers: peers.slice(0, 1) })).toThrow('peers must not be more than 65536');
    a.configure({ peers: [{ publicKey: peers[1]!.publicKey, remove: true }, peers[0]!] });
    expect(a.device.status(a.now).peers.length).toBe(2 ** 16);
  });

  it('renews by the clock of its own session when asked to keep still for a while', () => {
    const world = new World({ seed: 57, crypto: toyCrypto });
    const [a, b] = world.pair();
    world.ping(a, b);
    world.run(REKEY_AFTER_TIME - 1);
    expect(world.ping(a, b)).toBe('send');
    world.run(0);
    expect(world.log.count('a', 'initiation')).toBe(1);
  });
});
