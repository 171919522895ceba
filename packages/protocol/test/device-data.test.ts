/** Paper sections 2 and 5.4.6: what is inside, who may send it, where the answer goes, and what garbage does (nothing). */
import { describe, expect, it } from 'vitest';
import { ipPacket } from '../../../test/sim/packets.ts';
import type { Node } from '../../../test/sim/node.ts';
import { generator } from '../../../test/sim/random.ts';
import { World, outer, outer6, statusOf } from '../../../test/sim/world.ts';
import { HEADROOM, PacketBatch, TAILROOM } from '../src/batch.ts';
import { FIRST_DROP, VERDICT } from '../src/drops.ts';
import { nobleCrypto } from '../src/noble.ts';
import { concat, hex, ip } from './support/bytes.ts';
import { memoised } from './support/lab.ts';
import * as paper from './support/paper.ts';
import { MINUTE, SECOND } from './support/spec.ts';

const random = generator(31);
const quick = memoised(nobleCrypto);

function paired(seed: number, mtu = 1420): readonly [World, Node, Node] {
  const world = new World({ seed, crypto: quick });
  const a = world.add('a', { mtu });
  const b = world.add('b', { mtu });
  world.connect(a, b);
  a.rekey();
  world.run(0);
  return [world, a, b];
}

/** A peer of `node` that lets the test seal whatever it likes. */
function insider(
  world: World,
  node: Node,
  inner: Uint8Array,
  allowed = { address: inner, length: inner.length * 8 },
): {
  readonly send: (plaintext: Uint8Array, source?: ReturnType<typeof outer>) => string;
  readonly publicKey: Uint8Array;
  readonly packet: (plaintext: Uint8Array) => Uint8Array;
} {
  const privateKey = random.bytes(32);
  const publicKey = paper.publicOf(privateKey);
  node.configure({ peers: [{ publicKey, allowedIps: [allowed] }] });
  const made = paper.initiation({
    staticPrivate: privateKey,
    responderPublic: node.publicKey,
    ephemeralPrivate: random.bytes(32),
    sender: random.below(2 ** 32),
    timestamp: paper.tai64n(node.unixMs),
  });
  const source = outer(100 + random.below(100));
  node.accept(made.message, source);
  world.run(0);
  const keys = made.finish(world.log.of({ from: node.name, kind: 'response' }).at(-1)!.bytes)!;
  let counter = 0n;
  const packet = (plaintext: Uint8Array): Uint8Array => paper.data(keys.send, keys.receiver, counter++, plaintext);
  return { publicKey, packet, send: (plaintext, from = source) => node.accept(packet(plaintext), from) };
}

