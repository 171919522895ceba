import { REJECT_AFTER_MESSAGES_HIGH, REJECT_AFTER_MESSAGES_LOW, REPLAY_WINDOW_BITS } from './constants.ts';

const WORDS = REPLAY_WINDOW_BITS / 32;
/** The word that holds the newest counter is not usable as a whole; wireguard-go and the kernel keep 64 bits free. */
const USABLE = REPLAY_WINDOW_BITS - 64;
const TWO_32 = 2 ** 32;

/**
 * Sliding window of seen counters (RFC 6479: a ring of words instead of shifted bits). Counters are 64 bits in two halves.
 * Call `accept` after the packet's tag was verified, never before.
 */
export class ReplayWindow {
  readonly #seen = new Uint32Array(WORDS);
  /** The newest accepted counter. */
  #low = 0;
  #high = 0;

  /** True, and remembered, when this counter is new and within the window; false when it must be dropped. */
  accept(low: number, high: number): boolean {
    if (high === REJECT_AFTER_MESSAGES_HIGH && low >= REJECT_AFTER_MESSAGES_LOW) return false;
    // Exact while the distance is below 2^53; beyond, rounding cannot bring it near the window.
    const ahead = (high - this.#high) * TWO_32 + (low - this.#low);
    if (ahead > 0) {
      this.#advance(low, ahead);
      this.#low = low;
      this.#high = high;
    } else if (-ahead > USABLE) {
      return false;
    }
    const word = (low >>> 5) % WORDS;
    const bit = 1 << (low & 31);
    if ((this.#seen[word]! & bit) !== 0) return false;
    this.#seen[word]! |= bit;
    return true;
  }

  /** Clears the words that lie between the old newest counter and the new one. */
  #advance(low: number, ahead: number): void {
    const from = this.#low >>> 5;
    const words = Math.min(Math.floor(((this.#low & 31) + ahead) / 32), WORDS);
    if (words === WORDS) {
      this.#seen.fill(0);
      return;
    }
    for (let i = 1; i <= words; i++) this.#seen[(from + i) % WORDS] = 0;
  }
}
