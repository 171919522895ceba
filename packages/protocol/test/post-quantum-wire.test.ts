/** The post-quantum exchange on the wire, opposite a second implementation of it, and what a hostile peer can do with it. */
import { describe, expect, it } from 'vitest';
import type { Node } from '../../../test/sim/node.ts';
import { ipPacket } from '../../../test/sim/packets.ts';
import { generator } from '../../../test/sim/random.ts';
import { World, outer, type peerOf } from '../../../test/sim/world.ts';
import { isAfter, labelled, labelOf, timestampAfter, timestampAt } from '../src/tai64n.ts';
import { concat, hex, unhex } from './support/bytes.ts';
import * as exchange from './support/exchange.ts';
import * as paper from './support/paper.ts';
import { HOUR, MINUTE, SECOND } from './support/spec.ts';

const random = generator(72);
const PSK = generator(73).bytes(32);
const source = outer(90);
const inner = Uint8Array.of(10, 9, 9, 9);

/** A peer of `node` made of `paper` and `exchange`. */
class Outsider {
  readonly privateKey = random.bytes(32);
  readonly publicKey = paper.publicOf(this.privateKey);
  readonly #world: World;
  readonly #node: Node;
  #session: (paper.Keys & { readonly receiver: number }) | undefined;
  #counter = 0n;
  #read = 0;

  constructor(world: World, node: Node, more: Parameters<typeof peerOf>[1] = { postQuantum: HOUR }) {
    this.#world = world;
    this.#node = node;
    node.configure({
      peers: [{ publicKey: this.publicKey, endpoint: source, allowedIps: [{ address: inner, length: 32 }], ...more }],
    });
  }

  /** As initiator; true when the responder used `presharedKey`. */
  handshake(name = 0, presharedKey?: Uint8Array): boolean {
    this.#world.run(50);
    const made = paper.initiation({
      staticPrivate: this.privateKey,
      responderPublic: this.#node.publicKey,
      ephemeralPrivate: random.bytes(32),
      sender: random.below(2 ** 32),
      timestamp: exchange.naming(paper.tai64n(this.#node.unixMs), name),
      ...(presharedKey && { presharedKey }),
    });
    this.#node.accept(made.message, source);
    this.#world.run(0);
    const session = made.finish(this.#world.log.of({ from: this.#node.name, kind: 'response' }).at(-1)!.bytes);
    if (session === undefined) return false;
    this.#begin(session);
    this.send(new Uint8Array(0));
    this.#world.run(0);
    return true;
  }

  /** As responder of the newest initiation; returns the name in it. */
  answerHandshake(presharedKey?: Uint8Array): number {
    const { bytes } = this.#world.log.of({ from: this.#node.name, kind: 'initiation' }).at(-1)!;
    const made = paper.answer(bytes, {
      staticPrivate: this.privateKey,
      ephemeralPrivate: random.bytes(32),
      sender: random.below(2 ** 32),
      ...(presharedKey && { presharedKey }),
    })!;
    this.#node.accept(made.response, source);
    this.#begin(made);
    this.#world.run(0);
    return exchange.nameIn(made.timestamp);
  }

  send(plaintext: Uint8Array): string {
    const { send, receiver } = this.#session!;
    return this.#node.accept(paper.data(send, receiver, this.#counter++, plaintext), source);
  }

  /** What the node sent us in this session since the last call: messages of the exchange. */
  received(): exchange.ParsedMessage[] {
    const sent = this.#world.log.of({ from: this.#node.name, kind: 'data' });
    const fresh = sent.slice(this.#read);
    this.#read = sent.length;
    return fresh.flatMap(({ bytes }) => {
      const plaintext = paper.openData(this.#session!.receive, bytes);
      return (plaintext && exchange.parse(plaintext)) ?? [];
    });
  }

  /** Offers a fresh key and returns what both sides then hold; undefined when there is no answer. */
  offer(id = random.bytes(8), presharedKey?: Uint8Array): exchange.DerivedKey | undefined {
    const keys = exchange.kem.keygen();
    this.send(exchange.message(1, id, keys.publicKey));
    this.#world.run(0);
    const [answer] = this.received();
    if (answer === undefined) return undefined;
    if (answer.type !== 2 || hex(answer.id) !== hex(id)) throw new Error('that is no answer to this offer');
    return exchange.derive({
      secret: exchange.kem.decapsulate(answer.body, keys.secretKey),
      offeredBy: this.publicKey,
      answeredBy: this.#node.publicKey,
      id,
      encapsulationKey: keys.publicKey,
      ciphertext: answer.body,
      ...(presharedKey && { presharedKey }),
    });
  }

  /** Answers an offer of the node's. */
  answer({ id, body }: exchange.ParsedMessage): exchange.DerivedKey {
    const { cipherText, sharedSecret } = exchange.kem.encapsulate(body);
    this.send(exchange.message(2, id, cipherText));
    return exchange.derive({
      secret: sharedSecret,
      offeredBy: this.#node.publicKey,
      answeredBy: this.publicKey,
      id,
      encapsulationKey: body,
      ciphertext: cipherText,
    });
  }

  #begin(session: paper.Keys & { readonly receiver: number }): void {
    this.#session = session;
    this.#counter = 0n;
    this.#read = this.#world.log.of({ from: this.#node.name, kind: 'data' }).length;
  }
}

function lab(seed: number, more?: Parameters<typeof peerOf>[1]): { world: World; node: Node; outsider: Outsider } {
  const world = new World({ seed });
  const node = world.add('node');
  return { world, node, outsider: new Outsider(world, node, more) };
}

const sessionOf = (node: Node): unknown => node.device.status(node.now).peers[0]!.session?.hedged;
const dropsOf = (node: Node): number => node.device.status(node.now).drops['exchange-refused'];

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
    const { world, outsider } = lab(5);
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
  });
});

