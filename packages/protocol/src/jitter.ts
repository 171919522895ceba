import { REKEY_TIMEOUT_JITTER } from './constants.ts';

const DRAWS = 128;

/** Random delays of 0 to REKEY_TIMEOUT_JITTER - 1 ms, drawn in advance so that the data path may ask for one. */
export class JitterSource {
  readonly #random: (length: number) => Uint8Array;
  #pool: Uint8Array = new Uint8Array(0);
  #used = 0;

  constructor(random: (length: number) => Uint8Array) {
    this.#random = random;
  }

  next(): number {
    if (this.#used >= this.#pool.length) {
      this.#pool = this.#random(2 * DRAWS);
      this.#used = 0;
    }
    const draw = this.#pool[this.#used]! | (this.#pool[this.#used + 1]! << 8);
    this.#used += 2;
    return Math.floor((draw / 2 ** 16) * REKEY_TIMEOUT_JITTER);
  }
}
