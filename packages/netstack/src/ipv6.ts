/** IPv6 on the way in: the fixed header and the extension headers in front of the payload (RFC 8200). */
import { isMapped } from './checksum.ts';
import type { DropReason } from './drops.ts';
import { IPV6_HEADER_LENGTH, type IpPacket } from './ip.ts';

export const NEXT_HEADER_FRAGMENT = 44;
const NEXT_HEADER_HOP_BY_HOP = 0;
const NEXT_HEADER_ROUTING = 43;
const NEXT_HEADER_DESTINATION = 60;
/** RFC 8504 §5.3 lets a host bound the chain; honest packets have two or three. */
const MAX_EXTENSION_HEADERS = 8;

/** Fills `packet` from the bytes at `offset`, or says why they are no packet for us. */
export function parseIpv6(packet: IpPacket, view: DataView, offset: number, length: number): DropReason | undefined {
  if (length < IPV6_HEADER_LENGTH) return 'malformed-ip';
  const totalLength = IPV6_HEADER_LENGTH + view.getUint16(offset + 4);
  if (totalLength > length) return 'malformed-ip';
  packet.family = 6;
  packet.start = offset;
  packet.length = totalLength;
  packet.s0 = view.getInt32(offset + 8);
  packet.s1 = view.getInt32(offset + 12);
  packet.s2 = view.getInt32(offset + 16);
  packet.s3 = view.getInt32(offset + 20);
  packet.d0 = view.getInt32(offset + 24);
  packet.d1 = view.getInt32(offset + 28);
  packet.d2 = view.getInt32(offset + 32);
  packet.d3 = view.getInt32(offset + 36);
  // A mapped address on the wire would pass for IPv4 inside (RFC 4942 §2.2).
  if (isMapped(packet.s0, packet.s1, packet.s2) || isMapped(packet.d0, packet.d1, packet.d2)) return 'bad-source';
  packet.dontFragment = true;
  packet.isFragment = false;
  const end = offset + totalLength;
  let next = view.getUint8(offset + 6);
  let at = offset + IPV6_HEADER_LENGTH;
  for (let i = 0; isExtensionHeader(next); i++) {
    if (i === MAX_EXTENSION_HEADERS || at + 8 > end) return 'malformed-ip';
    const following = view.getUint8(at);
    if (next === NEXT_HEADER_FRAGMENT) {
      const word = view.getUint16(at + 2);
      packet.fragmentOffset = word & 0xfff8;
      packet.moreFragments = (word & 1) !== 0;
      packet.fragmentId = view.getInt32(at + 4);
      at += 8;
      next = following;
      // An atomic fragment is handled by itself (RFC 6946 §4).
      if (packet.fragmentOffset === 0 && !packet.moreFragments) continue;
      packet.isFragment = true;
      break;
    }
    // RFC 5095 and RFC 8200 §4.4: a routing header is passed over only when no segments are left.
    if (next === NEXT_HEADER_ROUTING && view.getUint8(at + 3) !== 0) return 'malformed-ip';
    if (next === NEXT_HEADER_HOP_BY_HOP && i > 0) return 'malformed-ip';
    const headerLength = 8 + view.getUint8(at + 1) * 8;
    if (at + headerLength > end) return 'malformed-ip';
    if (next !== NEXT_HEADER_ROUTING && !areOptionsSkippable(view, at + 2, at + headerLength)) return 'malformed-ip';
    at += headerLength;
    next = following;
  }
  packet.protocol = next;
  packet.payload = at;
  packet.payloadLength = end - at;
  return undefined;
}

function isExtensionHeader(next: number): boolean {
  return (
    next === NEXT_HEADER_FRAGMENT ||
    next === NEXT_HEADER_DESTINATION ||
    next === NEXT_HEADER_ROUTING ||
    next === NEXT_HEADER_HOP_BY_HOP
  );
}

/** RFC 8200 §4.2: an unknown option may be skipped only when its two highest bits are zero. */
function areOptionsSkippable(view: DataView, at: number, end: number): boolean {
  while (at < end) {
    const kind = view.getUint8(at);
    if (kind === 0) {
      at++;
      continue;
    }
    if (at + 2 > end || kind >>> 6 !== 0) return false;
    at += 2 + view.getUint8(at + 1);
  }
  return at === end;
}
