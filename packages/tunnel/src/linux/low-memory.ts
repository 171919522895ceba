/**
 * Memory whose addresses are small integers to V8: passing one to C then makes no garbage, which on a path of several calls a packet
 * costs a quarter of the time. Where the system has none, ordinary memory serves.
 */
import { addressOf, foreign, viewOf } from './foreign.ts';

const PROT_READ_WRITE = 3;
/** MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT. */
const MAP_LOW = 0x62;
const LOW = 2 ** 31;
const SLAB_BYTES = 2 ** 16;

const mapped: { readonly address: number; readonly size: number }[] = [];

/** Zeroed memory that stays until `releaseLowMemory`. */
export function lowBuffer(size: number): ArrayBuffer {
  const mmap = foreign('uintptr_t mmap(uintptr_t, size_t, int, int, int, long)');
  const address = process.platform === 'linux' ? mmap(0, size, PROT_READ_WRITE, MAP_LOW, -1, 0) : 0;
  if (address > 0 && address < LOW) {
    mapped.push({ address, size });
    return viewOf(address, size);
  }
  if (address >= LOW && address < Number.MAX_SAFE_INTEGER) foreign('int munmap(uintptr_t, size_t)')(address, size);
  return new ArrayBuffer(size);
}

/** Gives all of this thread's back: the last thing that a thread does, for nothing may touch it afterwards. */
export function releaseLowMemory(): void {
  const munmap = foreign('int munmap(uintptr_t, size_t)');
  for (const { address, size } of mapped.splice(0)) munmap(address, size);
}

/** A piece of low memory. */
export interface LowSlot {
  readonly bytes: Uint8Array;
  readonly words: Uint32Array;
  readonly address: number;
}

/** Pieces of one size, used again and again. */
export class LowPool {
  readonly #size: number;
  readonly #free: LowSlot[] = [];

  /** `size` in bytes, a multiple of 16. Small pieces are mapped many at a time, large ones one by one. */
  constructor(size: number) {
    this.#size = size;
  }

  /** A zeroed piece. */
  take(): LowSlot {
    if (this.#free.length === 0) this.#grow();
    return this.#free.pop()!;
  }

  /** Erases the piece and keeps it for the next `take`; its giver must not touch it any more. */
  give(slot: LowSlot): void {
    slot.bytes.fill(0);
    this.#free.push(slot);
  }

  #grow(): void {
    const slots = Math.max(1, Math.floor(SLAB_BYTES / this.#size));
    const buffer = lowBuffer(slots * this.#size);
    for (let i = slots - 1; i >= 0; i--) {
      const bytes = new Uint8Array(buffer, i * this.#size, this.#size);
      const words = new Uint32Array(buffer, i * this.#size, this.#size / 4);
      this.#free.push({ bytes, words, address: addressOf(bytes) });
    }
  }
}
