/** The vector instructions give what the loop in JavaScript gives, and are what the text of their module says. */
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import wabt from 'wabt';
import { copyAndSum, fold, PacketMemory, sum } from '../../src/lane/offload/memory.ts';
import { MODULE, vectorMemory } from '../../src/lane/offload/vector-sum.ts';

const SIZE = 400_000;
const TARGET = 200_000;

describe('sums by vector instructions', () => {
  it('are made by the module whose text is beside them', async () => {
    const source = new URL('../../src/lane/offload/vector-sum.wat', import.meta.url);
    const assembler = await wabt();
    const { buffer } = assembler.parseWat('vector-sum.wat', readFileSync(source, 'utf8'), { simd: true }).toBinary({});
    expect(MODULE).toBe(Buffer.from(buffer).toString('base64'));
  });

  it('are those of the loop, at every alignment and length, and copy what they read and no more', () => {
    const { buffer, vector } = vectorMemory(SIZE);
    const fast = new PacketMemory(SIZE, buffer, vector);
    const plain = new PacketMemory(SIZE);
    for (let i = 0; i < SIZE; i++) plain.bytes[i] = (i * 2_654_435_761) >>> 13;
    const lengths = fc.oneof(fc.nat(200), fc.nat(2_000), fc.constantFrom(1_368, 65_535, 65_536, 131_072));
    fc.assert(
      fc.property(fc.nat(5_000), lengths, fc.nat(40), (from, length, shift) => {
        fast.bytes.set(plain.bytes.subarray(0, fast.bytes.length));
        const expected = fold(sum(plain, from, length));
        const to = TARGET + shift;
        expect(fold(fast.vector!.sum(from, length) >>> 0)).toBe(expected);
        expect(fold(sum(fast, from, length))).toBe(expected);
        expect(fold(copyAndSum(fast, to, from, length))).toBe(expected);
        const copied = plain.bytes.slice();
        copied.copyWithin(to, from, from + length);
        expect(Buffer.compare(fast.bytes.subarray(0, SIZE), copied)).toBe(0);
      }),
      { numRuns: 300 },
    );
  });

  it('do not lose a carry', () => {
    const { buffer, vector } = vectorMemory(SIZE);
    new Uint8Array(buffer).fill(0xff);
    expect(vector.sum(0, 131_072) >>> 0).toBe(65_536 * 65_535);
    expect(vector.sum(1, 131_071) >>> 0).toBe(65_535 * 65_535 + 0xff);
  });

  it('work on memory that C sees at a low address', () => {
    const memory = PacketMemory.fast(SIZE);
    if (memory.vector === undefined) throw new Error('this processor has the instructions');
    memory.bytes.set([1, 2, 3, 4], 1_000);
    expect(memory.vector.copy(2_000, 1_000, 4)).toBe(0x0201 + 0x0403);
    expect([...memory.bytes.subarray(2_000, 2_004)]).toEqual([1, 2, 3, 4]);
  });
});
