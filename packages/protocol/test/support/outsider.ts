/** One end of a tunnel made of `paper` and `exchange`, with one of ours as the other. */
import type { Node } from '../../../../test/sim/node.ts';
import { generator, type Generator } from '../../../../test/sim/random.ts';
import { World, outer, type peerOf } from '../../../../test/sim/world.ts';
import type { Crypto } from '../../src/crypto.ts';
import type { PostQuantumStatus } from '../../src/model.ts';
import { nobleCrypto } from '../../src/noble.ts';
import { concat, hex } from './bytes.ts';
import * as exchange from './exchange.ts';
import * as paper from './paper.ts';
import { HOUR } from './spec.ts';

export const random: Generator = generator(72);
const source = outer(90);
/** Where the outsider's packets come from. */
export const inner: Uint8Array = Uint8Array.of(10, 9, 9, 9);
const NAME_LABEL = Buffer.from('sealane psk name').toString('hex');

/** A peer of `node` made of `paper` and `exchange`. */
export class Outsider {
  readonly privateKey: Uint8Array = random.bytes(32);
  readonly publicKey: Uint8Array = paper.publicOf(this.privateKey);
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

  /** Has the node begin a handshake, and answers. */
  meetHandshake(presharedKey?: Uint8Array): number {
    this.#node.rekey();
    this.#world.run(0);
    return this.answerHandshake(presharedKey);
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

export interface Lab {
  readonly world: World;
  readonly node: Node;
  readonly outsider: Outsider;
}

export function lab(seed: number, more?: Parameters<typeof peerOf>[1], crypto: Crypto = nobleCrypto): Lab {
  const world = new World({ seed, crypto });
  const node = world.add('node');
  return { world, node, outsider: new Outsider(world, node, more) };
}

/** Every derived key has the same name, as two have once in ten million times. */
export const namesakes: Crypto = {
  ...nobleCrypto,
  hmac: (key, ...inputs) =>
    nobleCrypto.hmac(hex(concat(...inputs)) === NAME_LABEL ? new Uint8Array(32) : key, ...inputs),
};

export const sessionOf = (node: Node): unknown => node.device.status(node.now).peers[0]!.session?.hedged;
export const statusOf = (node: Node): PostQuantumStatus | undefined =>
  node.device.status(node.now).peers[0]!.postQuantum;
export const dropsOf = (node: Node): number => node.device.status(node.now).drops['exchange-refused'];