describe('padding', () => {
  it.each([1420, 1280, 576, 100])('at an MTU of %i is zeros up to a multiple of 16, never above the MTU', (mtu) => {
    const [world, a, b] = paired(1, mtu);
    for (let length = 20; length <= mtu; length++) a.send(ipPacket(a.inner, b.inner, length, length));
    world.run(0);
    const sizes = world.log.of({ from: 'a', kind: 'data' }).map(({ bytes }) => bytes.length - 32);
    expect(sizes).toEqual(Array.from({ length: mtu - 19 }, (_, i) => Math.min(Math.ceil((i + 20) / 16) * 16, mtu)));
    expect(b.delivered.map(({ packet }) => packet.length)).toEqual(Array.from({ length: mtu - 19 }, (_, i) => i + 20));
  });

  it('follows the MTU when it changes, and does not cut packets that are larger', () => {
    const [world, a, b] = paired(2, 1420);
    const sizeOf = (length: number): number => {
      a.send(ipPacket(a.inner, b.inner, 0, length));
      return world.log.of({ from: 'a', kind: 'data' }).at(-1)!.bytes.length - 32;
    };
    expect(sizeOf(1415)).toBe(1420);
    a.configure({ mtu: 1430 });
    expect(sizeOf(1415)).toBe(1424);
    a.configure({ mtu: 68 });
    expect(sizeOf(60)).toBe(64);
    expect(sizeOf(66)).toBe(68);
    expect(sizeOf(100)).toBeGreaterThanOrEqual(100);
    a.configure({ mtu: 1 });
    expect(sizeOf(60)).toBeGreaterThanOrEqual(60);
    a.configure({ mtu: 0 });
    expect(sizeOf(1415)).toBe(1424);
    a.configure({ mtu: 65_535 });
    expect(sizeOf(1415)).toBe(1424);
    world.run(0);
    expect(b.delivered.map(({ packet }) => packet.length)).toEqual([1415, 1415, 60, 66, 100, 60, 1415, 1415]);
  });

  it('never shows what lay behind the packet in the buffer', () => {
    const [world, a] = paired(3);
    const b = insiderReceiving(world, a);
    const batch = new PacketBatch(new Uint8Array(HEADROOM + 200 + TAILROOM).fill(0xee), 1);
    batch.buffer.set(ipPacket(a.inner, b.inner, 0, 50), HEADROOM);
    batch.push(HEADROOM, 50);
    a.device.seal(batch, a.now);
    expect(batch.verdicts[0]).toBe(VERDICT.send);
    const sealed = batch.buffer.slice(batch.offsets[0], batch.offsets[0]! + batch.lengths[0]!);
    expect(hex(b.open(sealed)!)).toBe(hex(concat(ipPacket(a.inner, b.inner, 0, 50), new Uint8Array(14))));
    expect(batch.buffer.subarray(HEADROOM + 64 + 16).every((byte) => byte === 0xee)).toBe(true);
  });

  it('lets the largest datagram of all through', () => {
    const [world, a, b] = paired(4, 65_535);
    const largest = 65_507 - 32 - ((65_507 - 32) % 16);
    expect(a.send(ipPacket(a.inner, b.inner, 9, largest))).toBe('send');
    world.run(0);
    expect(b.delivered.map(({ packet }) => packet.length)).toEqual([largest]);
  });
});

/** A peer that `node` has a session with as responder, opened by the test. */
function insiderReceiving(
  world: World,
  node: Node,
): { readonly inner: Uint8Array; readonly open: (bytes: Uint8Array) => Uint8Array | undefined } {
  const inner = Uint8Array.of(10, 77, 0, 1);
  const privateKey = random.bytes(32);
  node.configure({ peers: [{ publicKey: paper.publicOf(privateKey), allowedIps: [{ address: inner, length: 32 }] }] });
  const made = paper.initiation({
    staticPrivate: privateKey,
    responderPublic: node.publicKey,
    ephemeralPrivate: random.bytes(32),
    sender: 9,
    timestamp: paper.tai64n(node.unixMs),
  });
  node.accept(made.message, outer(99));
  world.run(0);
  const keys = made.finish(world.log.of({ from: node.name, kind: 'response' }).at(-1)!.bytes)!;
  node.accept(paper.data(keys.send, keys.receiver, 0n, new Uint8Array(0)), outer(99));
  world.run(0);
  return { inner, open: (bytes) => paper.openData(keys.receive, bytes) };
}

