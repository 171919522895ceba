/** Where outbound packets go: written straight into memory that the sink owns, with the room around them that sealing needs. */

export interface PacketSink {
  /** The memory packets are written into; may be another one after each `reserve`. */
  readonly buffer: Uint8Array;
  /**
   * The offset in `buffer` for a packet of at most `maxLength` bytes, or -1 when there is no room now.
   * The sink leaves headroom and tailroom as it needs. A reservation that is not committed is void at the next call.
   */
  reserve(maxLength: number): number;
  /** The packet at the last reserved offset is complete: `length` bytes of IP. */
  commit(offset: number, length: number): void;
}

const HEADROOM = 16;
const TAILROOM = 32;

/** A batch of packets in one arena: a sink that keeps them until they are taken. */
export class PacketBatch implements PacketSink {
  readonly buffer: Uint8Array;
  readonly capacity: number;
  /** Where each packet lies; only the first `count` entries count. */
  readonly offsets: Int32Array;
  readonly lengths: Int32Array;
  count = 0;
  #end = 0;

  /** Room for `capacity` packets of at most `maxLength` bytes each. */
  constructor(capacity: number, maxLength: number) {
    this.capacity = capacity;
    this.buffer = new Uint8Array(capacity * (maxLength + HEADROOM + TAILROOM));
    this.offsets = new Int32Array(capacity);
    this.lengths = new Int32Array(capacity);
  }

  reserve(maxLength: number): number {
    const offset = this.#end + HEADROOM;
    return this.count === this.capacity || offset + maxLength + TAILROOM > this.buffer.length ? -1 : offset;
  }

  commit(offset: number, length: number): void {
    this.offsets[this.count] = offset;
    this.lengths[this.count] = length;
    this.count++;
    this.#end = (offset + length + TAILROOM + 15) & ~15;
  }

  clear(): void {
    this.count = 0;
    this.#end = 0;
  }
}
