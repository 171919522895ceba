/** The side that offers post-quantum exchanges, opposite a second implementation: when it does, what it takes, and which key it then asks for. */
import { describe, expect, it } from 'vitest';
import { ipPacket } from '../../../test/sim/packets.ts';
import { isSmaller } from '../src/keys.ts';
import { hex } from './support/bytes.ts';
import * as exchange from './support/exchange.ts';
import { dropsOf, inner, lab, namesakes, random, sessionOf, statusOf } from './support/outsider.ts';
import { JITTER, MINUTE, REKEY_TIMEOUT, SECOND } from './support/spec.ts';

describe('the offering side', () => {
  it('offers after its own handshake, derives the key of the description and names it in a new handshake at once', () => {
    const { node, world, outsider } = lab(11);
    expect(outsider.meetHandshake()).toBe(0);
    const [offer] = outsider.received();
    expect([offer!.type, offer!.body.length]).toEqual([1, 1_184]);
    const derived = outsider.answer(offer!);
    world.run(20);
    expect(outsider.answerHandshake(derived.key)).toBe(derived.name);
    expect(sessionOf(node)).toBe(true);
    expect(dropsOf(node)).toBe(0);
  });

  it('takes the configured key from a peer that has lost the derived one, and offers again', () => {
    const { node, world, outsider } = lab(12);
    outsider.meetHandshake();
    outsider.answer(outsider.received()[0]!);
    world.run(20);
    expect(outsider.answerHandshake()).not.toBe(0);
    expect(sessionOf(node)).toBe(false);
    world.run(10 * SECOND);
    const [offer] = outsider.received();
    const derived = outsider.answer(offer!);
    world.run(20);
    expect(outsider.answerHandshake(derived.key)).toBe(derived.name);
    expect(sessionOf(node)).toBe(true);
  });

  it('is not fooled by an answer to another offer, by one of a wrong key, or by two', () => {
    const { node, world, outsider } = lab(13);
    outsider.meetHandshake();
    const [offer] = outsider.received();
    outsider.answer({ ...offer!, id: random.bytes(8) });
    world.run(SECOND);
    expect(dropsOf(node)).toBe(1);
    // Nor does it make the node offer again before its time.
    expect(outsider.received()).toEqual([]);
    // A ciphertext for another key: no error, but a key that the peer does not know, so that it answers with the configured one.
    const wrong = exchange.kem.encapsulate(exchange.kem.keygen().publicKey).cipherText;
    outsider.send(exchange.message(2, offer!.id, wrong));
    outsider.send(exchange.message(2, offer!.id, wrong));
    world.run(20);
    expect(outsider.answerHandshake()).not.toBe(0);
    expect(sessionOf(node)).toBe(false);
    outsider.send(exchange.message(2, offer!.id, wrong));
    world.run(SECOND);
    expect(dropsOf(node)).toBe(2);
    expect(outsider.send(ipPacket(inner, node.inner))).toBe('deliver');
  });

  it('gives up after four offers, says so, and tries again with the next session only', () => {
    const { node, world, outsider } = lab(14);
    outsider.meetHandshake();
    world.run(10 * MINUTE);
    const offers = outsider.received();
    expect(offers.map(({ type }) => type)).toEqual([1, 1, 1, 1]);
    expect(new Set(offers.map(({ body }) => hex(body))).size).toBe(1);
    expect(statusOf(node)).toMatchObject({ exchanges: 0, trouble: 'unanswered' });
    const times = world.log.of({ from: 'node', kind: 'data' }).map(({ at }) => at);
    for (const [i, time] of times.slice(1).entries()) {
      const gap = time - times[i]!;
      expect([gap >= REKEY_TIMEOUT, gap <= REKEY_TIMEOUT + JITTER]).toEqual([true, true]);
    }
    outsider.meetHandshake();
    const [another, ...more] = outsider.received();
    expect([another!.type, more]).toEqual([1, []]);
    outsider.answer(another!);
    world.run(0);
    expect(statusOf(node)).toMatchObject({ exchanges: 1 });
    expect(statusOf(node)).not.toHaveProperty('trouble');
  });

  it('goes on with its offer when another session begins meanwhile', () => {
    const { node, world, outsider } = lab(16);
    outsider.meetHandshake();
    const [offer] = outsider.received();
    world.run(12 * SECOND);
    outsider.meetHandshake();
    world.run(6 * SECOND);
    const again = outsider.received();
    expect(again.map(({ id }) => hex(id))).toEqual([hex(offer!.id)]);
    outsider.answer(again[0]!);
    world.run(0);
    expect(statusOf(node)).toMatchObject({ exchanges: 1 });
  });

  it('takes an answer at once that comes with the end of a handshake', () => {
    const { node, world, outsider } = lab(17);
    outsider.meetHandshake();
    const [offer] = outsider.received();
    world.run(SECOND);
    node.rekey();
    world.run(0);
    // Read in one tick, the handshake first.
    outsider.answer(offer!);
    outsider.answerHandshake();
    expect(statusOf(node)).toMatchObject({ exchanges: 1 });
  });

  it('renews the key with the first session after the interval, and not 1 ms before', () => {
    const { node, world, outsider } = lab(18, { postQuantum: MINUTE });
    outsider.meetHandshake();
    const { key } = outsider.answer(outsider.received()[0]!);
    world.run(20);
    outsider.answerHandshake(key);
    const offersAt = (age: number): number => {
      world.run(age - statusOf(node)!.keyAgeMs!);
      expect(outsider.meetHandshake(key)).not.toBe(0);
      return outsider.received().length;
    };
    expect([offersAt(MINUTE - 20), offersAt(MINUTE)]).toEqual([0, 1]);
  });

  it('begins no exchange sooner than 10 s after the last, whatever the peer sends meanwhile', () => {
    const { world, outsider } = lab(19);
    outsider.meetHandshake();
    outsider.answer(outsider.received()[0]!);
    world.run(20);
    // The peer has lost the key, so there is need of another.
    outsider.answerHandshake();
    world.run(SECOND);
    for (let i = 0; i < 8; i++) {
      outsider.send(exchange.message(2, random.bytes(8), random.bytes(1_088)));
      world.run(SECOND);
      expect(outsider.received()).toEqual([]);
    }
    world.run(SECOND);
    expect(outsider.received().map(({ type }) => type)).toEqual([1]);
  });

  it('begins none without a session to offer it in, and misses none', () => {
    const { node, world, outsider } = lab(20);
    outsider.meetHandshake();
    outsider.answer(outsider.received()[0]!);
    world.run(20);
    outsider.answerHandshake();
    // Ends the session before the next exchange may begin.
    node.configure({ peers: [{ publicKey: outsider.publicKey, cipherSuite: 'aes256gcm' }] });
    world.run(MINUTE);
    expect(statusOf(node)).not.toHaveProperty('trouble');
  });

  it('brings a session to its newest key that began with an older one', () => {
    const { node, world, outsider } = lab(22, { postQuantum: 10 * SECOND });
    outsider.meetHandshake();
    const older = outsider.answer(outsider.received()[0]!);
    world.run(20);
    outsider.answerHandshake(older.key);
    world.run(10 * SECOND);
    outsider.meetHandshake(older.key);
    const [offer] = outsider.received();
    // The answer comes when the next handshake has asked for the older key already.
    world.run(SECOND);
    node.rekey();
    world.run(0);
    const newer = outsider.answer(offer!);
    world.run(0);
    expect(outsider.answerHandshake(older.key)).toBe(older.name);
    expect(sessionOf(node)).toBe(true);
    world.run(20);
    expect(outsider.answerHandshake(newer.key)).toBe(newer.name);
  });

  it('asks for each key that the peer may have before it takes the configured one', () => {
    const { node, world, outsider } = lab(23, { postQuantum: 10 * SECOND });
    outsider.meetHandshake();
    const older = outsider.answer(outsider.received()[0]!);
    world.run(20);
    outsider.answerHandshake(older.key);
    world.run(10 * SECOND);
    outsider.meetHandshake(older.key);
    const newer = outsider.answer(outsider.received()[0]!);
    world.run(20);
    expect(outsider.answerHandshake()).toBe(newer.name);
    expect([sessionOf(node), dropsOf(node)]).toEqual([true, 1]);
    world.run(20);
    expect(outsider.answerHandshake()).toBe(older.name);
    expect([sessionOf(node), dropsOf(node)]).toEqual([false, 1]);
  });

  it('refuses a key that would have the name of another, and goes on with that one', () => {
    const { node, world, outsider } = lab(24, { postQuantum: 10 * SECOND }, namesakes);
    outsider.meetHandshake();
    const { key } = outsider.answer(outsider.received()[0]!);
    world.run(20);
    outsider.answerHandshake(key);
    world.run(10 * SECOND);
    outsider.meetHandshake(key);
    outsider.answer(outsider.received()[0]!);
    const handshakes = world.log.count('node', 'initiation');
    world.run(SECOND);
    expect([dropsOf(node), statusOf(node)?.exchanges]).toEqual([1, 1]);
    expect([sessionOf(node), world.log.count('node', 'initiation')]).toEqual([true, handshakes]);
  });

  it('does not offer through a device whose packets have no room for it, and says so', () => {
    for (const [mtu, offers] of [
      [1_199, 0],
      [1_200, 1],
      [1_280, 1],
      [0, 1],
    ] as const) {
      const { node, world, outsider } = lab(15);
      node.configure({ mtu });
      outsider.meetHandshake();
      expect(outsider.received().length, `MTU ${mtu}`).toBe(offers);
      const { postQuantum } = node.device.status(node.now).peers[0]!;
      expect(postQuantum?.trouble, `MTU ${mtu}`).toBe(offers === 0 ? 'mtu' : undefined);
      if (offers === 0) expect(outsider.offer(), 'nor does it answer').toBeUndefined();
      expect(world.log.of({ kind: 'data' }).every(({ bytes }) => bytes.length <= 1_200 + 32)).toBe(true);
    }
  });
});

describe('two offers that cross', () => {
  it('end in one exchange, that of the side with the smaller static key', () => {
    const smaller = new Set<boolean>();
    for (let seed = 50; smaller.size < 2; seed++) {
      const { node, world, outsider } = lab(seed);
      outsider.meetHandshake();
      const [offer] = outsider.received();
      const isNodes = isSmaller(node.publicKey, outsider.publicKey);
      smaller.add(isNodes);
      expect(outsider.offer() === undefined).toBe(isNodes);
      outsider.answer(offer!);
      world.run(0);
      // The one that is not answered, or the answer that is not awaited any more.
      expect([dropsOf(node), statusOf(node)?.exchanges]).toEqual([1, 1]);
    }
  });
});
