import { TokenBucket } from './token-bucket.ts';

/** In all, and to one source: who provokes errors has at most a tenth of them, and the others hear theirs. */
const PER_SECOND = 1000;
const PER_SOURCE_PER_SECOND = 100;
/** Those that were not told of anything for the longest time give way. */
const MOST_SOURCES = 1024;

/** How many ICMP errors may leave (RFC 1812 §4.3.2.8, RFC 4443 §2.4 (f)): so many in all and, as Linux has it, so many to each. */
export class ErrorRates {
  readonly #all = new TokenBucket(PER_SECOND, PER_SECOND);
  readonly #sources = new Map<string | number, TokenBucket>();

  /** Sources that are remembered. */
  get size(): number {
    return this.#sources.size;
  }

  /** Whether `source` may be told of one more error. */
  take(source: string | number, now: number): boolean {
    const bucket = this.#sources.get(source) ?? new TokenBucket(PER_SOURCE_PER_SECOND, PER_SOURCE_PER_SECOND);
    this.#sources.delete(source);
    if (this.#sources.size >= MOST_SOURCES) {
      for (const oldest of this.#sources.keys()) {
        this.#sources.delete(oldest);
        break;
      }
    }
    this.#sources.set(source, bucket);
    return bucket.take(now) && this.#all.take(now);
  }
}
