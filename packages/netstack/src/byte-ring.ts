/** Stream bytes in rings of a power of two, taken from a pool that bounds all of a stack's buffers. */

const SMALLEST_ORDER = 11;
const LARGEST_ORDER = 26;
/** Free buffers kept for the next taker, all sizes together. */
const MAX_KEPT_BYTES = 32 << 20;

export class BufferPool {
  /** Bytes in use by rings. */
  used = 0;
  readonly limit: number;
  #kept = 0;
  readonly #free: Uint8Array[][] = Array.from({ length: LARGEST_ORDER + 1 }, () => []);

  constructor(limit: number) {
    this.limit = limit;
  }

  /** Whether less than an eighth is left, and buffers should not grow for speed alone. */
  get isUnderPressure(): boolean {
    return this.used > this.limit * 0.875;
  }

  /** Whether there is memory for a buffer at all. */
  get hasRoom(): boolean {
    return this.used + (1 << SMALLEST_ORDER) <= this.limit;
  }

  /** A buffer of at least `size` bytes, its length a power of two, or undefined at the limit. */
  take(size: number): Uint8Array | undefined {
    let order = SMALLEST_ORDER;
    while (1 << order < size) order++;
    if (order > LARGEST_ORDER || this.used + (1 << order) > this.limit) return undefined;
    this.used += 1 << order;
    const kept = this.#free[order]!.pop();
    if (kept === undefined) return new Uint8Array(1 << order);
    this.#kept -= kept.length;
    return kept;
  }

  give(buffer: Uint8Array): void {
    this.used -= buffer.length;
    if (this.#kept + buffer.length > MAX_KEPT_BYTES) return;
    this.#kept += buffer.length;
    this.#free[31 - Math.clz32(buffer.length)]!.push(buffer);
  }
}

const NONE = new Uint8Array(0);

/** A growing ring; positions count from the head. What lies where is the owner's business. */
export class ByteRing {
  readonly #pool: BufferPool;
  #bytes: Uint8Array = NONE;
  #head = 0;

  constructor(pool: BufferPool) {
    this.#pool = pool;
  }

  get capacity(): number {
    return this.#bytes.length;
  }

  /** Makes room for `size` bytes from the head on; false when the pool has none. */
  ensure(size: number): boolean {
    if (size <= this.#bytes.length) return true;
    const grown = this.#pool.take(size);
    if (grown === undefined) return false;
    this.read(0, grown, 0, this.#bytes.length);
    this.release();
    this.#bytes = grown;
    return true;
  }

  write(position: number, source: Uint8Array, offset: number, length: number): void {
    const bytes = this.#bytes;
    const at = (this.#head + position) & (bytes.length - 1);
    const first = Math.min(length, bytes.length - at);
    bytes.set(source.subarray(offset, offset + first), at);
    if (first < length) bytes.set(source.subarray(offset + first, offset + length), 0);
  }

  read(position: number, target: Uint8Array, offset: number, length: number): void {
    if (length === 0) return;
    const bytes = this.#bytes;
    const at = (this.#head + position) & (bytes.length - 1);
    const first = Math.min(length, bytes.length - at);
    target.set(bytes.subarray(at, at + first), offset);
    if (first < length) target.set(bytes.subarray(0, length - first), offset + first);
  }

  /** Moves the head. */
  advance(length: number): void {
    this.#head = (this.#head + length) & (this.#bytes.length - 1);
  }

  /** Gives the memory back; the ring is empty and may grow again. */
  release(): void {
    if (this.#bytes.length > 0) this.#pool.give(this.#bytes);
    this.#bytes = NONE;
    this.#head = 0;
  }
}
