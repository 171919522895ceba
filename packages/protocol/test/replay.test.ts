/** Paper section 5.4.6 and RFC 6479: the window of 8,192 bits, of which 8,128 are usable. */
import { describe, expect, it } from 'vitest';
import { ReplayWindow } from '../src/replay.ts';
import { generator } from '../../../test/sim/random.ts';
import { vectors } from './support/bytes.ts';

const WINDOW = 8128n;
const LIMIT = 2n ** 64n - 2n ** 13n - 1n;

const accept = (window: ReplayWindow, counter: bigint): boolean =>
  window.accept(Number(counter & 0xffffffffn), Number(counter >> 32n));

/** The rule in one line each, with a set in place of a ring. */
class SlowWindow {
  readonly #seen = new Set<bigint>();
  #newest = 0n;

  accept(counter: bigint): boolean {
    if (counter >= LIMIT || counter + WINDOW < this.#newest || this.#seen.has(counter)) return false;
    this.#seen.add(counter);
    if (counter > this.#newest) this.#newest = counter;
    return true;
  }
}

describe('ReplayWindow', () => {
  const file = vectors<{
    readonly limit: string;
    readonly window: number;
    readonly sequences: readonly (readonly [string, string, boolean][])[];
  }>('wireguard-go/replay.json');

  it.each(file.sequences.map((sequence, number) => ({ number, sequence })))(
    'walks sequence $number of wireguard-go',
    ({ sequence }) => {
      expect(BigInt(file.limit)).toBe(LIMIT);
      expect(BigInt(file.window)).toBe(WINDOW);
      const window = new ReplayWindow();
      for (const [first, last, accepted] of sequence) {
        const step = BigInt(first) <= BigInt(last) ? 1n : -1n;
        for (let counter = BigInt(first); ; counter += step) {
          if (accept(window, counter) !== accepted)
            expect.fail(`counter ${counter} should be ${accepted ? 'accepted' : 'refused'}`);
          if (counter === BigInt(last)) break;
        }
      }
    },
  );

  it.each([0n, 2n ** 31n, 2n ** 32n, 2n ** 53n - 4000n, 2n ** 53n, 2n ** 60n, 2n ** 63n, LIMIT - 30_000n])(
    'agrees with a slow window on random counters from %s on',
    (base) => {
      const random = generator(Number(base % 1_000_003n) + 1);
      const window = new ReplayWindow();
      const slow = new SlowWindow();
      const wrong: string[] = [];
      let centre = base;
      for (let i = 0; i < 20_000; i++) {
        if (random.below(200) === 0) centre += BigInt(random.below(20_000));
        else centre += BigInt(random.below(3));
        const counter = centre - BigInt(random.below(9_000));
        if (counter < 0n || counter >= 2n ** 64n) continue;
        const expected = slow.accept(counter);
        if (accept(window, counter) !== expected)
          wrong.push(`step ${i}: ${counter} should be ${expected ? 'accepted' : 'refused'}`);
      }
      expect(wrong).toEqual([]);
    },
  );

  it('never accepts a counter at or past Reject-After-Messages', () => {
    const window = new ReplayWindow();
    expect(accept(window, LIMIT)).toBe(false);
    expect(accept(window, 2n ** 64n - 1n)).toBe(false);
    expect(accept(window, 0n)).toBe(true);
    expect(accept(window, LIMIT - 1n)).toBe(true);
    expect(accept(window, LIMIT - 1n)).toBe(false);
  });

  it('tolerates a reordering depth of 8,000 and drops only what is later than 8,128', () => {
    const deep = new ReplayWindow();
    for (let start = 0n; start < 64_000n; start += 8000n) {
      for (let counter = start + 7999n; counter >= start; counter--) {
        if (!accept(deep, counter)) expect.fail(`counter ${counter}`);
      }
    }
    const late = new ReplayWindow();
    expect(accept(late, 8200n)).toBe(true);
    for (let counter = 0n; counter < 8200n; counter++) {
      if (accept(late, counter) !== counter >= 8200n - WINDOW) expect.fail(`counter ${counter}`);
    }
  });

  it('forgets everything after a jump of 2^32 windows', () => {
    const window = new ReplayWindow();
    expect(accept(window, 5n)).toBe(true);
    expect(accept(window, 5n + 2n ** 45n)).toBe(true);
    expect(accept(window, 5n)).toBe(false);
    expect(accept(window, 6n + 2n ** 45n - 8192n + 64n)).toBe(true);
  });
});
