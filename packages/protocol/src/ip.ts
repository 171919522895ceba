/** What crypto routing must know of an inner IP packet (RFC 791, RFC 8200): its length and its two addresses. */

const IPV4 = { totalLength: 2, source: 12, destination: 16, headerLength: 20 } as const;
const IPV6 = { payloadLength: 4, source: 8, destination: 24, headerLength: 40 } as const;

/**
 * The length that the IP header states, or 0 when the `length` bytes at `offset` hold no whole IPv4 or IPv6 packet.
 * Bytes behind that length are padding.
 */
export function ipPacketLength(view: DataView, offset: number, length: number): number {
  if (length < IPV4.headerLength) return 0;
  switch (view.getUint8(offset) >>> 4) {
    case 4: {
      const total = view.getUint16(offset + IPV4.totalLength);
      return total >= IPV4.headerLength && total <= length ? total : 0;
    }
    case 6: {
      const total = view.getUint16(offset + IPV6.payloadLength) + IPV6.headerLength;
      return total <= length ? total : 0;
    }
    default:
      return 0;
  }
}

/** Offset of the source address of a packet that `ipPacketLength` accepted. */
export function sourceOffset(view: DataView, offset: number): number {
  return offset + (isIpv4(view, offset) ? IPV4.source : IPV6.source);
}

/** Offset of the destination address of a packet that `ipPacketLength` accepted. */
export function destinationOffset(view: DataView, offset: number): number {
  return offset + (isIpv4(view, offset) ? IPV4.destination : IPV6.destination);
}

export function isIpv4(view: DataView, offset: number): boolean {
  return view.getUint8(offset) >>> 4 === 4;
}
