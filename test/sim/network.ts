/** A datagram network with every fault that UDP allows, decided by one seeded generator. */
import type { Endpoint } from '@sealane/protocol';
import type { VirtualClock } from './clock.ts';
import { kindOf } from './log.ts';
import type { Fate, Kind, Log } from './log.ts';
import type { Generator } from './random.ts';

/** How a way from one node to another behaves; times in milliseconds, the rest are probabilities. */
export interface Link {
  readonly delay: number;
  /** Added delay, uniform from 0 to this; more than the gap between packets reorders them. */
  readonly jitter: number;
  readonly loss: number;
  readonly duplicate: number;
  /** One random bit is flipped. */
  readonly corrupt: number;
  /** Held back by `reorderDelay`, so that later datagrams overtake it. */
  readonly reorder: number;
  readonly reorderDelay: number;
}

export const PERFECT: Link = { delay: 0, jitter: 0, loss: 0, duplicate: 0, corrupt: 0, reorder: 0, reorderDelay: 0 };

export interface Receiver {
  readonly name: string;
  receive(bytes: Uint8Array, source: Endpoint, destination: Endpoint): void;
}

export interface Datagram {
  readonly at: number;
  readonly from: string;
  readonly to: string;
  readonly kind: Kind;
  readonly bytes: Uint8Array;
}

/** Address translation before one node: outbound traffic opens a mapping that inbound traffic needs. */
interface Nat {
  readonly address: Uint8Array;
  /** A mapping unused for this long is forgotten. */
  readonly timeoutMs: number;
  nextPort: number;
  mapping: { port: number; inside: Endpoint; usedAt: number } | undefined;
}

export class Network {
  /** Of every pair without a link of its own. */
  link: Link = PERFECT;
  /** False keeps a datagram from ever arriving. */
  filter: (datagram: Datagram) => boolean = () => true;
  /** Sees every datagram that left a node. */
  onSend: (datagram: Datagram) => void = () => {};

  readonly #clock: VirtualClock;
  readonly #random: Generator;
  readonly #log: Log;
  readonly #receivers = new Map<string, Receiver>();
  readonly #links = new Map<string, Link>();
  readonly #cut = new Set<string>();
  readonly #nats = new Map<string, Nat>();

  constructor(clock: VirtualClock, random: Generator, log: Log) {
    this.#clock = clock;
    this.#random = random;
    this.#log = log;
  }

  attach(endpoint: Endpoint, receiver: Receiver): void {
    this.#receivers.set(keyOf(endpoint), receiver);
  }

  detach(endpoint: Endpoint): void {
    this.#receivers.delete(keyOf(endpoint));
  }

  /** The way from one node to another, one direction. */
  setLink(from: string, to: string, link: Partial<Link>): void {
    this.#links.set(`${from}>${to}`, { ...this.link, ...link });
  }

  /** Nothing passes between the two, either way, until `heal`. */
  partition(a: string, b: string): void {
    this.#cut.add(`${a}>${b}`).add(`${b}>${a}`);
  }

  /** Nothing passes one way. */
  cut(from: string, to: string): void {
    this.#cut.add(`${from}>${to}`);
  }

  heal(): void {
    this.#cut.clear();
  }

  /** Puts a node behind address translation. */
  nat(node: string, address: Uint8Array, timeoutMs = Infinity): void {
    this.#nats.set(node, { address, timeoutMs, nextPort: 20_000, mapping: undefined });
  }

  /** The translator forgets the node's mapping; the next outbound datagram gets another port. */
  rebind(node: string): void {
    const nat = this.#nats.get(node);
    if (nat !== undefined) nat.mapping = undefined;
  }

  send(from: string, inside: Endpoint, destination: Endpoint, bytes: Uint8Array): void {
    const { now } = this.#clock;
    const source = this.#translate(from, inside);
    const target = this.#find(destination);
    const to = target?.receiver.name ?? '';
    const datagram: Datagram = { at: now, from, to, kind: kindOf(bytes), bytes };
    this.onSend(datagram);
    const link = this.#links.get(`${from}>${to}`) ?? this.link;
    const fate = this.#fateOf(datagram, target !== undefined, link);
    this.#log.add({ ...datagram, fate, source, destination });
    if (fate !== 'sent') return;
    const copies = this.#random.chance(link.duplicate) ? 2 : 1;
    for (let i = 0; i < copies; i++) {
      const held = this.#random.chance(link.reorder) ? link.reorderDelay : 0;
      const delay = link.delay + held + (link.jitter > 0 ? this.#random.between(0, link.jitter) : 0);
      const arriving = bytes.slice();
      if (this.#random.chance(link.corrupt)) {
        const bit = this.#random.below(arriving.length * 8);
        arriving[bit >> 3]! ^= 1 << (bit & 7);
      }
      this.#clock.after(delay, () => {
        // Looked up again: nodes move and mappings expire while a datagram travels.
        const found = this.#find(destination);
        found?.receiver.receive(arriving, source, found.inside);
      });
    }
  }

  #fateOf(datagram: Datagram, reachable: boolean, link: Link): Fate {
    if (!reachable) return 'unreachable';
    if (this.#cut.has(`${datagram.from}>${datagram.to}`)) return 'partitioned';
    if (!this.filter(datagram)) return 'filtered';
    return this.#random.chance(link.loss) ? 'lost' : 'sent';
  }

  #translate(from: string, inside: Endpoint): Endpoint {
    const nat = this.#nats.get(from);
    if (nat === undefined) return inside;
    const { now } = this.#clock;
    if (nat.mapping === undefined || now - nat.mapping.usedAt > nat.timeoutMs) {
      nat.mapping = { port: nat.nextPort++, inside, usedAt: now };
    }
    nat.mapping.usedAt = now;
    return { address: nat.address, port: nat.mapping.port, scopeId: 0 };
  }

  #find(destination: Endpoint): { readonly receiver: Receiver; readonly inside: Endpoint } | undefined {
    const receiver = this.#receivers.get(keyOf(destination));
    // Inside addresses are not reachable from without.
    if (receiver !== undefined) return this.#nats.has(receiver.name) ? undefined : { receiver, inside: destination };
    for (const nat of this.#nats.values()) {
      const { mapping } = nat;
      if (mapping === undefined || mapping.port !== destination.port || !sameAddress(nat.address, destination.address))
        continue;
      if (this.#clock.now - mapping.usedAt > nat.timeoutMs) return undefined;
      const behind = this.#receivers.get(keyOf(mapping.inside));
      return behind && { receiver: behind, inside: mapping.inside };
    }
    return undefined;
  }
}

/** Endpoints are never changed in place, and the same few are asked for in every datagram. */
const keys = new WeakMap<Endpoint, string>();

function keyOf(endpoint: Endpoint): string {
  let key = keys.get(endpoint);
  if (key === undefined) keys.set(endpoint, (key = `${endpoint.address.join('.')}:${endpoint.port}`));
  return key;
}

function sameAddress(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
