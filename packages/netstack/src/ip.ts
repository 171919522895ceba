/** What IPv4 and IPv6 have in common once parsed, and the header that goes in front of outbound packets. */
import { IpAddress } from './address.ts';
import { checksumOf, sumBytes } from './checksum.ts';

export const PROTOCOL_ICMP = 1;
export const PROTOCOL_TCP = 6;
export const PROTOCOL_UDP = 17;
export const PROTOCOL_ICMPV6 = 58;

export const IPV4_HEADER_LENGTH = 20;
export const IPV6_HEADER_LENGTH = 40;
/** RFC 8200 §5: every IPv6 link carries this much. */
export const IPV6_MINIMUM_MTU = 1280;

const DEFAULT_HOP_LIMIT = 64;

/** A parsed inbound packet: addresses as words (IPv4 mapped), offsets into the buffer it lies in. One is reused for all. */
export class IpPacket {
  buffer: Uint8Array = EMPTY;
  view: DataView = new DataView(EMPTY.buffer);
  /** Offset and length of the whole packet. */
  start = 0;
  length = 0;
  family: 4 | 6 = 4;
  s0 = 0;
  s1 = 0;
  s2 = 0;
  s3 = 0;
  d0 = 0;
  d1 = 0;
  d2 = 0;
  d3 = 0;
  protocol = 0;
  /** Offset and length of the upper-layer payload. */
  payload = 0;
  payloadLength = 0;
  /** Who sent it would rather lose it than have it cut up (RFC 791 §2.3); of every whole IPv6 packet. */
  dontFragment = false;
  isFragment = false;
  fragmentId = 0;
  fragmentOffset = 0;
  moreFragments = false;
}

const EMPTY = new Uint8Array(0);

export function sourceOf(packet: IpPacket): IpAddress {
  return new IpAddress(packet.s0, packet.s1, packet.s2, packet.s3);
}

export function destinationOf(packet: IpPacket): IpAddress {
  return new IpAddress(packet.d0, packet.d1, packet.d2, packet.d3);
}

export function ipHeaderLength(family: 4 | 6): number {
  return family === 4 ? IPV4_HEADER_LENGTH : IPV6_HEADER_LENGTH;
}

/** Writes the header of a whole packet at `offset`; IPv4 carries DF, so its identification may be 0 (RFC 6864 §4.1). */
export function writeIpHeader(
  view: DataView,
  offset: number,
  source: IpAddress,
  destination: IpAddress,
  protocol: number,
  payloadLength: number,
  flowLabel = 0,
): void {
  if (source.family === 4) {
    writeIpv4Header(view, offset, source.d, destination.d, protocol, payloadLength, 0, DONT_FRAGMENT);
    return;
  }
  view.setUint32(offset, 0x60000000 | (flowLabel & 0xfffff));
  view.setUint32(offset + 4, (payloadLength << 16) | (protocol << 8) | DEFAULT_HOP_LIMIT);
  view.setInt32(offset + 8, source.a);
  view.setInt32(offset + 12, source.b);
  view.setInt32(offset + 16, source.c);
  view.setInt32(offset + 20, source.d);
  view.setInt32(offset + 24, destination.a);
  view.setInt32(offset + 28, destination.b);
  view.setInt32(offset + 32, destination.c);
  view.setInt32(offset + 36, destination.d);
}

export const DONT_FRAGMENT = 0x4000;
export const MORE_FRAGMENTS = 0x2000;

/** Writes an IPv4 header (RFC 791 §3.1); `fragment` is the flags and offset word. */
export function writeIpv4Header(
  view: DataView,
  offset: number,
  source: number,
  destination: number,
  protocol: number,
  payloadLength: number,
  id: number,
  fragment: number,
): void {
  view.setUint32(offset, 0x45000000 | (payloadLength + IPV4_HEADER_LENGTH));
  view.setUint32(offset + 4, (id << 16) | fragment);
  view.setUint32(offset + 8, (DEFAULT_HOP_LIMIT << 24) | (protocol << 16));
  view.setInt32(offset + 12, source);
  view.setInt32(offset + 16, destination);
  view.setUint16(offset + 10, checksumOf(sumBytes(view, offset, IPV4_HEADER_LENGTH)));
}