describe('batches', () => {
  it('hold packets of many peers and fates, each judged by itself', () => {
    const world = new World({ seed: 10, crypto: quick });
    const hub = world.add('hub');
    const spokes = [world.add('x'), world.add('y')];
    for (const spoke of spokes) {
      world.connect(hub, spoke);
      spoke.rekey();
    }
    const homeless = { publicKey: random.bytes(32), allowedIps: [{ address: ip('10.5.0.0'), length: 16 }] };
    hub.configure({ peers: [homeless] });
    world.run(0);
    const packets = [
      ipPacket(hub.inner, spokes[0]!.inner, 1, 60),
      ipPacket(hub.inner, ip('10.99.0.1'), 2),
      ipPacket(hub.inner, spokes[1]!.inner, 3, 1400),
      new Uint8Array(40),
      ipPacket(hub.inner6, spokes[1]!.inner6, 4),
      ipPacket(hub.inner, ip('10.5.6.7'), 5),
      ipPacket(hub.inner, spokes[0]!.inner, 6, 20),
    ];
    const stride = 1500;
    const batch = new PacketBatch(new Uint8Array(packets.length * stride), packets.length);
    for (const [i, packet] of packets.entries()) {
      batch.buffer.set(packet, i * stride + HEADROOM);
      batch.push(i * stride + HEADROOM, packet.length);
    }
    hub.device.seal(batch, hub.now);
    const drops = hub.device.status(hub.now).drops;
    expect([drops['no-route'], drops['not-ip'], drops['no-endpoint']]).toEqual([1, 1, 1]);
    expect(Array.from(batch.verdicts, (v) => (v >= FIRST_DROP ? 'drop' : v))).toEqual([
      VERDICT.send,
      'drop',
      VERDICT.send,
      'drop',
      VERDICT.send,
      'drop',
      VERDICT.send,
    ]);
    expect(batch.peers[0]).toBe(batch.peers[6]);
    expect(batch.peers[2]).toBe(batch.peers[4]);
    expect(batch.peers[0]).not.toBe(batch.peers[2]);
    expect(Array.from(batch.offsets)).toEqual(
      packets.map((_, i) => i * stride + (batch.verdicts[i] === VERDICT.send ? 0 : HEADROOM)),
    );
    // And back in one batch, where they lie.
    const inbound = new PacketBatch(batch.buffer.slice(), packets.length);
    for (const i of [2, 4]) inbound.push(batch.offsets[i]!, batch.lengths[i]!, hub.endpoint);
    spokes[1]!.device.open(inbound, spokes[1]!.now);
    expect(Array.from(inbound.verdicts.subarray(0, 2))).toEqual([VERDICT.deliver, VERDICT.deliver]);
    for (const [i, n] of [2, 4].entries()) {
      const offset = inbound.offsets[i]!;
      expect(hex(inbound.buffer.subarray(offset, offset + inbound.lengths[i]!))).toBe(hex(packets[n]!));
    }
  });
});

