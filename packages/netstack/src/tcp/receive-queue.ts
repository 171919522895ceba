/**
 * Received bytes: in order for the reader, and beyond the gap what came early, written where it belongs in the same ring.
 * Positions are stream offsets; the first byte of the stream is 1 (the SYN is 0).
 */
import { type BufferSource, ByteRing } from '../byte-ring.ts';

/** More gaps than this are not kept track of; what would make another is dropped and comes again. */
const MAX_RANGES = 512;
const MAX_RECENT = 4;

export class ReceiveQueue {
  readonly #ring: ByteRing;
  /** First byte that was not read. */
  #start = 1;
  /** RCV.NXT for data: first byte that has not arrived. */
  next = 1;
  /** Early ranges, ascending and apart: start, end, start, end ... */
  readonly #ranges: number[] = [];
  /** Starts of the latest arrivals, newest first: RFC 2018 §4 wants them reported first. */
  readonly #recent: number[] = [];

  constructor(pool: BufferSource) {
    this.#ring = new ByteRing(pool);
  }

  /** Bytes that can be read. */
  get readable(): number {
    return this.next - this.#start;
  }

  get hasGaps(): boolean {
    return this.#ranges.length > 0;
  }

  /** Takes data that starts at `offset` and is neither old nor beyond the window; else says what there is no room for. */
  insert(offset: number, source: Uint8Array, at: number, length: number): 'limit-memory' | 'limit-gaps' | undefined {
    if (!this.#ring.ensure(offset + length - this.#start)) return 'limit-memory';
    const end = offset + length;
    if (offset === this.next) {
      this.#ring.write(offset - this.#start, source, at, length);
      this.next = end;
      if (this.#ranges.length > 0) this.#absorb();
      return undefined;
    }
    if (!this.#addRange(offset, end)) return 'limit-gaps';
    this.#ring.write(offset - this.#start, source, at, length);
    if (this.#recent.length === MAX_RECENT) this.#recent.pop();
    this.#recent.unshift(offset);
    return undefined;
  }

  /** Copies up to `length` bytes out; returns how many. */
  read(target: Uint8Array, offset: number, length: number): number {
    const count = Math.min(length, this.readable);
    if (count === 0) return 0;
    this.#ring.read(0, target, offset, count);
    this.#start += count;
    if (this.#start === this.next && this.#ranges.length === 0) this.#ring.release();
    else this.#ring.advance(count);
    return count;
  }

  /** Writes up to `maximum` SACK blocks as pairs into `out` and returns their number, the newest first (RFC 2018 §4). */
  sackBlocks(out: Float64Array, maximum: number): number {
    let count = 0;
    const { length } = this.#ranges;
    for (let r = 0; r < this.#recent.length && count < maximum; r++) {
      const i = this.#find(this.#recent[r]!);
      if (i < length && !isListed(out, count, this.#ranges[i]!)) count = this.#list(out, count, i);
    }
    for (let i = 0; i < length && count < maximum; i += 2) {
      if (!isListed(out, count, this.#ranges[i]!)) count = this.#list(out, count, i);
    }
    return count;
  }

  /** Forgets what lies beyond a gap: nothing more will come. */
  forgetEarly(): void {
    this.#ranges.length = 0;
    this.#recent.length = 0;
    if (this.readable === 0) this.#ring.release();
  }

  /** Forgets everything and gives the memory back. */
  release(): void {
    this.#ring.release();
    this.#start = this.next;
    this.#ranges.length = 0;
    this.#recent.length = 0;
  }

  #list(out: Float64Array, count: number, i: number): number {
    out[count * 2] = this.#ranges[i]!;
    out[count * 2 + 1] = this.#ranges[i + 1]!;
    return count + 1;
  }

  /** The index of the first range that ends after `offset`. */
  #find(offset: number): number {
    let low = 0;
    let high = this.#ranges.length / 2;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#ranges[middle * 2 + 1]! <= offset) low = middle + 1;
      else high = middle;
    }
    return low * 2;
  }

  #addRange(start: number, end: number): boolean {
    const ranges = this.#ranges;
    let i = this.#find(start);
    if (i > 0 && ranges[i - 1] === start) i -= 2;
    let until = i;
    let from = start;
    let to = end;
    while (until < ranges.length && ranges[until]! <= end) {
      from = Math.min(from, ranges[until]!);
      to = Math.max(to, ranges[until + 1]!);
      until += 2;
    }
    if (until === i && ranges.length >= MAX_RANGES * 2) return false;
    if (until === i + 2) {
      ranges[i] = from;
      ranges[i + 1] = to;
    } else {
      ranges.splice(i, until - i, from, to);
    }
    return true;
  }

  /** Takes over the early ranges that RCV.NXT has reached. */
  #absorb(): void {
    const ranges = this.#ranges;
    let count = 0;
    while (count < ranges.length && ranges[count]! <= this.next) {
      this.next = Math.max(this.next, ranges[count + 1]!);
      count += 2;
    }
    if (count > 0) ranges.splice(0, count);
    if (ranges.length === 0) this.#recent.length = 0;
  }
}

function isListed(out: Float64Array, count: number, start: number): boolean {
  for (let i = 0; i < count; i++) if (out[i * 2] === start) return true;
  return false;
}
