import { HEADROOM, PacketBatch, TAILROOM } from '@sealane/protocol';
import type { PacketMemory } from './offload/memory.ts';
import type { PacketSink } from './offload/split.ts';

const TAG = 16;
const PACKETS = 512;
/** The largest packet and what sealing adds. */
const LARGEST = 65_535 + HEADROOM + TAILROOM;

/**
 * Lays outbound packets so that, once sealed, datagrams of one size follow each other without a gap: such a row leaves in one call.
 * That the rows hold is checked when they are sent; here it is only made likely.
 */
export class SendBuffer implements PacketSink {
  readonly batch: PacketBatch;
  readonly #start: number;
  readonly #end: number;
  readonly #full: () => void;
  /** The packet device's MTU: what padding goes up to. */
  mtu = 0;
  #next: number;
  #lastLength = 0;

  /** Uses `memory` from `start` to `end`; calls `full`, which must `clear`, when no packet more fits. */
  constructor(memory: PacketMemory, start: number, end: number, full: () => void) {
    this.batch = new PacketBatch(memory.bytes, PACKETS);
    this.#start = start;
    this.#end = end;
    this.#next = start;
    this.#full = full;
  }

  /** Whether a whole read of the packet device may not fit any more without `full` being called. */
  get isNearlyFull(): boolean {
    return this.batch.count >= PACKETS / 2 || this.#end - this.#next < 2 * LARGEST;
  }

  place(length: number): number {
    if (this.batch.count === PACKETS || this.#end - this.#next < length + HEADROOM + TAILROOM) this.#full();
    // A shorter one ends a row and still lies close; a longer one begins another, where headers are aligned.
    if (length > this.#lastLength) this.#next = (this.#next + 15) & ~15;
    this.#lastLength = length;
    const offset = this.#next + HEADROOM;
    this.#next = offset + this.#padded(length) + TAG;
    this.batch.push(offset, length);
    return offset;
  }

  clear(): void {
    this.batch.clear();
    this.#next = this.#start;
    this.#lastLength = 0;
  }

  #padded(length: number): number {
    const padded = (length + 15) & ~15;
    return this.mtu > 0 && padded > this.mtu ? Math.max(length, this.mtu) : padded;
  }
}