describe('crypto routing', () => {
  it('asks the longest match of the device, not the list of the sender', () => {
    const world = new World({ seed: 20, crypto: quick });
    const node = world.add('node');
    const wide = insider(world, node, ip('10.0.0.9'), { address: ip('10.0.0.0'), length: 8 });
    const narrow = insider(world, node, ip('10.1.2.3'));
    expect(wide.send(ipPacket(ip('10.200.0.1'), node.inner))).toBe('deliver');
    expect(wide.send(ipPacket(ip('10.1.2.3'), node.inner))).toBe('refused-source');
    expect(narrow.send(ipPacket(ip('10.1.2.3'), node.inner))).toBe('deliver');
    expect(narrow.send(ipPacket(ip('10.1.2.4'), node.inner))).toBe('refused-source');
    expect(wide.send(ipPacket(ip('11.0.0.1'), node.inner))).toBe('refused-source');
    expect(wide.send(ipPacket(ip('fd00::1'), node.inner6))).toBe('refused-source');
    expect(node.delivered.map(({ publicKey }) => hex(publicKey))).toEqual([hex(wide.publicKey), hex(narrow.publicKey)]);
  });

  it('follows a prefix that moves, both ways, at once', () => {
    const world = new World({ seed: 21, crypto: quick });
    const node = world.add('node');
    const inner = ip('10.3.0.1');
    const first = insider(world, node, inner);
    const second = insider(world, node, ip('10.3.0.2'));
    expect(first.send(ipPacket(inner, node.inner))).toBe('deliver');
    node.configure({ peers: [{ publicKey: second.publicKey, allowedIps: [{ address: inner, length: 32 }] }] });
    expect(first.send(ipPacket(inner, node.inner))).toBe('refused-source');
    expect(second.send(ipPacket(inner, node.inner))).toBe('deliver');
    const status = node.device.status(node.now).peers;
    expect(status.map(({ allowedIps }) => allowedIps.length)).toEqual([0, 2]);
    node.configure({
      peers: [{ publicKey: second.publicKey, allowedIps: [{ address: inner, length: 32, remove: true }] }],
    });
    expect(second.send(ipPacket(inner, node.inner))).toBe('refused-source');
    node.configure({
      peers: [
        { publicKey: second.publicKey, replaceAllowedIps: true, allowedIps: [{ address: ip('0.0.0.0'), length: 0 }] },
      ],
    });
    expect(second.send(ipPacket(ip('8.8.8.8'), node.inner))).toBe('deliver');
  });

  it('lets nothing out that is no whole IP packet, and nothing in', () => {
    const world = new World({ seed: 22, crypto: quick });
    const node = world.add('node');
    const inner = ip('10.3.0.1');
    const peer = insider(world, node, inner);
    const good = ipPacket(inner, node.inner, 0, 64);
    const odd: Uint8Array[] = [
      Uint8Array.of(0),
      new Uint8Array(16),
      good.subarray(0, 19),
      good.subarray(0, 48),
      Uint8Array.from(good, (byte, i) => (i === 0 ? 0x55 : byte)),
      Uint8Array.from(good, (byte, i) => (i === 3 ? 19 : byte)),
      Uint8Array.from(good, (byte, i) => (i === 3 ? 65 : byte)),
      ipPacket(inner.length === 4 ? ip('fd00::1') : inner, node.inner6, 0, 64).subarray(0, 39),
    ];
    for (const [i, plaintext] of odd.entries()) {
      expect(peer.send(plaintext), `packet ${i}`).toBe('bad-inner-packet');
      expect(node.send(plaintext), `packet ${i}`).toBe('not-ip');
    }
    expect(peer.send(concat(good, new Uint8Array(1000)))).toBe('deliver');
    expect(node.delivered.map(({ packet }) => packet.length)).toEqual([64]);
  });

  it('survives a thousand authentic packets of any content', () => {
    const world = new World({ seed: 23, crypto: quick });
    const node = world.add('node');
    const inner = ip('10.3.0.1');
    const peer = insider(world, node, inner, { address: ip('0.0.0.0'), length: 0 });
    for (let i = 0; i < 1_000; i++) {
      const plaintext = random.bytes(random.below(200));
      if (plaintext.length > 0 && random.chance(0.8)) plaintext[0] = random.chance(0.5) ? 0x45 : 0x60;
      if (plaintext.length > 5 && random.chance(0.5)) plaintext.set([0, random.below(256)], random.chance(0.5) ? 2 : 4);
      expect(['deliver', 'bad-inner-packet', 'refused-source', 'consumed']).toContain(peer.send(plaintext));
    }
    for (const { packet } of node.delivered) expect(packet[0]! >>> 4).toBe(4);
  });
});

