/** Two stacks on one virtual clock, with a link between them that loses, delays, reorders, repeats and corrupts. */
import {
  type ConnectionError,
  type ConnectionHandler,
  type IpAddress,
  PacketBatch,
  Stack,
  type StackOptions,
  type TcpConnection,
  parseAddress,
} from '../../src/index.ts';
import { Dice } from './random.ts';

export function address(text: string): IpAddress {
  const parsed = parseAddress(text);
  if (parsed === undefined) throw new TypeError(`not an address: ${text}`);
  return parsed;
}

export const A4: IpAddress = address('127.0.0.1');
export const B4: IpAddress = address('127.0.0.2');
export const A6: IpAddress = address('fd00::1');
export const B6: IpAddress = address('fd00::2');

export interface Faults {
  /** One-way delay in milliseconds. */
  delay?: number;
  /** Up to so much more, drawn for each packet: reorders. */
  jitter?: number;
  /** Probabilities for each packet. */
  loss?: number;
  duplicate?: number;
  corrupt?: number;
  /** Every packet is lost. */
  blackHole?: boolean;
  /** Bytes a millisecond; packets queue up. */
  rate?: number;
  /** Bytes that may wait for the link; more are lost. */
  queue?: number;
  /** Decides packet by packet; true loses it. */
  drop?: (packet: Uint8Array) => boolean;
}

interface Flying {
  readonly at: number;
  readonly order: number;
  readonly packet: Uint8Array;
  readonly to: Node;
}

export class Node {
  readonly stack: Stack;
  readonly out: PacketBatch = new PacketBatch(2048, 1500);
  readonly mtu: number;
  /** Faults of what this node sends. */
  faults: Faults = {};
  /** Sees every packet that leaves. */
  tap: ((packet: Uint8Array) => void) | undefined;
  busyUntil = 0;
  stalled = false;

  constructor(dice: Dice, addresses: readonly IpAddress[], options: Partial<StackOptions>) {
    this.mtu = options.mtu ?? 1420;
    this.stack = new Stack({
      output: this.out,
      random: (length) => dice.bytes(length),
      addresses,
      ...options,
      mtu: this.mtu,
    });
  }
}

export class Sim {
  now = 1000;
  readonly dice: Dice;
  readonly a: Node;
  readonly b: Node;
  readonly #flying: Flying[] = [];
  #order = 0;
  packets = 0;

  constructor(seed: number, faults: Faults = {}, a: Partial<StackOptions> = {}, b: Partial<StackOptions> = {}) {
    this.dice = new Dice(seed);
    this.a = new Node(this.dice, [A4, A6], a);
    this.b = new Node(this.dice, [B4, B6], b);
    this.a.faults = { ...faults };
    this.b.faults = { ...faults };
    this.settle();
  }

  /** Lets every node say what it has to say now. */
  settle(): void {
    for (const node of [this.a, this.b]) {
      for (let fits = false; !fits;) {
        fits = node.stack.tick(this.now);
        this.#collect(node);
      }
    }
  }

