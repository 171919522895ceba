/** Token bucket a source address for handshakes under load: 20 a second, bursts of 5, bounded memory. */

const PACKETS_PER_SECOND = 20;
const BURST = 5;
const COST = 1000 / PACKETS_PER_SECOND;
const MAX_TOKENS = COST * BURST;
/** A bucket is full again by then and need not be kept. */
const IDLE_AFTER = 1_000;
const MAX_ENTRIES = 65_536;

interface Bucket {
  at: number;
  /** Milliseconds of credit. */
  tokens: number;
}

export class RateLimiter {
  readonly #buckets = new Map<string, Bucket>();
  #sweptAt = -Infinity;

  /** Number of sources kept. */
  get size(): number {
    return this.#buckets.size;
  }

  /** When `sweep` is due, Infinity while nothing is kept. */
  nextSweep(): number {
    return this.#buckets.size === 0 ? Infinity : this.#sweptAt + IDLE_AFTER;
  }

  /**
   * True when `address` (4 or 16 bytes) may have one more handshake processed. IPv6 sources count by /64.
   * Refuses new sources while the table is full.
   */
  allow(address: Uint8Array, now: number): boolean {
    if (now - this.#sweptAt >= IDLE_AFTER) this.sweep(now);
    const key = sourceKey(address);
    const bucket = this.#buckets.get(key);
    if (bucket === undefined) {
      if (this.#buckets.size >= MAX_ENTRIES) return false;
      this.#buckets.set(key, { at: now, tokens: MAX_TOKENS - COST });
      return true;
    }
    bucket.tokens = Math.min(MAX_TOKENS, bucket.tokens + (now - bucket.at));
    bucket.at = now;
    if (bucket.tokens < COST) return false;
    bucket.tokens -= COST;
    return true;
  }

  /** Forgets every source that was quiet for a second. */
  sweep(now: number): void {
    this.#sweptAt = now;
    for (const [key, bucket] of this.#buckets) {
      if (now - bucket.at >= IDLE_AFTER) this.#buckets.delete(key);
    }
  }
}

/** What counts as one source: an IPv4 address (4 bytes) or the /64 of an IPv6 one (16 bytes). */
export function sourceKey(address: Uint8Array): string {
  return String.fromCharCode(...address.subarray(0, address.length === 16 ? 8 : 4));
}