describe('roaming', () => {
  it('follows authentic data, keepalives, initiations and responses', () => {
    const [world, a, b] = paired(30);
    world.run(6 * SECOND);
    const remote = (): string => `${statusOf(b, a).endpoint?.address.join('.')}:${statusOf(b, a).endpoint?.port}`;
    a.move([outer(50, 1)]);
    world.ping(a, b);
    world.run(0);
    expect(remote()).toBe('192.0.2.50:1');
    expect(b.eventsOf('roamed').length).toBe(1);
    a.move([outer(51, 65_535)]);
    a.configure({ peers: [{ publicKey: b.publicKey, persistentKeepalive: 1 }] });
    world.run(0);
    expect(remote()).toBe('192.0.2.51:65535');
    a.configure({ peers: [{ publicKey: b.publicKey, persistentKeepalive: 0 }] });
    world.run(6 * SECOND);
    world.network.filter = ({ kind }) => kind === 'initiation';
    a.move([outer(52)]);
    a.rekey();
    world.run(0);
    expect(remote()).toBe('192.0.2.52:51820');
    world.network.filter = () => true;
    world.run(10 * SECOND);
    // b asks; a answers from elsewhere.
    b.rekey();
    a.move([outer(52), outer(53)]);
    world.network.filter = ({ kind, from, bytes }) => {
      if (kind === 'response' && from === 'a') {
        b.accept(bytes, outer(53));
        return false;
      }
      return true;
    };
    world.run(0);
    expect(remote()).toBe('192.0.2.53:51820');
  });

  it('follows an authentic packet whose inner source is refused', () => {
    const world = new World({ seed: 31, crypto: quick });
    const node = world.add('node');
    const peer = insider(world, node, ip('10.3.0.1'));
    expect(peer.send(ipPacket(ip('10.3.0.99'), node.inner), outer(60))).toBe('refused-source');
    expect(node.device.status(node.now).peers[0]!.endpoint).toEqual(outer(60));
  });

  it('does not follow replays, forgeries or cookie replies', () => {
    const [world, a, b] = paired(32);
    world.ping(a, b);
    world.run(SECOND);
    const before = statusOf(b, a).endpoint;
    const recorded = world.log.of({ from: 'a' });
    expect(new Set(recorded.map(({ kind }) => kind))).toEqual(new Set(['initiation', 'keepalive', 'data']));
    for (const { bytes } of recorded) {
      b.accept(bytes, outer(66));
      const forged = bytes.slice();
      forged[forged.length - 1]! ^= 1;
      b.accept(forged, outer(66));
      world.run(0);
    }
    expect(statusOf(b, a).endpoint).toEqual(before);
    expect(b.device.status(b.now).drops.replay).toBe(2);
    // A cookie reply to a's initiation, recorded and played from elsewhere.
    const [c, d] = [world.add('c'), world.add('d')];
    world.connect(c, d);
    world.network.filter = () => false;
    c.rekey();
    world.run(0);
    const { bytes: initiation } = world.log.of({ from: 'c', kind: 'initiation' })[0]!;
    const reply = paper.cookieReply({
      responderPublic: d.publicKey,
      receiver: paper.readU32(initiation, 4),
      nonce: random.bytes(24),
      cookie: random.bytes(16),
      mac1: initiation.slice(116, 132),
    });
    c.accept(reply, outer(66));
    world.run(0);
    expect(c.eventsOf('cookie-received').length).toBe(1);
    expect(statusOf(c, d).endpoint).toEqual(d.endpoint);
  });

  it('loses at most one packet a move while a client moves every 5 s for 10 min', () => {
    const world = new World({ seed: 33, crypto: quick, keyPool: 4, link: { delay: 20 } });
    const [a, b] = world.pair();
    a.rekey();
    world.run(SECOND);
    let sent = 0;
    for (let move = 0; move < 120; move++) {
      a.move([move % 2 === 0 ? outer(10 + move, 1_000 + move) : outer6(10 + move)]);
      a.configure({ peers: [{ publicKey: b.publicKey, endpoint: b.endpoints[move % 2]! }] });
      for (let i = 0; i < 50; i++) {
        world.ping(a, b, sent);
        world.ping(b, a, sent++);
        world.run(100);
      }
    }
    world.run(SECOND);
    expect(b.delivered.length).toBe(sent);
    expect(sent - a.delivered.length).toBeLessThanOrEqual(120);
  });

  it('answers from the address that was spoken to', () => {
    const world = new World({ seed: 34, crypto: quick });
    const [a, b] = world.pair();
    b.move([outer(70), outer(71)]);
    b.pinsSource = true;
    a.configure({ peers: [{ publicKey: b.publicKey, endpoint: outer(71) }] });
    world.ping(a, b);
    world.run(0);
    world.ping(b, a);
    world.run(0);
    expect(new Set(world.log.of({ from: 'b' }).map(({ source }) => source.address[3]))).toEqual(new Set([71]));
    expect(statusOf(a, b).endpoint?.address[3]).toBe(71);
    // Who sets an endpoint wants the system to choose the way there.
    b.configure({ peers: [{ publicKey: a.publicKey, endpoint: a.endpoint }] });
    expect(statusOf(b, a).endpoint?.source).toBeUndefined();
  });
});

