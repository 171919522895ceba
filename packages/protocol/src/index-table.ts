/** Session indexes (paper section 5.4): random 32-bit numbers that name what a message to us belongs to. */
export class IndexTable<T> {
  readonly #random: (length: number) => Uint8Array;
  readonly #entries = new Map<number, T>();

  constructor(random: (length: number) => Uint8Array) {
    this.#random = random;
  }

  get size(): number {
    return this.#entries.size;
  }

  /** Reserves an unpredictable, unused index for `entry`. */
  insert(entry: T): number {
    for (;;) {
      const bytes = this.#random(4);
      const index = (bytes[0]! | (bytes[1]! << 8) | (bytes[2]! << 16) | (bytes[3]! << 24)) >>> 0;
      if (this.#entries.has(index)) continue;
      this.#entries.set(index, entry);
      return index;
    }
  }

  lookup(index: number): T | undefined {
    return this.#entries.get(index);
  }

  delete(index: number): void {
    this.#entries.delete(index);
  }
}
