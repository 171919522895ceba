/** ICMP and ICMPv6 echo (RFC 792, RFC 4443 section 4) inside IPv4 and IPv6 packets, with all their checksums. */

const ICMP = 1;
const ICMPV6 = 58;
const ECHO_HEADER = 8;
const IPV4_HEADER = 20;
const IPV6_HEADER = 40;
const HOP_LIMIT = 64;
const FRAGMENT_BITS = 0x3fff;

const REQUEST = { 4: 8, 6: 128 } as const;
const REPLY = { 4: 0, 6: 129 } as const;

/** An echo message found in a packet; offsets are into the buffer that was parsed. */
export interface Echo {
  readonly kind: 'request' | 'reply';
  readonly version: 4 | 6;
  readonly icmpOffset: number;
  readonly icmpLength: number;
  readonly id: number;
  readonly sequence: number;
  readonly payloadOffset: number;
  readonly payloadLength: number;
}

/** Bytes that an echo's payload needs around it: 28 for IPv4, 48 for IPv6. */
export function echoOverhead(version: 4 | 6): number {
  return (version === 4 ? IPV4_HEADER : IPV6_HEADER) + ECHO_HEADER;
}

/** The echo message in the packet, or undefined when it is none, a fragment, or a checksum or length is wrong. */
export function parseEcho(view: DataView, offset: number, length: number): Echo | undefined {
  const version = length >= IPV4_HEADER ? view.getUint8(offset) >>> 4 : 0;
  const icmp = version === 4 ? icmpInIpv4(view, offset, length) : version === 6 ? icmpInIpv6(view, offset, length) : 0;
  if (icmp === 0 || (version !== 4 && version !== 6)) return undefined;
  const end = offset + (version === 4 ? view.getUint16(offset + 2) : IPV6_HEADER + view.getUint16(offset + 4));
  const icmpLength = end - icmp;
  if (icmpLength < ECHO_HEADER || end > offset + length) return undefined;
  const type = view.getUint8(icmp);
  if ((type !== REQUEST[version] && type !== REPLY[version]) || view.getUint8(icmp + 1) !== 0) return undefined;
  const start = version === 4 ? 0 : pseudoHeaderSum(view, offset, icmpLength);
  if (fold(sum(view, icmp, icmpLength, start)) !== 0xffff) return undefined;
  return {
    kind: type === REQUEST[version] ? 'request' : 'reply',
    version,
    icmpOffset: icmp,
    icmpLength,
    id: view.getUint16(icmp + 4),
    sequence: view.getUint16(icmp + 6),
    payloadOffset: icmp + ECHO_HEADER,
    payloadLength: icmpLength - ECHO_HEADER,
  };
}

/**
 * Writes an echo request at `offset` and returns its length in bytes. The addresses have 4 or 16 bytes, both the same;
 * `id` and `sequence` are 16 bits.
 */
export function writeEchoRequest(
  view: DataView,
  offset: number,
  source: Uint8Array,
  target: Uint8Array,
  id: number,
  sequence: number,
  payload: Uint8Array,
): number {
  const version = source.length === 4 ? 4 : 6;
  const bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
  const icmp = offset + (version === 4 ? IPV4_HEADER : IPV6_HEADER);
  const icmpLength = ECHO_HEADER + payload.length;
  bytes.fill(0, offset, icmp + ECHO_HEADER);
  bytes.set(payload, icmp + ECHO_HEADER);
  if (version === 4) {
    view.setUint8(offset, 0x45);
    view.setUint16(offset + 2, IPV4_HEADER + icmpLength);
    view.setUint8(offset + 8, HOP_LIMIT);
    view.setUint8(offset + 9, ICMP);
    bytes.set(source, offset + 12);
    bytes.set(target, offset + 16);
    view.setUint16(offset + 10, ~fold(sum(view, offset, IPV4_HEADER, 0)) & 0xffff);
  } else {
    view.setUint8(offset, 0x60);
    view.setUint16(offset + 4, icmpLength);
    view.setUint8(offset + 6, ICMPV6);
    view.setUint8(offset + 7, HOP_LIMIT);
    bytes.set(source, offset + 8);
    bytes.set(target, offset + 24);
  }
  view.setUint8(icmp, REQUEST[version]);
  view.setUint16(icmp + 4, id);
  view.setUint16(icmp + 6, sequence);
  writeIcmpChecksum(view, offset, version, icmp, icmpLength);
  return icmp + icmpLength - offset;
}

/** Turns the echo request at `offset` into its reply where it lies: same length, addresses swapped. */
export function turnIntoReply(view: DataView, offset: number, echo: Echo): void {
  const bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
  const [sourceAt, targetAt, size] = echo.version === 4 ? [12, 16, 4] : [8, 24, 16];
  const source = bytes.slice(offset + sourceAt, offset + sourceAt + size);
  bytes.copyWithin(offset + sourceAt, offset + targetAt, offset + targetAt + size);
  bytes.set(source, offset + targetAt);
  if (echo.version === 4) {
    view.setUint8(offset + 8, HOP_LIMIT);
    view.setUint16(offset + 10, 0);
    view.setUint16(offset + 10, ~fold(sum(view, offset, echo.icmpOffset - offset, 0)) & 0xffff);
  } else {
    view.setUint8(offset + 7, HOP_LIMIT);
  }
  view.setUint8(echo.icmpOffset, REPLY[echo.version]);
  writeIcmpChecksum(view, offset, echo.version, echo.icmpOffset, echo.icmpLength);
}

/** The destination address of a packet that `parseEcho` accepted, as a view into the buffer. */
export function targetOf(buffer: Uint8Array, offset: number, echo: Echo): Uint8Array {
  const at = offset + (echo.version === 4 ? 16 : 24);
  return buffer.subarray(at, at + (echo.version === 4 ? 4 : 16));
}

function icmpInIpv4(view: DataView, offset: number, length: number): number {
  const headerLength = (view.getUint8(offset) & 0x0f) * 4;
  if (headerLength < IPV4_HEADER || headerLength > length || view.getUint8(offset + 9) !== ICMP) return 0;
  if ((view.getUint16(offset + 6) & FRAGMENT_BITS) !== 0) return 0;
  if (view.getUint16(offset + 2) < headerLength) return 0;
  return fold(sum(view, offset, headerLength, 0)) === 0xffff ? offset + headerLength : 0;
}

function icmpInIpv6(view: DataView, offset: number, length: number): number {
  return length >= IPV6_HEADER && view.getUint8(offset + 6) === ICMPV6 ? offset + IPV6_HEADER : 0;
}

function writeIcmpChecksum(view: DataView, offset: number, version: 4 | 6, icmp: number, icmpLength: number): void {
  view.setUint16(icmp + 2, 0);
  const start = version === 4 ? 0 : pseudoHeaderSum(view, offset, icmpLength);
  view.setUint16(icmp + 2, ~fold(sum(view, icmp, icmpLength, start)) & 0xffff);
}

/** RFC 8200 section 8.1. */
function pseudoHeaderSum(view: DataView, offset: number, icmpLength: number): number {
  return sum(view, offset + 8, 32, icmpLength + ICMPV6);
}

/** RFC 1071; below 2^53 for any packet. */
function sum(view: DataView, offset: number, length: number, start: number): number {
  let total = start;
  const even = offset + (length & ~1);
  for (let i = offset; i < even; i += 2) total += view.getUint16(i);
  if ((length & 1) === 1) total += view.getUint8(even) << 8;
  return total;
}

function fold(total: number): number {
  let folded = total;
  while (folded > 0xffff) folded = (folded & 0xffff) + Math.floor(folded / 0x10000);
  return folded;
}