describe('garbage', () => {
  /** Everything that may be seen of a device but its drop counters. */
  const stateOf = (node: Node): unknown => {
    const { drops: _, ...rest } = node.device.status(node.now);
    // A recorded initiation is authentic whatever its unused mac2 says: refusing it is told, and changes nothing else.
    const events = node.events.filter(({ event }) => event.type !== 'handshake-refused');
    return [rest, node.device.nextDeadline(), events.length, node.delivered.length];
  };

  it('of every length from 0 to 65,507 changes nothing and is not answered', () => {
    const [world, a, b] = paired(40);
    world.ping(a, b);
    world.run(MINUTE);
    const index = world.log.of({ from: 'a', kind: 'data' }).at(-1)!.bytes.slice(4, 8);
    const before = stateOf(b);
    const sent = world.log.of({ from: 'b' }).length;
    const noise = random.bytes(66_000);
    const buffer = new Uint8Array(66_000);
    const batch = new PacketBatch(buffer, 1);
    const open = (length: number, header: readonly number[] | undefined): void => {
      buffer.set(noise.subarray(0, length));
      if (header !== undefined) buffer.set(header.slice(0, length));
      batch.clear();
      batch.push(0, length, outer(90));
      b.device.open(batch, b.now);
      const verdict = batch.verdicts[0]!;
      if (verdict < FIRST_DROP && verdict !== VERDICT.consumed) expect.fail(`length ${length}: verdict ${verdict}`);
      // Well-formed handshake messages wait for the next tick, which must have nothing to say about them.
      if (verdict === VERDICT.consumed) {
        const output = b.device.tick(b.now, b.unixMs);
        expect([output.datagrams.length, output.events.length]).toEqual([0, 0]);
      }
    };
    for (let length = 0; length <= 65_507; length++) {
      open(length, undefined);
      open(length, [1 + (length & 3), 0, 0, 0]);
      if (length < 2_000 || length % 997 === 0) open(length, [4, 0, 0, 0, ...index]);
    }
    for (const length of [31, 32, 33, 63, 64, 65, 91, 92, 93, 147, 148, 149]) {
      for (const type of [0, 1, 2, 3, 4, 5, 255]) {
        for (const reserved of [0, 1, 128]) open(length, [type, reserved, 0, 0]);
      }
    }
    world.run(0);
    expect(stateOf(b)).toEqual(before);
    expect(world.log.of({ from: 'b' }).length).toBe(sent);
    expect(b.device.status(b.now).drops.malformed).toBeGreaterThan(65_507);
    world.ping(a, b);
    world.run(0);
    expect(b.delivered.length).toBe(2);
  });

  it('made of real messages with bits flipped, cut or grown changes nothing', () => {
    const [world, a, b] = paired(41);
    world.ping(a, b);
    world.ping(b, a);
    world.run(MINUTE);
    const real = world.log.entries.map(({ bytes }) => bytes);
    const [beforeA, beforeB] = [stateOf(a), stateOf(b)];
    const sent = world.log.entries.length;
    for (let i = 0; i < 20_000; i++) {
      let bytes: Uint8Array = real[random.below(real.length)]!.slice();
      const how = random.below(4);
      if (how === 0) bytes = bytes.subarray(0, random.below(bytes.length));
      else if (how === 1) bytes = concat(bytes, random.bytes(1 + random.below(20)));
      else for (let n = random.below(4); n >= 0; n--) bytes[random.below(bytes.length)]! ^= 1 << random.below(8);
      (random.chance(0.5) ? a : b).accept(bytes, outer(91));
      if (i % 16 === 0) world.run(0);
    }
    world.run(0);
    expect(world.log.entries.length).toBe(sent);
    expect(stateOf(a)).toEqual(beforeA);
    expect(stateOf(b)).toEqual(beforeB);
  });

  it('from port 0, to which nothing can be sent back, is not even looked at', () => {
    const [world, a, b] = paired(42);
    const nowhere = { ...outer(92), port: 0 };
    world.ping(a, b);
    const [first] = world.log.of({ from: 'a', kind: 'initiation' });
    world.network.filter = () => false;
    a.rekey();
    world.run(30);
    const fresh = world.log.of({ from: 'a', kind: 'initiation' }).at(-1)!;
    expect(fresh.bytes).not.toEqual(first!.bytes);
    const before = stateOf(b);
    const sent = world.log.of({ from: 'b' }).length;
    for (const { bytes } of [fresh, ...world.log.of({ from: 'a' })]) {
      expect(b.accept(bytes, nowhere)).toBe('malformed');
    }
    world.run(0);
    expect(world.log.of({ from: 'b' }).length).toBe(sent);
    expect(stateOf(b)).toEqual(before);
  });
});
