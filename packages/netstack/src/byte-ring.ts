/** Stream bytes in rings of a power of two, taken from a pool that bounds all of a stack's buffers. */

const SMALLEST_ORDER = 11;
const LARGEST_ORDER = 26;
/** Who holds more than one useful window opens further connections only while there is memory for another. */
const USEFUL_WINDOW = 64 << 10;
const PART_OF_FREE = 1 / 8;
/** Free buffers kept for the next taker, all sizes together. */
const MAX_KEPT_BYTES = 32 << 20;

/** Where rings get their memory from. */
export interface BufferSource {
  /** Whether little is left, and buffers should not grow for speed alone. */
  readonly isUnderPressure: boolean;
  /** Whether there is memory for a buffer at all. */
  readonly hasRoom: boolean;
  /** A buffer of at least `size` bytes, its length a power of two, or undefined at the limit. */
  take(size: number): Uint8Array | undefined;
  give(buffer: Uint8Array): void;
}

export class BufferPool implements BufferSource {
  /** Bytes in use by rings. */
  used = 0;
  readonly limit: number;
  #kept = 0;
  readonly #free: Uint8Array[][] = Array.from({ length: LARGEST_ORDER + 1 }, () => []);

  constructor(limit: number) {
    this.limit = limit;
  }

  get isUnderPressure(): boolean {
    return this.used > this.limit * 0.875;
  }

  get hasRoom(): boolean {
    return this.used + (1 << SMALLEST_ORDER) <= this.limit;
  }

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

/**
 * What one source may take of a pool: no more than its limit, nor more than a part of what is still free. So something is
 * left for the next source, however many hold all they can and give nothing back.
 */
export class BufferShare implements BufferSource {
  used = 0;
  /** Connections that may take from it. */
  holders = 0;
  readonly #pool: BufferPool;
  readonly #limit: number;
  readonly #onUnused: () => void;

  constructor(pool: BufferPool, limit: number, onUnused: () => void) {
    this.#pool = pool;
    this.#limit = limit;
    this.#onUnused = onUnused;
  }

  get isUnderPressure(): boolean {
    return this.used > this.#bound * 0.875 || this.#pool.isUnderPressure;
  }

  get hasRoom(): boolean {
    return this.used + (1 << SMALLEST_ORDER) <= this.#bound;
  }

  /** Whether one more connection would have something to live on. */
  get hasRoomForAnother(): boolean {
    return this.used < USEFUL_WINDOW || this.used + USEFUL_WINDOW <= this.#bound;
  }

  take(size: number): Uint8Array | undefined {
    const length = 2 ** Math.max(SMALLEST_ORDER, Math.ceil(Math.log2(size)));
    if (this.used + length > this.#bound) return undefined;
    const buffer = this.#pool.take(size);
    if (buffer !== undefined) this.used += buffer.length;
    return buffer;
  }

  give(buffer: Uint8Array): void {
    this.used -= buffer.length;
    this.#pool.give(buffer);
    this.#settle();
  }

  join(): this {
    this.holders++;
    return this;
  }

  leave(): void {
    this.holders--;
    this.#settle();
  }

  get #bound(): number {
    const { limit, used } = this.#pool;
    return Math.min(this.#limit, (limit - used) * PART_OF_FREE);
  }

  #settle(): void {
    if (this.used === 0 && this.holders === 0) this.#onUnused();
  }
}

/** The shares of all sources that hold something. */
export class BufferShares {
  readonly #pool: BufferPool;
  readonly #limit: number;
  readonly #shares = new Map<string | number, BufferShare>();

  constructor(pool: BufferPool, limit: number) {
    this.#pool = pool;
    this.#limit = limit;
  }

  /** The share of a source, present or new. */
  of(source: string | number): BufferShare {
    const known = this.#shares.get(source);
    if (known !== undefined) return known;
    const share: BufferShare = new BufferShare(this.#pool, this.#limit, () => this.#shares.delete(source));
    this.#shares.set(source, share);
    return share;
  }

  hasRoomFor(source: string | number): boolean {
    return this.#shares.get(source)?.hasRoomForAnother ?? true;
  }
}

const NONE = new Uint8Array(0);

/** A growing ring; positions count from the head. What lies where is the owner's business. */
export class ByteRing {
  readonly #pool: BufferSource;
  #bytes: Uint8Array = NONE;
  #head = 0;

  constructor(pool: BufferSource) {
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
