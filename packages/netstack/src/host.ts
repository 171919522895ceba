/** What the layers of a stack share: its time, addresses, randomness and memory, and what they ask of one another. */
import type { IpAddress } from './address.ts';
import { BufferPool } from './byte-ring.ts';
import { type DropCounters, createDropCounters } from './drops.ts';
import { ErrorRates } from './error-rates.ts';
import { type Fragmenting, type UnreachableReason, sendTooBig, sendUnreachable } from './icmp.ts';
import type { IpPacket } from './ip.ts';
import { DEFAULT_LIMITS, type StackLimits, defaultSourceKey } from './limits.ts';
import { PacketWriter, viewOf } from './output.ts';
import { PathMtu } from './path-mtu.ts';
import type { PacketSink } from './sink.ts';
import { SipHash } from './siphash.ts';
import { TimerHeap } from './timer-heap.ts';

export interface HostOptions {
  /** Where packets are written to. */
  readonly output: PacketSink;
  /** Cryptographically strong random bytes. */
  readonly random: (length: number) => Uint8Array;
  /** Largest IP packet in bytes, 576 (1280 with IPv6) or more. */
  readonly mtu: number;
  /** Packets to these addresses are ours. */
  readonly addresses: readonly IpAddress[];
  /** Something waits for `flush`; called from within any call that is not a flush, at most once until the next one. */
  readonly onPending?: () => void;
  /** What a remote address counts as for limits by source. */
  readonly sourceKey?: (address: IpAddress) => string | number;
  readonly limits?: Partial<StackLimits>;
}

/** Drawn at once, as a draw of a few bytes costs as much. */
const RANDOM_BYTES = 256;

/** A class, as methods are the same functions in every stack: closures of its own would have code compiled anew for each. */
export class StackHost {
  readonly drops: DropCounters = createDropCounters();
  readonly timers: TimerHeap = new TimerHeap();
  readonly writer: PacketWriter;
  readonly limits: StackLimits;
  readonly pool: BufferPool;
  readonly paths: PathMtu;
  readonly hash: SipHash;
  readonly sourceKey: (address: IpAddress) => string | number;
  readonly #options: HostOptions;
  readonly #addresses: readonly IpAddress[];
  readonly #errorRates = new ErrorRates();
  #now = 0;
  #isPending = false;
  #randomWords: DataView = new DataView(new ArrayBuffer(0));
  #randomAt = 0;

  constructor(options: HostOptions) {
    this.#options = options;
    this.#addresses = [...options.addresses];
    this.writer = new PacketWriter(options.output);
    this.limits = { ...DEFAULT_LIMITS, ...options.limits };
    this.pool = new BufferPool(this.limits.maxBufferBytes);
    this.paths = new PathMtu(options.mtu);
    this.hash = new SipHash(options.random(16));
    this.sourceKey = options.sourceKey ?? defaultSourceKey;
  }

  /** The time of the latest call into the stack. */
  get now(): number {
    return this.#now;
  }

  /** Time only moves forward in here, whatever the caller's clock does. */
  advanceClock(now: number): void {
    if (now > this.#now) this.#now = now;
  }

  random32(): number {
    if (this.#randomAt === this.#randomWords.byteLength) {
      this.#randomWords = viewOf(this.#options.random(RANDOM_BYTES));
      this.#randomAt = 0;
    }
    this.#randomAt += 4;
    return this.#randomWords.getInt32(this.#randomAt - 4);
  }

  /** The first of the stack's addresses of this family. */
  localFor(family: 4 | 6): IpAddress | undefined {
    return this.#addresses.find((address) => address.family === family);
  }

  /** Whether a packet is to one of the stack's addresses. */
  isLocal(packet: IpPacket): boolean {
    const addresses = this.#addresses;
    for (let i = 0; i < addresses.length; i++) {
      const address = addresses[i]!;
      if (address.d === packet.d3 && address.c === packet.d2 && address.b === packet.d1 && address.a === packet.d0) {
        return true;
      }
    }
    return false;
  }

  pathMtu(destination: IpAddress): number {
    return this.paths.of(destination, this.#now);
  }

  fragmenting(destination: IpAddress): Fragmenting {
    return { mtu: this.pathMtu(destination), id: this.random32() };
  }

  sendUnreachable(about: Uint8Array, local: IpAddress, remote: IpAddress, reason: UnreachableReason): void {
    const source = reason === 'port-unreachable' ? local : (this.localFor(local.family) ?? local);
    this.#sendError(remote, () => sendUnreachable(this.writer, source, remote, reason, about));
  }

  sendTooBig(about: Uint8Array, local: IpAddress, remote: IpAddress, mtu: number): void {
    const source = this.localFor(local.family) ?? local;
    this.#sendError(remote, () => sendTooBig(this.writer, source, remote, mtu, about));
  }

  /** Something waits for a flush: the owner is told, once until the next one. */
  pending(): void {
    if (this.#isPending) return;
    this.#isPending = true;
    this.#options.onPending?.();
  }

  /** The flush that was asked for begins. */
  beginFlush(): void {
    this.#isPending = false;
  }

  /** RFC 1122 §3.2.2: never about an ICMP error; those do not come here. RFC 1812 §4.3.2.8: at a bounded rate. */
  #sendError(remote: IpAddress, send: () => boolean): void {
    if (!this.#errorRates.take(this.sourceKey(remote), this.#now)) {
      this.drops['icmp-rate-limited']++;
      return;
    }
    if (!send()) this.drops['output-full']++;
    this.pending();
  }
}
