/** IPv4 on the way in (RFC 791, RFC 1122 §3.2). */
import { isChecksumValid, sumBytes } from './checksum.ts';
import type { DropReason } from './drops.ts';
import { DONT_FRAGMENT, IPV4_HEADER_LENGTH, type IpPacket } from './ip.ts';

const OPTION_END = 0;
const OPTION_NOP = 1;
const OPTION_LOOSE_ROUTE = 131;
const OPTION_STRICT_ROUTE = 137;

/** Fills `packet` from the bytes at `offset`, or says why they are no packet for us. */
export function parseIpv4(packet: IpPacket, view: DataView, offset: number, length: number): DropReason | undefined {
  if (length < IPV4_HEADER_LENGTH) return 'malformed-ip';
  const headerLength = (view.getUint8(offset) & 15) * 4;
  const totalLength = view.getUint16(offset + 2);
  if (headerLength < IPV4_HEADER_LENGTH || totalLength < headerLength || totalLength > length) return 'malformed-ip';
  if (!isChecksumValid(sumBytes(view, offset, headerLength))) return 'bad-checksum';
  if (headerLength > IPV4_HEADER_LENGTH && hasSourceRoute(view, offset + IPV4_HEADER_LENGTH, offset + headerLength)) {
    return 'malformed-ip';
  }
  const fragment = view.getUint16(offset + 6);
  packet.family = 4;
  packet.start = offset;
  packet.length = totalLength;
  packet.protocol = view.getUint8(offset + 9);
  packet.s0 = 0;
  packet.s1 = 0;
  packet.s2 = 0xffff;
  packet.s3 = view.getInt32(offset + 12);
  packet.d0 = 0;
  packet.d1 = 0;
  packet.d2 = 0xffff;
  packet.d3 = view.getInt32(offset + 16);
  packet.payload = offset + headerLength;
  packet.payloadLength = totalLength - headerLength;
  packet.dontFragment = (fragment & DONT_FRAGMENT) !== 0;
  packet.isFragment = (fragment & 0x3fff) !== 0;
  packet.fragmentId = view.getUint16(offset + 4);
  packet.fragmentOffset = (fragment & 0x1fff) * 8;
  packet.moreFragments = (fragment & 0x2000) !== 0;
  return undefined;
}

/** RFC 7126 §4.3: source-routed packets are refused, and so is an option list that runs past the header. */
function hasSourceRoute(view: DataView, offset: number, end: number): boolean {
  while (offset < end) {
    const kind = view.getUint8(offset);
    if (kind === OPTION_END) return false;
    if (kind === OPTION_NOP) {
      offset++;
      continue;
    }
    if (kind === OPTION_LOOSE_ROUTE || kind === OPTION_STRICT_ROUTE || offset + 1 >= end) return true;
    const length = view.getUint8(offset + 1);
    if (length < 2 || offset + length > end) return true;
    offset += length;
  }
  return false;
}
