/** The post-quantum exchange on the wire, opposite a second implementation of it that offers, and what a hostile peer can do with it. */
import { describe, expect, it } from 'vitest';
import { ipPacket } from '../../../test/sim/packets.ts';
import { generator } from '../../../test/sim/random.ts';
import { isAfter, labelled, labelOf, timestampAfter, timestampAt } from '../src/tai64n.ts';
import { concat, hex, unhex } from './support/bytes.ts';
import * as exchange from './support/exchange.ts';
import { dropsOf, inner, lab, namesakes, random, sessionOf, statusOf } from './support/outsider.ts';
import { HOUR, SECOND } from './support/spec.ts';

const PSK = generator(73).bytes(32);

describe('the answering side', () => {
  it('derives the key of the description, and uses it as soon as an initiation names it, not before', () => {
    const { node, outsider } = lab(1);
    expect(outsider.handshake()).toBe(true);
    expect(sessionOf(node)).toBe(false);
    const derived = outsider.offer()!;
    expect(outsider.handshake(0)).toBe(true);
    expect(outsider.handshake(derived.name, derived.key)).toBe(true);
    expect(sessionOf(node)).toBe(true);
    expect(outsider.send(ipPacket(inner, node.inner))).toBe('deliver');
  });

  it('mixes the configured preshared key in: the secret alone does not open the session', () => {
    const { node, outsider } = lab(2, { postQuantum: HOUR, presharedKey: PSK });
    expect(outsider.handshake(0, PSK)).toBe(true);
    const id = random.bytes(8);
    const derived = outsider.offer(id, PSK)!;
    expect(outsider.handshake(derived.name, derived.key)).toBe(true);
    expect(sessionOf(node)).toBe(true);
    const { secrets } = { secrets: node.device.secrets() };
    expect(secrets.presharedKeys.map(({ presharedKey }) => hex(presharedKey))).toEqual([hex(PSK)]);
  });

  it('answers a name that it does not know, and no name, with the configured key: whoever restarted gets in at once', () => {
    const { node, outsider } = lab(3);
    outsider.handshake();
    const derived = outsider.offer()!;
    expect(outsider.handshake(derived.name, derived.key)).toBe(true);
    expect(outsider.handshake(0)).toBe(true);
    expect(sessionOf(node)).toBe(false);
    expect(outsider.handshake(derived.name === 5 ? 6 : 5)).toBe(true);
    expect(outsider.handshake(derived.name, derived.key)).toBe(true);
    expect(sessionOf(node)).toBe(true);
  });

  it('keeps the older key until the newer one is named, then erases it', () => {
    const { node, world, outsider } = lab(4);
    outsider.handshake();
    const first = outsider.offer()!;
    expect(outsider.handshake(first.name, first.key)).toBe(true);
    world.run(10 * SECOND);
    const second = outsider.offer()!;
    expect(outsider.handshake(first.name, first.key)).toBe(true);
    expect(outsider.handshake(second.name, second.key)).toBe(true);
    expect(outsider.handshake(first.name, first.key)).toBe(false);
    expect(outsider.handshake(first.name)).toBe(true);
    expect(sessionOf(node)).toBe(false);
  });

  it('gives the same answer again to the same offer', () => {
    const { node, world, outsider } = lab(5);
    outsider.handshake();
    const offer = exchange.message(1, random.bytes(8), exchange.kem.keygen().publicKey);
    outsider.send(offer);
    world.run(0);
    const [first] = outsider.received();
    world.run(5 * SECOND);
    outsider.send(offer);
    world.run(0);
    const [second] = outsider.received();
    expect(hex(second!.body)).toBe(hex(first!.body));
    expect([dropsOf(node), statusOf(node)?.exchanges]).toEqual([0, 1]);
  });

  it('does not name a key until the peer is known to have it: its answer may be lost', () => {
    const { node, world, outsider } = lab(6);
    outsider.handshake();
    expect(outsider.offer()).toBeDefined();
    node.rekey();
    world.run(20);
    expect(outsider.answerHandshake()).toBe(0);
  });

  it('refuses an offer that comes while it has no private key', () => {
    const { node, world, outsider } = lab(7);
    outsider.handshake();
    node.configure({ privateKey: new Uint8Array(32) });
    outsider.send(exchange.message(1, random.bytes(8), exchange.kem.keygen().publicKey));
    world.run(SECOND);
    expect([outsider.received(), dropsOf(node)]).toEqual([[], 1]);
  });

  it('refuses a key that would have the name of another, and goes on with that one', () => {
    const { node, world, outsider } = lab(8, undefined, namesakes);
    outsider.handshake();
    const { key } = outsider.offer()!;
    const name = exchange.nameOf(new Uint8Array(32));
    expect(outsider.handshake(name, key)).toBe(true);
    world.run(5 * SECOND);
    expect(outsider.offer()).toBeUndefined();
    expect([dropsOf(node), statusOf(node)?.exchanges]).toEqual([1, 1]);
    expect(outsider.handshake(name, key)).toBe(true);
  });
});

