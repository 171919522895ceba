/** Random bytes drawn many at once: nothing is given out twice, and nothing shares memory. */
import { describe, expect, it } from 'vitest';
import { randomSecret } from '../src/crypto/random.ts';

describe('random secrets', () => {
  it('are as long as asked for, also where a share ends the pool or exceeds one', () => {
    for (const length of [0, 1, 4, 31, 32, 63, 64, 65, 768, 65_536]) {
      for (let n = 0; n < 200; n++) expect(randomSecret(length)).toHaveLength(length);
    }
  });

  it('never repeat', () => {
    const seen = new Set(Array.from({ length: 5_000 }, () => Buffer.from(randomSecret(16)).toString('hex')));
    expect(seen.size).toBe(5_000);
  });

  it("are the taker's own: filling one changes no other", () => {
    const kept = Array.from({ length: 300 }, () => randomSecret(32));
    const before = kept.map((bytes) => bytes.slice());
    for (let n = 0; n < 300; n++) randomSecret(32).fill(0xff);
    expect(kept).toEqual(before);
    expect(new Set(kept.map(({ buffer }) => buffer)).size).toBe(300);
  });
});
