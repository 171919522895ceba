import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { packUpdate, unpackUpdate } from '../../src/lane/packed-update.ts';

const bytes = (length: number): fc.Arbitrary<Uint8Array> => fc.uint8Array({ minLength: length, maxLength: length });
const prefix = fc.record(
  {
    address: fc.oneof(bytes(4), bytes(16)),
    length: fc.nat(128),
    remove: fc.constantFrom(true as const),
  },
  { requiredKeys: ['address', 'length'] },
);
const peer = fc.record(
  { publicKey: bytes(32), replaceAllowedIps: fc.boolean(), allowedIps: fc.array(prefix, { maxLength: 20 }) },
  { requiredKeys: ['publicKey'] },
);

describe('an update on its way between threads', () => {
  it('arrives as it was', () => {
    fc.assert(
      fc.property(fc.record({ mtu: fc.nat(9_000), peers: fc.array(peer) }, { requiredKeys: [] }), (update) => {
        expect(unpackUpdate(structuredClone(packUpdate(update)))).toEqual(update);
      }),
    );
  });

  it.each([
    { address: new Uint8Array(4), length: 300 },
    { address: new Uint8Array(4), length: 0.5 },
    { address: new Uint8Array(4), length: -1 },
    { address: new Uint8Array(5), length: 1 },
    { address: new Uint8Array(300), length: 1 },
  ])('keeps what is wrong, so that the device can say so: %o', (wrong) => {
    const update = { peers: [{ publicKey: new Uint8Array(32), allowedIps: [wrong] }] };
    expect(unpackUpdate(structuredClone(packUpdate(update)))).toEqual(update);
  });
});
