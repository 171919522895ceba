/** ML-KEM-768 (FIPS 203) against third-party answers. */
import { describe, expect, it } from 'vitest';
import { generator } from '../../../test/sim/random.ts';
import { CIPHERTEXT_LENGTH, decapsulate, encapsulate, ENCAPSULATION_KEY_LENGTH, generateKemKeys } from '../src/kem.ts';
import { hex, isZero, unhex, vectors } from './support/bytes.ts';

interface DecapsulationCase {
  readonly tcId: number;
  readonly comment?: string;
  readonly seed: string;
  readonly ek: string;
  readonly c: string;
  readonly K: string;
  readonly result: 'valid' | 'invalid';
}
interface EncapsulationCase extends Omit<DecapsulationCase, 'seed'> {
  readonly m: string;
}

function casesOf<T>(file: string): readonly T[] {
  const suite = vectors<{ readonly testGroups: readonly { readonly tests: readonly T[] }[] }>(`wycheproof/${file}`);
  return suite.testGroups.flatMap((group) => group.tests);
}

/** Hands out `bytes` and shows afterwards what became of them. */
function given(text: string): { readonly random: (length: number) => Uint8Array; readonly bytes: Uint8Array } {
  const bytes = unhex(text);
  return {
    bytes,
    random: (length) => {
      expect(length).toBe(bytes.length);
      return bytes;
    },
  };
}

describe('ML-KEM-768', () => {
  it('generates the keys of every Wycheproof seed and decapsulates as they say, wrong ciphertexts included', () => {
    const judged = { valid: 0, invalid: 0 };
    for (const c of casesOf<DecapsulationCase>('mlkem_768_test.json')) {
      // Private keys of a wrong length cannot come about here: the seed is drawn by its length.
      if (c.seed.length !== 128) continue;
      const { encapsulationKey, decapsulationKey } = generateKemKeys(given(c.seed).random);
      const name = `case ${c.tcId} ${c.comment ?? ''}`;
      if (c.ek !== '') expect(hex(encapsulationKey), name).toBe(c.ek);
      const secret = decapsulate(unhex(c.c), decapsulationKey);
      expect(secret && hex(secret), name).toBe(c.result === 'valid' ? c.K : undefined);
      judged[c.result] += 1;
    }
    expect(judged).toEqual({ valid: 63, invalid: 20 });
  });

  it('encapsulates to every Wycheproof answer and refuses keys that are too short, too long or not reduced', () => {
    const judged = { valid: 0, invalid: 0 };
    for (const c of casesOf<EncapsulationCase>('mlkem_768_encaps_test.json')) {
      const made = encapsulate(unhex(c.ek), given(c.m).random);
      const name = `case ${c.tcId} ${c.comment ?? ''}`;
      expect(made && [hex(made.ciphertext), hex(made.sharedSecret)], name).toEqual(
        c.result === 'valid' ? [c.c, c.K] : undefined,
      );
      judged[c.result] += 1;
    }
    expect(judged).toEqual({ valid: 43, invalid: 42 });
  });

  it('agrees with itself, in the lengths of the standard, and leaves no randomness behind', () => {
    const random = generator(71);
    const seed = given(hex(random.bytes(64)));
    const message = given(hex(random.bytes(32)));
    const { encapsulationKey, decapsulationKey } = generateKemKeys(seed.random);
    const made = encapsulate(encapsulationKey, message.random)!;
    expect([encapsulationKey.length, made.ciphertext.length]).toEqual([ENCAPSULATION_KEY_LENGTH, CIPHERTEXT_LENGTH]);
    expect(hex(decapsulate(made.ciphertext, decapsulationKey)!)).toBe(hex(made.sharedSecret));
    expect([isZero(seed.bytes), isZero(message.bytes)]).toEqual([true, true]);
  });
});