describe('the offering side', () => {
  it('offers after its own handshake, derives the key of the description and names it in a new handshake at once', () => {
    const { node, world, outsider } = lab(11);
    node.rekey();
    world.run(0);
    expect(outsider.answerHandshake()).toBe(0);
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
    node.rekey();
    world.run(0);
    outsider.answerHandshake();
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
    node.rekey();
    world.run(0);
    outsider.answerHandshake();
    const [offer] = outsider.received();
    outsider.answer({ ...offer!, id: random.bytes(8) });
    world.run(SECOND);
    expect(dropsOf(node)).toBe(1);
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
    node.rekey();
    world.run(0);
    outsider.answerHandshake();
    world.run(10 * MINUTE);
    const offers = outsider.received();
    expect(offers.map(({ type }) => type)).toEqual([1, 1, 1, 1]);
    expect(new Set(offers.map(({ body }) => hex(body))).size).toBe(1);
    expect(node.device.status(node.now).peers[0]!.postQuantum).toMatchObject({ exchanges: 0, trouble: 'unanswered' });
    node.rekey();
    world.run(0);
    outsider.answerHandshake();
    expect(outsider.received().map(({ type }) => type)).toEqual([1]);
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
      node.rekey();
      world.run(0);
      outsider.answerHandshake();
      expect(outsider.received().length, `MTU ${mtu}`).toBe(offers);
      const { postQuantum } = node.device.status(node.now).peers[0]!;
      expect(postQuantum?.trouble, `MTU ${mtu}`).toBe(offers === 0 ? 'mtu' : undefined);
      if (offers === 0) expect(outsider.offer(), 'nor does it answer').toBeUndefined();
      expect(world.log.of({ kind: 'data' }).every(({ bytes }) => bytes.length <= 1_200 + 32)).toBe(true);
    }
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
    node.rekey();
    world.run(0);
    expect(outsider.answerHandshake()).toBe(0);
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
