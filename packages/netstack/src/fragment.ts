/** Packets larger than the path takes, cut up at the sender (RFC 791 §3.2, RFC 8200 §4.5). */
import type { IpAddress } from './address.ts';
import { IPV4_HEADER_LENGTH, IPV6_HEADER_LENGTH, MORE_FRAGMENTS, writeIpHeader, writeIpv4Header } from './ip.ts';
import { NEXT_HEADER_FRAGMENT } from './ipv6.ts';
import type { PacketWriter } from './output.ts';

const FRAGMENT_HEADER_LENGTH = 8;

/** Sends an upper-layer `payload` in fragments that fit `mtu`; false when the sink filled up in between. */
export function sendFragments(
  writer: PacketWriter,
  source: IpAddress,
  destination: IpAddress,
  protocol: number,
  payload: Uint8Array,
  mtu: number,
  id: number,
): boolean {
  const isV4 = source.family === 4;
  const overhead = overheadOf(source.family);
  const room = firstFragmentLength(source.family, mtu) - overhead;
  for (let at = 0; at < payload.length; at += room) {
    const length = Math.min(room, payload.length - at);
    const more = at + length < payload.length;
    const offset = writer.begin(overhead + length);
    if (offset < 0) return false;
    const { view } = writer;
    if (isV4) {
      const word = (at >>> 3) | (more ? MORE_FRAGMENTS : 0);
      writeIpv4Header(view, offset, source.d, destination.d, protocol, length, id & 0xffff, word);
    } else {
      writeIpHeader(view, offset, source, destination, NEXT_HEADER_FRAGMENT, FRAGMENT_HEADER_LENGTH + length);
      view.setUint16(offset + 40, protocol << 8);
      view.setUint16(offset + 42, at | (more ? 1 : 0));
      view.setInt32(offset + 44, id);
    }
    writer.buffer.set(payload.subarray(at, at + length), offset + overhead);
    writer.end(offset, overhead + length);
  }
  return true;
}

/** The length of all fragments but the last, headers included. */
export function firstFragmentLength(family: 4 | 6, mtu: number): number {
  const overhead = overheadOf(family);
  return overhead + ((mtu - overhead) & ~7);
}

function overheadOf(family: 4 | 6): number {
  return family === 4 ? IPV4_HEADER_LENGTH : IPV6_HEADER_LENGTH + FRAGMENT_HEADER_LENGTH;
}
