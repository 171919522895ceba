/**
 * Memory whose addresses are small integers to V8: passing one to C then makes no garbage, which on a path of several calls a packet
 * costs a quarter of the time. Where the system has none, ordinary memory serves.
 */
import { addressOf, closeDescriptor, foreign, viewOf } from './foreign.ts';

const PROT_READ_WRITE = 3;
const MAP_SHARED = 0x01;
const MAP_FIXED = 0x10;
const MAP_32BIT = 0x40;
const MFD_CLOEXEC = 1;
const MAP_PRIVATE_ANONYMOUS = 0x22;
const LOW = 2 ** 31;
const SLAB_BYTES = 2 ** 16;

const mapped: { readonly address: number; readonly size: number }[] = [];

/** Zeroed memory that stays until `releaseLowMemory`. */
export function lowBuffer(size: number): ArrayBuffer {
  const mmap = foreign('uintptr_t mmap(uintptr_t, size_t, int, int, int, long)');
  const address =
    process.platform === 'linux' ? mmap(0, size, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS | MAP_32BIT, -1, 0) : 0;
  if (address > 0 && address < LOW) {
    mapped.push({ address, size });
    return viewOf(address, size);
  }
  if (address >= LOW && address < Number.MAX_SAFE_INTEGER) foreign('int munmap(uintptr_t, size_t)')(address, size);
  return new ArrayBuffer(size);
}

/**
 * The memory of `buffer` (whole pages, not yet in use, never to be moved) a second time, at a low address: what is written to one is
 * read from the other. Undefined where the system has no such memory; throws when `buffer` must not be used any more.
 */
export function lowAlias(buffer: ArrayBuffer): ArrayBuffer | undefined {
  if (process.platform !== 'linux') return undefined;
  const size = buffer.byteLength;
  const name = new TextEncoder().encode('sealane packets\0');
  const fd = foreign('int memfd_create(uintptr_t, unsigned int)')(addressOf(name), MFD_CLOEXEC);
  if (fd < 0) return undefined;
  try {
    if (foreign('int ftruncate(int, long)')(fd, size) !== 0) return undefined;
    const mmap = foreign('uintptr_t mmap(uintptr_t, size_t, int, int, int, long)');
    const low = mmap(0, size, PROT_READ_WRITE, MAP_SHARED | MAP_32BIT, fd, 0);
    if (low <= 0 || low >= LOW) return undefined;
    mapped.push({ address: low, size });
    const at = addressOf(new Uint8Array(buffer));
    if (mmap(at, size, PROT_READ_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) !== at) throw new Error('no memory to share');
    return viewOf(low, size);
  } finally {
    closeDescriptor(fd);
  }
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