describe('a peer that is not configured for it', () => {
  it('is sent nothing of it, and is not answered', () => {
    const { node, world, outsider } = lab(21, {});
    outsider.handshake();
    node.send(ipPacket(node.inner, inner));
    const offer = exchange.message(1, random.bytes(8), exchange.kem.keygen().publicKey);
    expect(outsider.send(offer)).toBe('bad-inner-packet');
    world.run(10 * SECOND);
    expect(outsider.received()).toEqual([]);
    expect(outsider.meetHandshake()).toBe(0);
    world.run(10 * SECOND);
    expect(outsider.received()).toEqual([]);
  });
});

describe('a hostile peer', () => {
  it('makes us compute once in five seconds at most, whatever it sends', () => {
    const { node, world, outsider } = lab(31);
    outsider.handshake();
    let answers = 0;
    for (let i = 0; i < 600; i++) {
      if (i % 10 === 0) outsider.send(exchange.message(1, random.bytes(8), exchange.kem.keygen().publicKey));
      outsider.send(exchange.message(1, random.bytes(8), random.bytes(1_184)));
      outsider.send(exchange.message(2, random.bytes(8), random.bytes(1_088)));
      world.run(100);
      answers += outsider.received().length;
    }
    expect(answers).toBeGreaterThan(0);
    expect(answers).toBeLessThanOrEqual(13);
    expect(node.device.status(node.now).peers[0]!.postQuantum!.exchanges).toBe(answers);
    expect(outsider.send(ipPacket(inner, node.inner))).toBe('deliver');
  });

  it('is answered again 5 s after the last answer, and refused 1 ms before', () => {
    const { node, world, outsider } = lab(33);
    outsider.handshake();
    expect(outsider.offer()).toBeDefined();
    world.run(5 * SECOND - 1);
    expect([outsider.offer(), dropsOf(node)]).toEqual([undefined, 1]);
    world.run(1);
    expect(outsider.offer()).toBeDefined();
    expect([dropsOf(node), statusOf(node)?.exchanges]).toEqual([1, 2]);
  });

  it('is refused what is not exactly a message', () => {
    const { outsider, world, node } = lab(32);
    outsider.handshake();
    const good = exchange.message(1, random.bytes(8), exchange.kem.keygen().publicKey);
    const broken = [
      good.subarray(0, -1),
      concat(good, Uint8Array.of(0)),
      concat(good, new Uint8Array(16)),
      ...[0, 1, 2, 3, 4, 5, 6, 7].map((at) => good.map((byte, i) => (i === at ? byte ^ 1 : byte))),
      exchange.message(2, random.bytes(8), new Uint8Array(1_184)),
      exchange.message(1, random.bytes(8), new Uint8Array(1_088)),
      good.subarray(0, 16),
    ];
    for (const [i, plaintext] of broken.entries()) {
      expect(outsider.send(plaintext), `message ${i}`).toBe('bad-inner-packet');
    }
    // Its coefficients are not reduced (FIPS 203 section 7.2), which only the one who computes sees.
    expect(outsider.send(exchange.message(1, random.bytes(8), new Uint8Array(1_184).fill(0xff)))).toBe('consumed');
    world.run(0);
    expect([outsider.received(), dropsOf(node)]).toEqual([[], 1]);
  });
});

describe('a timestamp with a label', () => {
  it('lies between its own and the next one, and is a valid TAI64N', () => {
    for (const unixMs of [0, 999, 1_767_225_600_123, 1_767_225_600_999]) {
      const plain = timestampAt(unixMs);
      const next = timestampAfter(plain, unixMs);
      for (const label of [1, 0x1234, 0x9ac9ff]) {
        const marked = labelled(plain, label);
        expect(labelOf(marked)).toBe(label);
        expect([isAfter(marked, plain), isAfter(next, marked)]).toEqual([true, true]);
        expect(new DataView(marked.buffer).getUint32(8)).toBeLessThan(1_000_000_000);
      }
      expect(hex(labelled(plain, 0))).toBe(hex(plain));
      expect(hex(timestampAfter(labelled(plain, 77), unixMs))).toBe(hex(next));
    }
    expect(labelOf(unhex('400000000000000a00000000'))).toBe(0);
  });
});
