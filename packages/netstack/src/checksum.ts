/** The Internet checksum (RFC 1071): 2^32 is 1 modulo 65535, so summing 32-bit words in a double and reducing once is exact. */

/** The unreduced sum of `length` bytes as big-endian 32-bit words, zero-padded; adds to other sums. */
export function sumBytes(view: DataView, offset: number, length: number): number {
  const end = offset + length;
  let i = offset;
  let s0 = 0;
  let s1 = 0;
  let s2 = 0;
  let s3 = 0;
  for (const stop = end - 16; i <= stop; i += 16) {
    s0 += view.getUint32(i);
    s1 += view.getUint32(i + 4);
    s2 += view.getUint32(i + 8);
    s3 += view.getUint32(i + 12);
  }
  for (; i + 4 <= end; i += 4) s0 += view.getUint32(i);
  if (i < end) {
    let word = view.getUint8(i) * 0x1000000;
    if (i + 1 < end) word += view.getUint8(i + 1) * 0x10000;
    if (i + 2 < end) word += view.getUint8(i + 2) * 0x100;
    s1 += word;
  }
  return s0 + s1 + s2 + s3;
}

/** The checksum field for a sum taken with the field zero. */
export function checksumOf(sum: number): number {
  const folded = 65535 - (sum % 65535);
  return folded === 65535 ? 0 : folded;
}

/** Whether a sum taken over everything, the checksum field included, is right. */
export function isChecksumValid(sum: number): boolean {
  return sum % 65535 === 0;
}

/** The pseudo-header's sum without the length (RFC 9293 §3.1, RFC 8200 §8.1), for two addresses given as words. */
export function pseudoHeaderSum(
  s0: number,
  s1: number,
  s2: number,
  s3: number,
  d0: number,
  d1: number,
  d2: number,
  d3: number,
  protocol: number,
): number {
  const source = isMapped(s0, s1, s2) ? s3 >>> 0 : (s0 >>> 0) + (s1 >>> 0) + (s2 >>> 0) + (s3 >>> 0);
  const destination = isMapped(d0, d1, d2) ? d3 >>> 0 : (d0 >>> 0) + (d1 >>> 0) + (d2 >>> 0) + (d3 >>> 0);
  return source + destination + protocol;
}

/** Whether these are the first words of an IPv4 address (RFC 4291 §2.5.5.2). */
export function isMapped(a: number, b: number, c: number): boolean {
  return a === 0 && b === 0 && c === 0xffff;
}
