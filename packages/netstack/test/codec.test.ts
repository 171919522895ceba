import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { IpAddress, parseAddress } from '../src/index.ts';
import { checksumOf, isChecksumValid, sumBytes } from '../src/checksum.ts';
import { SipHash } from '../src/siphash.ts';

describe('addresses', () => {
  it.each([
    ['0.0.0.0', '0.0.0.0'],
    ['255.255.255.255', '255.255.255.255'],
    ['127.0.0.1', '127.0.0.1'],
    ['::', '::'],
    ['::1', '::1'],
    ['FD00:0:0:0::1', 'fd00::1'],
    ['2001:db8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
    ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
    ['::ffff:1.2.3.4', '1.2.3.4'],
    ['64:ff9b::1.2.3.4', '64:ff9b::102:304'],
  ])('%s reads and prints as %s (RFC 5952)', (text, canonical) => {
    expect(String(parseAddress(text))).toBe(canonical);
  });

  it.each([
    '',
    '1.2.3',
    '1.2.3.4.5',
    '010.1.1.1',
    '256.1.1.1',
    '1.2.3.4 ',
    ':',
    ':::',
    '1::2::3',
    '1:2:3:4:5:6:7',
    '1:2:3:4:5:6:7:8:9',
    '1:2:3:4:5:6:7::8:9',
    'fe80::1%eth0',
    '12345::',
    '1.2.3.4::',
    '::1.2.3',
  ])('refuses %j', (text) => {
    expect(parseAddress(text)).toBeUndefined();
  });

  it('survive the round trip', () => {
    fc.assert(
      fc.property(fc.tuple(word(), word(), word(), word()), ([a, b, c, d]) => {
        const address = new IpAddress(a, b, c, d);
        expect(parseAddress(address.toString())?.equals(address)).toBe(true);
      }),
    );
  });
});

function word(): fc.Arbitrary<number> {
  return fc.oneof(fc.constantFrom(0, 0xffff, 1), fc.integer());
}

describe('the checksum', () => {
  it('is that of RFC 1071 for every length and offset', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(7), (bytes, shift) => {
        const padded = new Uint8Array(bytes.length + 8).fill(0xee);
        padded.set(bytes, shift);
        let expected = 0;
        for (let i = 0; i < bytes.length; i += 2) expected += (bytes[i]! << 8) | (bytes[i + 1] ?? 0);
        while (expected > 0xffff) expected = (expected & 0xffff) + (expected >>> 16);
        const sum = sumBytes(new DataView(padded.buffer), shift, bytes.length);
        const isZero = bytes.every((byte) => byte === 0);
        expect(checksumOf(sum)).toBe(isZero ? 0 : ~expected & 0xffff);
        expect(isChecksumValid(sum + checksumOf(sum))).toBe(true);
      }),
    );
  });
});

describe('SipHash-2-4', () => {
  it('gives the reference vectors', () => {
    const hash = new SipHash(Uint8Array.from({ length: 16 }, (_, i) => i));
    const out = new Int32Array(2);
    // From the reference implementation's vectors_sip64, for inputs 00 01 02 ... of 0, 4, 8 and 12 bytes.
    const vectors: readonly (readonly [readonly number[], string])[] = [
      [[], '310e0edd47db6f72'],
      [[0x03020100], 'b7877127e09427cf'],
      [[0x03020100, 0x07060504], '6224939a79f5f593'],
      [[0x03020100, 0x07060504, 0x0b0a0908], 'fbe50e86bc8f1e75'],
    ];
    for (const [words, expected] of vectors) {
      hash.hash(Int32Array.from(words), out);
      expect(Buffer.from(out.buffer).toString('hex')).toBe(expected);
    }
  });

  it('refuses a key of another length', () => {
    expect(() => new SipHash(new Uint8Array(15))).toThrow(RangeError);
  });
});
