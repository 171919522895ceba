/** The small parts: indexes, sessions, staging, deadlines, message and packet shapes, keys as text. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { generator } from '../../../test/sim/random.ts';
import { HEADROOM, TAILROOM } from '../src/batch.ts';
import { DeadlineQueue } from '../src/deadline-queue.ts';
import type { Scheduled } from '../src/deadline-queue.ts';
import { DROP_REASONS, DropCounters, dropReason, dropVerdict, VERDICT } from '../src/drops.ts';
import type { Endpoint } from '../src/endpoint.ts';
import { sameEndpoint, sameRemote, withoutSource } from '../src/endpoint.ts';
import { IndexTable } from '../src/index-table.ts';
import { destinationOffset, ipPacketLength, isIpv4, sourceOffset } from '../src/ip.ts';
import type { PacketOpener, PacketSealer } from '../src/crypto.ts';
import { Keypair } from '../src/keypair.ts';
import { Keypairs } from '../src/keypairs.ts';
import { formatKey, generatePrivateKey, isSmaller, isZeroKey, keyId, parseKey } from '../src/keys.ts';
import { messageType } from '../src/messages.ts';
import { nobleCrypto } from '../src/noble.ts';
import { sealCopy, sealInPlace } from '../src/seal.ts';
import { StagingQueue } from '../src/staging.ts';
import { concat, hex } from './support/bytes.ts';
import { keypairInput } from './support/keypair-input.ts';
import * as paper from './support/paper.ts';

const random = generator(7);

describe('IndexTable', () => {
  it('gives uniform indexes (chi-square over each byte, 10,000 draws)', () => {
    const table = new IndexTable<number>((length) => random.bytes(length));
    const counts = Array.from({ length: 4 }, () => new Float64Array(256));
    for (let i = 0; i < 10_000; i++) {
      const index = table.insert(i);
      expect(index).toBe(index >>> 0);
      for (let byte = 0; byte < 4; byte++) counts[byte]![(index >>> (8 * byte)) & 0xff]! += 1;
    }
    const expected = 10_000 / 256;
    for (const bytes of counts) {
      const chi = bytes.reduce((sum, n) => sum + (n - expected) ** 2 / expected, 0);
      // 255 degrees of freedom: one in a million lies above 377.
      expect(chi).toBeLessThan(377);
    }
  });

  it('draws again when an index is taken', () => {
    const draws = [1, 1, 2].map((n) => Uint8Array.of(n, 0, 0, 0x80));
    const table = new IndexTable<string>(() => draws.shift()!);
    expect(table.insert('a')).toBe(0x80000001);
    expect(table.insert('b')).toBe(0x80000002);
    expect(table.lookup(0x80000001)).toBe('a');
    expect(table.size).toBe(2);
    table.delete(0x80000001);
    expect([table.lookup(0x80000001), table.lookup(0x80000002), table.size]).toEqual([undefined, 'b', 1]);
  });
});

describe('Keypairs', () => {
  const indexes = (): IndexTable<string> => new IndexTable<string>((length) => random.bytes(length));
  const wiped: number[] = [];

  function keypair(
    table: IndexTable<string>,
    isInitiator: boolean,
    createdAt = 0,
    yields = false,
    derivedKey = 0,
  ): Keypair {
    const localIndex = table.insert('x');
    const half = { seal: (): void => {}, open: (): boolean => true, wipe: (): void => void wiped.push(localIndex) };
    return new Keypair({
      ...keypairInput({ sealer: half, opener: half }),
      isInitiator,
      localIndex,
      createdAt,
      renewAt: Infinity,
      yields,
      derivedKey,
    });
  }

  it('an initiator sends on the new session at once and still opens the one before', () => {
    const table = indexes();
    const pairs = new Keypairs(table);
    const [a, b, c] = [keypair(table, true), keypair(table, true), keypair(table, true)];
    pairs.begin(a);
    pairs.begin(b);
    expect([pairs.current, pairs.previous, pairs.next]).toEqual([b, a, undefined]);
    pairs.begin(c);
    expect([pairs.current, pairs.previous]).toEqual([c, b]);
    expect(wiped).toContain(a.localIndex);
    expect(table.size).toBe(2);
    expect(a.canSend(0) || a.canReceive(0)).toBe(false);
  });

  it('a responder sends on the new session only after a packet came on it', () => {
    const table = indexes();
    const pairs = new Keypairs(table);
    const [a, b, c] = [keypair(table, false), keypair(table, false), keypair(table, false)];
    pairs.begin(a);
    expect([pairs.current, pairs.next]).toEqual([undefined, a]);
    expect(pairs.confirm(a, 0)).toBe(true);
    expect(pairs.confirm(a, 0)).toBe(false);
    expect([pairs.current, pairs.next]).toEqual([a, undefined]);
    pairs.begin(b);
    pairs.begin(c);
    expect([pairs.current, pairs.previous, pairs.next]).toEqual([a, undefined, c]);
    expect(table.size).toBe(2);
    expect(pairs.confirm(b, 0)).toBe(false);
    expect(pairs.confirm(c, 0)).toBe(true);
    expect([pairs.current, pairs.previous, pairs.next]).toEqual([c, a, undefined]);
  });

  it('of two that crossed, the side that yields sends where the peer last sent, whatever came in between', () => {
    const table = indexes();
    const pairs = new Keypairs(table);
    const [before, theirs, ours] = [keypair(table, true), keypair(table, false), keypair(table, true, 0, true)];
    pairs.begin(before);
    pairs.begin(theirs);
    pairs.begin(ours);
    expect([pairs.current, pairs.previous, pairs.next]).toEqual([ours, theirs, undefined]);
    expect(table.size).toBe(2);
    for (const [packetOn, sendsOn] of [
      [ours, ours],
      [theirs, theirs],
      [theirs, theirs],
      [ours, ours],
      [theirs, theirs],
    ] as const) {
      expect(pairs.confirm(packetOn, 0)).toBe(false);
      expect(pairs.current).toBe(sendsOn);
      expect(new Set([pairs.current, pairs.previous])).toEqual(new Set([ours, theirs]));
    }
  });

  it('of two that crossed, the other side moves only when it heard nothing on its own for 2 s', () => {
    for (const heard of [true, false]) {
      const table = indexes();
      const pairs = new Keypairs(table);
      const [theirs, ours] = [keypair(table, false, 1_000), keypair(table, true, 1_000)];
      pairs.begin(theirs);
      pairs.begin(ours);
      if (heard) pairs.confirm(ours, 1_500);
      pairs.confirm(theirs, 2_999.9);
      expect([pairs.current, pairs.previous]).toEqual([ours, theirs]);
      pairs.confirm(theirs, 3_000);
      expect([pairs.current, pairs.previous]).toEqual(heard ? [ours, theirs] : [theirs, ours]);
      pairs.confirm(ours, 10_000);
      pairs.confirm(theirs, 20_000);
      pairs.confirm(ours, 30_000);
      expect([pairs.current, pairs.previous]).toEqual(heard ? [ours, theirs] : [theirs, ours]);
    }
  });

  it.each([
    ['is not left for one without', 5, 0, false],
    ['is left for one with another', 5, 6, true],
    ['is what the side without one moves to', 0, 6, true],
    ['is no matter where neither has one', 0, 0, true],
  ])('of two that crossed, a derived key %s', (_, own, other, moves) => {
    const table = indexes();
    const pairs = new Keypairs(table);
    const theirs = keypair(table, false, 0, false, other);
    const ours = keypair(table, true, 0, true, own);
    pairs.begin(theirs);
    pairs.begin(ours);
    pairs.confirm(theirs, 10_000);
    expect(pairs.current).toBe(moves ? theirs : ours);
  });

  it.each([true, false])('what comes late on an ordinary previous session changes nothing (yields: %s)', (yields) => {
    const table = indexes();
    const pairs = new Keypairs(table);
    const [a, b, c] = [true, true, false].map((isInitiator) => keypair(table, isInitiator, 0, yields)) as [
      Keypair,
      Keypair,
      Keypair,
    ];
    pairs.begin(a);
    pairs.begin(b);
    expect(pairs.confirm(a, 10_000)).toBe(false);
    expect([pairs.current, pairs.previous]).toEqual([b, a]);
    pairs.begin(c);
    expect(pairs.confirm(c, 10_000)).toBe(true);
    expect(pairs.confirm(b, 20_000)).toBe(false);
    expect([pairs.current, pairs.previous]).toEqual([c, b]);
  });

  it.each(['an own handshake', "the peer's"])('a crossing is over with %s', (which) => {
    const table = indexes();
    const pairs = new Keypairs(table);
    const [theirs, ours] = [keypair(table, false), keypair(table, true, 0, true)];
    pairs.begin(theirs);
    pairs.begin(ours);
    const later = keypair(table, which === 'an own handshake');
    pairs.begin(later);
    // Until it is there for both, what the peer sends on is kept.
    if (!later.isInitiator) expect([pairs.current, pairs.previous, pairs.next]).toEqual([ours, theirs, later]);
    pairs.confirm(later, 10_000);
    expect([pairs.current, pairs.previous]).toEqual([later, ours]);
    pairs.confirm(ours, 20_000);
    expect([pairs.current, pairs.previous]).toEqual([later, ours]);
  });

  it('none can send after a change of identity, all still receive', () => {
    const table = indexes();
    const pairs = new Keypairs(table);
    const all = [keypair(table, true), keypair(table, true), keypair(table, false)];
    for (const pair of all) pairs.begin(pair);
    new Keypairs(indexes()).stopSending();
    pairs.stopSending();
    expect(all.map((pair) => pair.canSend(0))).toEqual([false, false, false]);
    expect(all.map((pair) => pair.canReceive(0))).toEqual([true, true, true]);
  });

  it('expires at 180.000 s, not before', () => {
    const table = indexes();
    const pairs = new Keypairs(table);
    const pair = keypair(table, true, 1_000);
    pairs.begin(pair);
    expect(pairs.retireExpired(180_999.999)).toBe(181_000);
    expect(pair.canSend(180_999.999) && pair.canReceive(180_999.999)).toBe(true);
    expect(pair.canSend(181_000) || pair.canReceive(181_000)).toBe(false);
    expect(pairs.retireExpired(181_000)).toBe(Infinity);
    expect(pairs.current).toBeUndefined();
    expect(table.size).toBe(0);
    expect(wiped).toContain(pair.localIndex);
  });

  it('never holds more than three sessions nor leaks an index, in any order', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(4), { maxLength: 60, size: 'max' }), (steps) => {
        const table = indexes();
        const pairs = new Keypairs(table);
        let now = 0;
        for (const step of steps) {
          now += 1_000;
          if (step === 0) pairs.begin(keypair(table, true, now));
          else if (step === 1) pairs.begin(keypair(table, false, now));
          else if (step === 2 && pairs.next !== undefined) pairs.confirm(pairs.next, now);
          else if (step === 3) pairs.retireExpired(now);
          else if (step === 4) now += 50_000;
          const held = [pairs.current, pairs.previous, pairs.next].filter((pair) => pair !== undefined);
          expect(new Set(held).size).toBe(held.length);
          expect(table.size).toBe(held.length);
          for (const pair of held) expect(table.lookup(pair.localIndex)).toBe('x');
        }
        pairs.clear();
        expect(table.size).toBe(0);
      }),
      { numRuns: 60, seed: 3 },
    );
  });
});

describe('Keypair counters', () => {
  const aead = nobleCrypto.aead('chacha20poly1305');
  const key = new Uint8Array(32);
  const INPUT = keypairInput({ sealer: aead.sealer(key), opener: aead.opener(key) });
  const at = (counter: bigint): Keypair => {
    const pair = new Keypair(INPUT);
    pair.counterLow = Number(counter & 0xffffffffn);
    pair.counterHigh = Number(counter >> 32n);
    return pair;
  };
  const valueOf = (pair: Keypair): bigint => (BigInt(pair.counterHigh) << 32n) | BigInt(pair.counterLow);
  const REJECT = 2n ** 64n - 2n ** 13n - 1n;

  it.each([
    0n,
    2n ** 31n - 1n,
    2n ** 31n,
    2n ** 32n - 1n,
    2n ** 32n,
    2n ** 53n - 1n,
    2n ** 53n,
    2n ** 60n,
    2n ** 63n,
    REJECT - 3n,
  ])('counts on exactly from %s', (start) => {
    const pair = at(start);
    for (let i = 1n; i <= 3n; i++) {
      pair.advanceCounter();
      expect(valueOf(pair)).toBe(start + i);
    }
  });

  it('sends 2^64 - 2^13 - 1 packets and not one more', () => {
    expect(at(REJECT - 1n).canSend(0)).toBe(true);
    expect(at(REJECT).canSend(0)).toBe(false);
    expect(at(2n ** 64n - 1n).canSend(0)).toBe(false);
  });

  it('sends whatever either half of the counter is, and nothing after `stopSending`', () => {
    for (const counter of [2n ** 32n - 1n, 2n ** 32n, 2n ** 60n, REJECT - 2n ** 32n]) {
      const pair = at(counter);
      expect([pair.canSend(0), pair.claim(0, 1), pair.claim(180_000, 1)]).toEqual([true, true, false]);
      pair.stopSending();
      expect([valueOf(pair), pair.canSend(0), pair.claim(0, 1)]).toEqual([REJECT, false, false]);
      expect(pair.canReceive(0)).toBe(true);
    }
  });

  it.each([true, false])('erases its ciphers once (opens: %s)', (opens) => {
    const erased: string[] = [];
    const half = (name: string): PacketSealer & PacketOpener => ({
      seal: (): void => {},
      open: (): boolean => true,
      wipe: (): void => void erased.push(name),
    });
    const pair = new Keypair({
      ...INPUT,
      sealer: half('sealer'),
      opener: opens ? half('opener') : undefined,
    });
    expect([pair.isConfirmed, pair.canSend(0), pair.canReceive(0)]).toEqual([false, true, true]);
    pair.confirm();
    expect(pair.isConfirmed).toBe(true);
    pair.wipe();
    pair.wipe();
    expect(erased).toEqual(opens ? ['sealer', 'opener'] : ['sealer']);
    expect([pair.canSend(0), pair.canReceive(0)]).toEqual([false, false]);
  });

  it('asks for renewal from 2^60 packets or the given time on', () => {
    expect(at(2n ** 60n - 1n).needsRenewal(119_999)).toBe(false);
    expect(at(2n ** 60n + 1n).needsRenewal(0)).toBe(true);
    expect(at(0n).needsRenewal(120_000)).toBe(true);
  });
});

describe('StagingQueue', () => {
  it('holds 128 packets, the oldest goes first, and erases what it gives up', () => {
    const queue = new StagingQueue();
    const packets = Array.from({ length: 200 }, (_, i) => Uint8Array.of(i, 1));
    const overflowed = packets.map((packet) => queue.push(packet)).filter(Boolean).length;
    expect(overflowed).toBe(72);
    expect(queue.length).toBe(128);
    expect(packets[71]).toEqual(Uint8Array.of(0, 0));
    expect(queue.drain().map((packet) => packet[0])).toEqual(Array.from({ length: 128 }, (_, i) => i + 72));
    queue.push(packets[199]!);
    expect(queue.clear()).toBe(1);
    expect(packets[199]).toEqual(Uint8Array.of(0, 0));
    expect(queue.length).toBe(0);
  });
});

describe('DeadlineQueue', () => {
  it('always names the earliest deadline', () => {
    class Item implements Scheduled {
      scheduledAt = Infinity;
      heapIndex = -1;
      at = Infinity;
      deadline(): number {
        return this.at;
      }
    }
    const step = fc.tuple(fc.nat(31), fc.nat(1_000), fc.nat(5));
    fc.assert(
      fc.property(fc.array(step, { maxLength: 100, size: 'max' }), (steps) => {
        const queue = new DeadlineQueue<Item>();
        const items = Array.from({ length: 32 }, () => new Item());
        const check = (): Item | undefined => {
          const first = queue.first();
          expect(first?.at ?? Infinity).toBe(Math.min(...items.map(({ at }) => at)));
          return first;
        };
        for (const [which, at, kind] of steps) {
          const item = items[which]!;
          if (kind === 0) {
            item.at = Infinity;
            queue.remove(item);
          } else if (kind === 1) {
            // Cleared without telling the queue.
            item.at = Infinity;
          } else {
            item.at = at;
            queue.schedule(item, at);
          }
          check();
        }
        // As a tick goes through what is due.
        for (let first = check(); first !== undefined; first = check()) first.at = Infinity;
      }),
      { numRuns: 100, seed: 5 },
    );
  });
});

describe('messageType', () => {
  it('knows 148, 92, 64 and 32 or more bytes behind a type and three zeros, and nothing else', () => {
    const bytes = new Uint8Array(300);
    const view = new DataView(bytes.buffer);
    for (let type = 0; type < 256; type++) {
      bytes[7] = type;
      for (let length = 0; length <= 200; length++) {
        const right =
          (type === 1 && length === 148) ||
          (type === 2 && length === 92) ||
          (type === 3 && length === 64) ||
          (type === 4 && length >= 32);
        if (messageType(view, 7, length) !== (right ? type : 0)) expect.fail(`type ${type}, ${length} bytes`);
      }
      for (let reserved = 8; reserved < 11; reserved++) {
        bytes[reserved] = 1 << (type & 7);
        for (const length of [148, 92, 64, 32]) expect(messageType(view, 7, length)).toBe(0);
        bytes[reserved] = 0;
      }
    }
  });
});

describe('ipPacketLength', () => {
  it('believes no header that does not fit', () => {
    const bytes = new Uint8Array(128);
    const view = new DataView(bytes.buffer);
    bytes[4] = 0x45;
    for (let total = 0; total < 100; total++) {
      view.setUint16(6, total);
      for (let length = 0; length < 100; length++) {
        expect(ipPacketLength(view, 4, length)).toBe(length >= 20 && total >= 20 && total <= length ? total : 0);
      }
    }
    bytes[4] = 0x60;
    for (let payload = 0; payload < 100; payload++) {
      view.setUint16(8, payload);
      for (let length = 0; length < 100; length++) {
        expect(ipPacketLength(view, 4, length)).toBe(length >= 40 && payload + 40 <= length ? payload + 40 : 0);
      }
    }
    view.setUint16(8, 0xffff);
    expect(ipPacketLength(view, 4, 100)).toBe(0);
    for (const version of [0, 1, 2, 3, 5, 7, 8, 15]) {
      bytes.fill(0);
      bytes[4] = version << 4;
      view.setUint16(6, 60);
      expect(ipPacketLength(view, 4, 60)).toBe(0);
    }
  });

  it.each([0x45, 0x60])('looks at nothing behind the last byte (%i)', (first) => {
    for (let length = 1; length < 20; length++) {
      const bytes = new Uint8Array(length).fill(first, 0, 1);
      expect(ipPacketLength(new DataView(bytes.buffer), 0, length)).toBe(0);
    }
    expect(ipPacketLength(new DataView(new ArrayBuffer(0)), 0, 0)).toBe(0);
  });
});

describe('the order of keys', () => {
  const key = (at: number, byte: number): Uint8Array => new Uint8Array(32).fill(128).fill(byte, at, at + 1);

  it.each([0, 1, 30, 31])('is that of byte %i when those before it are equal', (at) => {
    for (const [a, b] of [
      [127, 129],
      [1, 255],
      [0, 128],
    ] as const) {
      expect([isSmaller(key(at, a), key(at, b)), isSmaller(key(at, b), key(at, a))]).toEqual([true, false]);
      expect(keyId(key(at, a))).not.toBe(keyId(key(at, b)));
    }
    expect(isSmaller(key(at, 7), key(at, 7))).toBe(false);
    expect(keyId(key(at, 7))).toBe(keyId(key(at, 7).slice()));
  });
});

describe('addresses of a packet', () => {
  it.each([
    [4, 12, 16, true],
    [6, 8, 24, false],
  ])('lie where IPv%i has them', (version, source, destination, isFour) => {
    const view = new DataView(new ArrayBuffer(64));
    view.setUint8(5, (version << 4) | 0xf);
    expect(sourceOffset(view, 5)).toBe(5 + source);
    expect(destinationOffset(view, 5)).toBe(5 + destination);
    expect(isIpv4(view, 5)).toBe(isFour);
  });
});

describe('endpoints', () => {
  const source = { address: Uint8Array.of(192, 0, 2, 1), interfaceIndex: 3 };
  const whole: Endpoint = { address: Uint8Array.of(10, 0, 0, 1), port: 5, scopeId: 0, source };
  const copy: Endpoint = {
    ...whole,
    address: whole.address.slice(),
    source: { ...source, address: source.address.slice() },
  };

  it.each<[string, Endpoint, boolean, boolean]>([
    ['itself', whole, true, true],
    ['a copy', copy, true, true],
    ['another port', { ...copy, port: 6 }, false, false],
    ['another scope', { ...copy, scopeId: 1 }, false, false],
    ['another first byte', { ...copy, address: Uint8Array.of(11, 0, 0, 1) }, false, false],
    ['another last byte', { ...copy, address: Uint8Array.of(10, 0, 0, 2) }, false, false],
    ['a longer address', { ...copy, address: Uint8Array.of(10, 0, 0, 1, 0) }, false, false],
    ['a shorter address', { ...copy, address: Uint8Array.of(10, 0, 0) }, false, false],
    ['another source', { ...copy, source: { ...source, address: Uint8Array.of(192, 0, 2, 2) } }, true, false],
    ['another interface', { ...copy, source: { ...source, interfaceIndex: 4 } }, true, false],
    ['no source', withoutSource(copy), true, false],
  ])('are compared with %s', (_, other, remote, all) => {
    expect([sameRemote(whole, other), sameEndpoint(whole, other)]).toEqual([remote, all]);
    expect([sameRemote(other, whole), sameEndpoint(other, whole)]).toEqual([remote, all]);
  });

  it('are the same without their sources, which are left out whole', () => {
    const { address, port, scopeId } = whole;
    const bare = withoutSource(whole);
    expect(bare).toStrictEqual({ address, port, scopeId });
    expect(withoutSource(bare)).toBe(bare);
    expect(sameEndpoint(bare, withoutSource(copy))).toBe(true);
  });
});

describe('DropCounters', () => {
  it('count every reason by itself, and give and take what another lane counted', () => {
    const drops = new DropCounters();
    expect([drops.isEmpty, drops.take()]).toEqual([true, []]);
    for (const [i, reason] of DROP_REASONS.entries()) {
      expect(dropReason(dropVerdict(reason))).toBe(reason);
      for (let n = 0; n < i; n++) drops.add(dropVerdict(reason));
    }
    expect(dropReason(VERDICT.elsewhere)).toBeUndefined();
    const counts = DROP_REASONS.map((reason, i) => [reason, i] as const);
    expect(drops.snapshot()).toEqual(Object.fromEntries(counts));
    expect(drops.isEmpty).toBe(false);
    const taken = drops.take();
    expect(taken).toEqual(counts.slice(1).map(([reason, i]) => [dropVerdict(reason), i]));
    expect([drops.isEmpty, drops.snapshot().malformed, drops.snapshot().replay]).toEqual([true, 0, 0]);
    for (let n = 0; n < 2; n++) drops.addMany(taken);
    expect(drops.snapshot()).toEqual(Object.fromEntries(counts.map(([reason, i]) => [reason, 2 * i])));
  });
});

describe('sealing a packet', () => {
  it.each([
    [0, 0, 0],
    [1, 0, 16],
    [16, 0, 16],
    [17, 0, 32],
    [17, 32, 32],
    [17, 31, 31],
    [17, 17, 17],
    [17, 16, 17],
    [17, 1, 17],
    [1_420, 1_420, 1_420],
    [1_411, 1_420, 1_420],
    [1_400, 1_420, 1_408],
    [17, 1_420, 32],
  ])('of %i bytes at an MTU of %i makes %i (paper section 5.4.6)', (length, mtu, padded) => {
    const aead = nobleCrypto.aead('chacha20poly1305');
    const key = random.bytes(32);
    const pair = new Keypair({
      ...keypairInput({ sealer: aead.sealer(key), opener: undefined }),
      remoteIndex: 0x89abcdef,
    });
    pair.counterLow = 0xffff_ffff;
    pair.counterHigh = 0x1234_5678;
    const packet = random.bytes(length);
    const plain = concat(packet, new Uint8Array(padded - length));
    expect(hex(sealCopy(pair, packet, mtu))).toBe(hex(paper.data(key, 0x89abcdef, 0x1234_5678_ffff_ffffn, plain)));
    expect([pair.counterLow, pair.counterHigh]).toEqual([0, 0x1234_5679]);
    // In place: nothing but the datagram is touched, whatever lay behind the packet.
    const buffer = new Uint8Array(HEADROOM + length + TAILROOM + 8).fill(0xee);
    buffer.set(packet, 4 + HEADROOM);
    const made = sealInPlace(pair, buffer, new DataView(buffer.buffer), 4 + HEADROOM, length, mtu);
    expect(hex(buffer.subarray(4, 4 + made))).toBe(hex(paper.data(key, 0x89abcdef, 0x1234_5679_0000_0000n, plain)));
    expect(hex(buffer.subarray(0, 4)) + hex(buffer.subarray(4 + made))).toMatch(/^(ee)+$/);
  });
});

describe('keys as text', () => {
  it.each([0, 1, 2, 3, 31, 32, 33])('is base64 of %i bytes', (length) => {
    const bytes = random.bytes(length);
    expect(formatKey(bytes)).toBe(btoa(String.fromCharCode(...bytes)));
  });

  it('round-trips, clamps and refuses what is not canonical', () => {
    for (let i = 0; i < 200; i++) {
      const key = generatePrivateKey((length) => random.bytes(length));
      expect(key[0]! & 7).toBe(0);
      expect(key[31]! & 0xc0).toBe(0x40);
      const text = formatKey(key);
      expect(text).toBe(btoa(String.fromCharCode(...key)));
      expect(parseKey(text)).toEqual(key);
    }
    const good = formatKey(random.bytes(32));
    const bad = [
      '',
      good.slice(1),
      `${good}=`,
      good.slice(0, 43),
      `${good.slice(0, 43)}A`,
      ` ${good.slice(1)}`,
      good.replace(/^./, '-'),
      `${good.slice(0, 42)}==`,
      `${'A'.repeat(42)}B=`,
      '='.repeat(44),
      `${good.slice(0, 43)}\n`,
    ];
    for (const text of bad) expect(parseKey(text), JSON.stringify(text)).toBeUndefined();
    expect(isZeroKey(new Uint8Array(32))).toBe(true);
    expect(isZeroKey(new Uint8Array(32).fill(1, 31))).toBe(false);
  });
});