  /** Runs until `done`, or for `limit` virtual milliseconds; returns whether `done` came true. */
  run(limit: number, done: () => boolean = () => false): boolean {
    const end = this.now + limit;
    this.settle();
    while (!done()) {
      const next = Math.min(this.#flying[0]?.at ?? Infinity, this.a.stack.nextDeadline(), this.b.stack.nextDeadline());
      if (next > end) {
        this.now = end;
        this.settle();
        return done();
      }
      this.now = Math.max(this.now, next);
      while (this.#flying.length > 0 && this.#flying[0]!.at <= this.now) {
        const { packet, to } = pop(this.#flying);
        to.stack.receive(packet, 0, packet.length, this.now);
      }
      this.settle();
    }
    return true;
  }

  /** Puts a packet onto the link towards `to`, without faults. */
  inject(to: Node, packet: Uint8Array): void {
    to.stack.receive(packet, 0, packet.length, this.now);
    this.settle();
  }

  #collect(node: Node): void {
    const { out, faults } = node;
    for (let i = 0; i < out.count; i++) {
      const packet = out.buffer.slice(out.offsets[i], out.offsets[i]! + out.lengths[i]!);
      if (packet.length > node.mtu) throw new Error(`a packet of ${packet.length} bytes, larger than the MTU`);
      node.tap?.(packet);
      this.packets++;
      if (faults.blackHole === true || this.dice.next() < (faults.loss ?? 0) || faults.drop?.(packet) === true)
        continue;
      const copies = this.dice.next() < (faults.duplicate ?? 0) ? 2 : 1;
      for (let copy = 0; copy < copies; copy++) this.#send(node, packet.slice());
    }
    out.clear();
  }

  #send(node: Node, packet: Uint8Array): void {
    const { faults } = node;
    if (this.dice.next() < (faults.corrupt ?? 0)) {
      const bit = this.dice.below(packet.length * 8);
      packet[bit >>> 3] = packet[bit >>> 3]! ^ (1 << (bit & 7));
    }
    let at = this.now;
    if (faults.rate !== undefined) {
      const backlog = Math.max(0, node.busyUntil - this.now) * faults.rate;
      if (backlog + packet.length > (faults.queue ?? Infinity)) return;
      node.busyUntil = Math.max(node.busyUntil, this.now) + packet.length / faults.rate;
      at = node.busyUntil;
    }
    at += (faults.delay ?? 0) + (faults.jitter ?? 0) * this.dice.next();
    push(this.#flying, { at, order: this.#order++, packet, to: node === this.a ? this.b : this.a });
  }
}

function before(x: Flying, y: Flying): boolean {
  return x.at < y.at || (x.at === y.at && x.order < y.order);
}

function push(heap: Flying[], item: Flying): void {
  let i = heap.length;
  heap.push(item);
  while (i > 0) {
    const parent = (i - 1) >>> 1;
    if (!before(item, heap[parent]!)) break;
    heap[i] = heap[parent]!;
    i = parent;
  }
  heap[i] = item;
}

function pop(heap: Flying[]): Flying {
  const top = heap[0]!;
  const last = heap.pop()!;
  if (heap.length > 0) {
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && before(heap[child + 1]!, heap[child]!)) child++;
      if (!before(heap[child]!, last)) break;
      heap[i] = heap[child]!;
      i = child;
    }
    heap[i] = last;
  }
  return top;
}

/** The byte at position `i` of the stream with this seed: what every transfer sends and every receiver checks. */
export function streamByte(seed: number, i: number): number {
  return Math.imul(i + seed, 0x9e3779b1) >>> 24;
}

function streamBytes(seed: number, from: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let i = 0; i < length; i++) bytes[i] = streamByte(seed, from + i);
  return bytes;
}

/** Writes `total` bytes of a stream as room allows, then ends its direction. */
export class Source implements ConnectionHandler {
  sent = 0;
  connected = false;
  closed = false;
  error: ConnectionError | undefined;
  readonly seed: number;
  readonly total: number;
  readonly chunk: number;
  /** What to do once all was written. */
  readonly finish: 'end' | 'close' | 'stay';

  constructor(seed: number, total: number, finish: 'end' | 'close' | 'stay' = 'end', chunk = 65_536) {
    this.seed = seed;
    this.total = total;
    this.finish = finish;
    this.chunk = chunk;
  }

  onConnect(connection: TcpConnection): void {
    this.connected = true;
    this.pump(connection);
  }

  onWritable(connection: TcpConnection): void {
    this.pump(connection);
  }

  onReadable(connection: TcpConnection): void {
    while (connection.read() !== undefined);
  }

  onClose(_connection: TcpConnection, error: ConnectionError | undefined): void {
    this.closed = true;
    this.error = error;
  }

  pump(connection: TcpConnection): void {
    while (this.sent < this.total) {
      const from = this.sent;
      const piece = streamBytes(
        this.seed,
        from,
        Math.min(this.chunk, this.total - from, connection.writableLength + 1),
      );
      const count = connection.write(piece);
      this.sent += count;
      if (count < piece.length) return;
    }
    if (this.finish === 'end') connection.end();
    if (this.finish === 'close') connection.close();
  }
}

/** Reads and checks a stream; ends its own direction when the peer has ended. */
export class Drain implements ConnectionHandler {
  received = 0;
  connected = false;
  ended = false;
  closed = false;
  paused = false;
  error: ConnectionError | undefined;
  /** Position of the first byte that was wrong, or -1. */
  wrongAt = -1;
  readonly seed: number;

  constructor(seed: number) {
    this.seed = seed;
  }

  onConnect(): void {
    this.connected = true;
  }

  onReadable(connection: TcpConnection): void {
    if (this.paused) return;
    for (let bytes = connection.read(); bytes !== undefined; bytes = connection.read()) {
      for (let i = 0; i < bytes.length && this.wrongAt < 0; i++) {
        if (bytes[i] !== streamByte(this.seed, this.received + i)) this.wrongAt = this.received + i;
      }
      this.received += bytes.length;
    }
    if (connection.hasEnded && !this.ended) {
      this.ended = true;
      connection.end();
    }
  }

  onClose(_connection: TcpConnection, error: ConnectionError | undefined): void {
    this.closed = true;
    this.error = error;
  }
}
