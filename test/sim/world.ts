/**
 * The virtual network: any number of hosts under one clock, everything random from one seed.
 * A failure names its seed, and the same seed gives the same run, datagram by datagram.
 */
import { nobleCrypto } from '@sealane/protocol';
import type { Crypto, Endpoint, PeerStatus, PeerUpdate } from '@sealane/protocol';
import { VirtualClock } from './clock.ts';
import { Log } from './log.ts';
import { Network, PERFECT } from './network.ts';
import type { Link } from './network.ts';
import { Node } from './node.ts';
import { ipPacket } from './packets.ts';
import { generator } from './random.ts';
import type { Generator } from './random.ts';

export interface WorldOptions {
  readonly seed: number;
  readonly crypto?: Crypto;
  readonly link?: Partial<Link>;
  /** Ephemeral keys come from a pool of this size: with remembered curve results, mass runs cost no curve. */
  readonly keyPool?: number;
}

export class World {
  readonly seed: number;
  readonly clock: VirtualClock = new VirtualClock();
  readonly log: Log = new Log();
  readonly random: Generator;
  readonly network: Network;
  readonly nodes: Node[] = [];
  readonly #crypto: Crypto;
  readonly #keyPool: number | undefined;

  constructor(options: WorldOptions) {
    this.seed = options.seed;
    this.random = generator(options.seed);
    this.#crypto = options.crypto ?? nobleCrypto;
    this.#keyPool = options.keyPool;
    this.network = new Network(this.clock, this.random.fork('network'), this.log);
    this.network.link = { ...PERFECT, ...options.link };
  }

  /** A host with outer addresses 192.0.2.N and 2001:db8::N, inner 10.0.0.N and fd00::N, port 51820. */
  add(
    name: string,
    options: {
      readonly crypto?: Crypto;
      readonly mtu?: number;
      readonly timestampFloor?: Uint8Array;
      readonly privateKey?: Uint8Array;
    } = {},
  ): Node {
    const number = this.nodes.length + 1;
    const random = this.random.fork(name);
    const node = new Node({
      name,
      clock: this.clock,
      network: this.network,
      random,
      draw: this.#keyPool === undefined ? (length) => random.bytes(length) : pooled(random, this.#keyPool),
      crypto: options.crypto ?? this.#crypto,
      privateKey: options.privateKey ?? random.fork('key').bytes(32),
      endpoints: [outer(number), outer6(number)],
      inner: Uint8Array.of(10, 0, number >>> 8, number),
      inner6: inner6(number),
      mtu: options.mtu ?? 1420,
      ...(options.timestampFloor && { timestampFloor: options.timestampFloor }),
    });
    this.nodes.push(node);
    return node;
  }

  /** Two hosts, peers of each other. */
  pair(both: Partial<PeerUpdate> = {}): readonly [Node, Node] {
    const a = this.add('a');
    const b = this.add('b');
    this.connect(a, b, both);
    return [a, b];
  }

  /** Makes the two peers of each other, each with the other's inner addresses and outer endpoint. */
  connect(a: Node, b: Node, both: Partial<PeerUpdate> = {}): void {
    a.configure({ peers: [peerOf(b, both)] });
    b.configure({ peers: [peerOf(a, both)] });
  }

  /** Lets `ms` of world time pass. */
  run(ms: number): void {
    this.#go(() => this.clock.runTo(this.clock.now + ms));
  }

  /** Goes on until `done`; false when `ms` passed before. */
  runUntil(done: () => boolean, ms: number): boolean {
    this.#go(() => this.clock.runTo(this.clock.now + ms, done));
    return done();
  }

  /** Sends a packet from one host to another, inside. */
  ping(from: Node, to: Node, id = 0, length = 64): ReturnType<Node['send']> {
    return from.send(ipPacket(from.inner, to.inner, id, length));
  }

  #go(run: () => void): void {
    try {
      run();
    } catch (cause) {
      throw new Error(
        `seed ${this.seed}, at ${this.clock.now} ms: ${cause instanceof Error ? cause.message : String(cause)}`,
        { cause },
      );
    }
  }
}

/** What a host must know of `node` to be its peer. */
export function peerOf(node: Node, more: Partial<PeerUpdate> = {}): PeerUpdate {
  return {
    publicKey: node.publicKey,
    endpoint: node.endpoint,
    allowedIps: [
      { address: node.inner, length: 32 },
      { address: node.inner6, length: 128 },
    ],
    ...more,
  };
}

/** What `node` says about its peer `other`. */
export function statusOf(node: Node, other: Node): PeerStatus {
  const found = node.device
    .status(node.now)
    .peers.find(({ publicKey }) => publicKey.every((byte, i) => byte === other.publicKey[i]));
  if (found === undefined) throw new Error(`${node.name} has no peer ${other.name}`);
  return found;
}

export function outer(number: number, port = 51_820): Endpoint {
  return { address: Uint8Array.of(192, 0, 2 + (number >>> 8), number), port, scopeId: 0 };
}

export function outer6(number: number, port = 51_820): Endpoint {
  const address = new Uint8Array(16);
  address.set([0x20, 0x01, 0x0d, 0xb8]);
  address[14] = number >>> 8;
  address[15] = number;
  return { address, port, scopeId: 0 };
}

function inner6(number: number): Uint8Array {
  const address = new Uint8Array(16);
  address[0] = 0xfd;
  address[14] = number >>> 8;
  address[15] = number;
  return address;
}

/** Draws 32-byte values, which are keys, from a pool and everything else afresh. */
function pooled(random: Generator, size: number): (length: number) => Uint8Array {
  const pool = Array.from({ length: size }, () => random.bytes(32));
  return (length) => (length === 32 ? pool[random.below(size)]!.slice() : random.bytes(length));
}

/** `count` seeds, or the one in SEALANE_SEED: what a failure printed, to be run again. */
export function seeds(count: number, first = 1): number[] {
  const given = globalThis.process?.env['SEALANE_SEED'];
  return given === undefined ? Array.from({ length: count }, (_, i) => first + i) : [Number(given)];
}
