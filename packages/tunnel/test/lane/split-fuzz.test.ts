/** Whatever stands in a read of a TUN, splitting it throws nothing, and writes nothing but the bytes of the packets that it placed. */
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PacketMemory } from '../../src/lane/offload/memory.ts';
import { split } from '../../src/lane/offload/split.ts';
import { build, vnetHeader } from './reference.ts';
import { shapes } from './shapes.ts';

/** `npm run fuzz` asks for more. */
const READS = Math.ceil(Number(process.env['SEALANE_FUZZ'] ?? 500_000) / 100);
const SEED = Number(process.env['SEALANE_SEED'] ?? 1);
const FILL = 0xee;
/** Where a read lies, and where packets go, which end at any alignment. */
const READ_AT = 64 - 10;
const PLACED_FROM = 8_000;
const BETWEEN = 48;
/** As the lane has it. */
const memory = PacketMemory.fast(200_000);
const untouched = Buffer.alloc(memory.bytes.length, FILL);

/** How many packets a read was split into, after a look at every byte of the memory; undefined when it was refused. */
function splitsInto(read: Uint8Array, padding = 0): number | undefined {
  const { bytes } = memory;
  bytes.fill(FILL);
  bytes.set(read, READ_AT);
  const placed: { readonly at: number; readonly length: number }[] = [];
  let next = PLACED_FROM + padding;
  const place = (length: number): number => {
    const at = next;
    next += length + BETWEEN;
    if (length < 0 || next > bytes.length) throw new Error(`no room for a packet of ${length} bytes at ${at}`);
    placed.push({ at, length });
    return at;
  };
  const done = split(memory, READ_AT, read.length, { place });
  if (!done && placed.length > 0) throw new Error(`refused, after ${placed.length} packets were placed`);
  if (Buffer.compare(bytes.subarray(READ_AT, READ_AT + read.length), read) !== 0)
    throw new Error('the read was changed');
  expectUntouched(0, READ_AT);
  let from = READ_AT + read.length;
  for (const { at, length } of placed) {
    expectUntouched(from, at);
    from = at + length;
  }
  expectUntouched(from, bytes.length);
  return done ? placed.length : undefined;
}

function expectUntouched(from: number, to: number): void {
  if (Buffer.compare(memory.bytes.subarray(from, to), untouched.subarray(from, to)) === 0) return;
  const at = memory.bytes.subarray(from, to).findIndex((byte) => byte !== FILL);
  throw new Error(`wrote at ${from + at}, between ${from} and ${to}, where no packet is`);
}

/** Mostly what a kernel would say of the packet, with none, some or all of its bytes lies. */
const header = fc.record({
  gsoSize: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 255 }), fc.integer({ min: 256, max: 3_000 })),
  lies: fc.uint8Array({ minLength: 10, maxLength: 10 }),
  lying: fc.oneof(
    fc.constant(0),
    fc.nat(9).map((field) => 1 << field),
    fc.nat(0x3ff),
  ),
});
const changes = fc.array(fc.record({ at: fc.nat(99), value: fc.nat(255) }), { maxLength: 3 });
/** How much of the packet is there. */
const rest = fc.oneof(fc.constant(65_535), fc.nat(140), fc.nat(3_000));

describe('split', () => {
  it('never writes beyond what it placed, whatever the header says', { timeout: 60_000 + READS * 20 }, () => {
    let [many, one, refused] = [0, 0, 0];
    fc.assert(
      fc.property(
        shapes,
        header,
        changes,
        rest,
        fc.nat(3),
        (shape, { gsoSize, lies, lying }, changed, there, padding) => {
          const start = vnetHeader(shape, gsoSize).map((byte, i) => ((lying >> i) & 1 ? lies[i]! : byte));
          // Of a few bytes a segment there would be more packets than there is room for.
          const isSmall = start[5] === 0;
          const whole = build({ ...shape, payload: shape.payload.subarray(0, isSmall ? 600 : 3_000) }, true);
          for (const { at, value } of changed) if (at < whole.length) whole[at] = value;
          const packet = whole.subarray(0, there);
          const packets = splitsInto(Uint8Array.from([...start, ...packet]), padding);
          if (packets === undefined) refused++;
          else if (packets > 1) many++;
          else one++;
        },
      ),
      { numRuns: READS, seed: SEED },
    );
    // Everything was reached.
    for (const count of [many, one, refused]) expect(count).toBeGreaterThan(READS / 20);
  });

  it('of the corpus: each case is what a careless reader would go too far for', () => {
    const file = new URL('../../../../test/fuzz/corpus/vnet.json', import.meta.url);
    const cases = JSON.parse(readFileSync(file, 'utf8')) as { note: string; hex: string; packets?: number }[];
    expect(cases.length).toBeGreaterThan(15);
    for (const { note, hex, packets } of cases)
      for (const padding of [0, 1, 2, 3])
        expect(splitsInto(new Uint8Array(Buffer.from(hex, 'hex')), padding), note).toBe(packets);
  });
});
