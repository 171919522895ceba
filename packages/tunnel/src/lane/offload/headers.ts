/** Offsets and flags of the headers that splitting and merging touch (RFC 791, RFC 8200, RFC 9293, RFC 768). */
export const IPV4 = {
  tos: 1,
  totalLength: 2,
  id: 4,
  fragment: 6,
  ttl: 8,
  protocol: 9,
  checksum: 10,
  addresses: 12,
  length: 20,
} as const;
export const IPV6 = { payloadLength: 4, nextHeader: 6, hopLimit: 7, addresses: 8, length: 40 } as const;
export const TCP = { sequence: 4, acknowledgement: 8, dataOffset: 12, flags: 13, checksum: 16, options: 20 } as const;
export const UDP = { payloadLength: 4, checksum: 6, length: 8 } as const;
export const PROTOCOL = { tcp: 6, udp: 17 } as const;
export const FLAG = { fin: 0x01, psh: 0x08, ack: 0x10, cwr: 0x80 } as const;
