/** struct virtio_net_hdr of 10 bytes, little endian (virtio 1.2 section 5.1.6): what stands before every packet of a TUN. */
export const VNET = {
  flags: 0,
  gsoType: 1,
  headerLength: 2,
  gsoSize: 4,
  checksumStart: 6,
  checksumOffset: 8,
  length: 10,
} as const;

/** The checksum field holds the pseudo header's sum and is left to be finished. */
export const NEEDS_CHECKSUM = 1;

export const GSO = { none: 0, tcp4: 1, tcp6: 4, udp: 5 } as const;
/** Set beside the type when the first segment has CWR. */
export const GSO_ECN = 0x80;
