/** Slow and obvious: packets built field by field, checksums summed as RFC 1071 says, segmentation as RFC 9293 would have it. */

export interface PacketShape {
  readonly version: 4 | 6;
  readonly protocol: 'tcp' | 'udp';
  readonly tos: number;
  readonly ttl: number;
  readonly id: number;
  readonly dontFragment: boolean;
  /** IPv4 options or one IPv6 destination options header: a multiple of 4, or of 8. */
  readonly extension: number;
  readonly source: number;
  readonly destination: number;
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly sequence: number;
  readonly acknowledgement: number;
  readonly flags: number;
  readonly window: number;
  /** A multiple of 4, at most 40. */
  readonly tcpOptions: number;
  readonly payload: Uint8Array;
}

export const FIN = 1;
export const SYN = 2;
export const RST = 4;
export const PSH = 8;
export const ACK = 16;
export const URG = 32;
export const ECE = 64;
export const CWR = 128;

export function checksum(bytes: readonly number[]): number {
  let total = 0;
  for (let i = 0; i < bytes.length; i += 2) total += (bytes[i]! << 8) + (bytes[i + 1] ?? 0);
  while (total > 0xffff) total = (total & 0xffff) + (total >>> 16);
  return ~total & 0xffff;
}

const two = (value: number): number[] => [(value >>> 8) & 0xff, value & 0xff];
const four = (value: number): number[] => [...two(value >>> 16), ...two(value & 0xffff)];

function addressOf(version: 4 | 6, last: number): number[] {
  if (version === 4) return [10, 1, 2, last & 0xff];
  return [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7, last & 0xff];
}

/** The pseudo header of RFC 9293 section 3.1 and RFC 8200 section 8.1. */
function pseudoHeader(shape: PacketShape, length: number): number[] {
  const addresses = [...addressOf(shape.version, shape.source), ...addressOf(shape.version, shape.destination)];
  const protocol = shape.protocol === 'tcp' ? 6 : 17;
  return shape.version === 4
    ? [...addresses, 0, protocol, ...two(length)]
    : [...addresses, ...four(length), 0, 0, 0, protocol];
}

/** Bytes before the payload. */
export function headerLength(shape: PacketShape): number {
  return transportOffset(shape) + (shape.protocol === 'tcp' ? 20 + shape.tcpOptions : 8);
}

export function transportOffset(shape: PacketShape): number {
  return (shape.version === 4 ? 20 : 40) + shape.extension;
}

/** A whole packet. `partial`: the transport checksum holds the pseudo header's sum only, as the kernel leaves it. */
export function build(shape: PacketShape, partial = false): Uint8Array {
  const { payload } = shape;
  const isTcp = shape.protocol === 'tcp';
  const length = (isTcp ? 20 + shape.tcpOptions : 8) + payload.length;
  const transport = isTcp
    ? [
        ...two(shape.sourcePort),
        ...two(shape.destinationPort),
        ...four(shape.sequence),
        ...four(shape.acknowledgement),
        ((20 + shape.tcpOptions) / 4) << 4,
        shape.flags,
        ...two(shape.window),
        0,
        0,
        0,
        0,
        ...Array.from({ length: shape.tcpOptions }, (_, i) => (i % 4 === 3 ? 7 : 1)),
      ]
    : [...two(shape.sourcePort), ...two(shape.destinationPort), ...two(length), 0, 0];
  const field = isTcp ? 16 : 6;
  const pseudo = pseudoHeader(shape, length);
  let sum = checksum([...pseudo, ...transport, ...payload]);
  if (!isTcp && sum === 0) sum = 0xffff;
  if (partial) sum = ~checksum(pseudo) & 0xffff;
  transport[field] = sum >>> 8;
  transport[field + 1] = sum & 0xff;

  const protocol = isTcp ? 6 : 17;
  const addresses = [...addressOf(shape.version, shape.source), ...addressOf(shape.version, shape.destination)];
  if (shape.version === 6) {
    const extension =
      shape.extension === 0 ? [] : [protocol, shape.extension / 8 - 1, ...Array<number>(shape.extension - 2).fill(0)];
    return Uint8Array.from([
      0x60 | (shape.tos >>> 4),
      (shape.tos & 15) << 4,
      0x12,
      0x34,
      ...two(shape.extension + length),
      shape.extension === 0 ? protocol : 60,
      shape.ttl,
      ...addresses,
      ...extension,
      ...transport,
      ...payload,
    ]);
  }
  const header = [
    0x40 | (5 + shape.extension / 4),
    shape.tos,
    ...two(20 + shape.extension + length),
    ...two(shape.id),
    ...(shape.dontFragment ? [0x40, 0] : [0, 0]),
    shape.ttl,
    protocol,
    0,
    0,
    ...addresses,
    ...Array<number>(shape.extension).fill(1),
  ];
  const own = checksum(header);
  header[10] = own >>> 8;
  header[11] = own & 0xff;
  return Uint8Array.from([...header, ...transport, ...payload]);
}

/** What a packet of many segments stands for, one packet each. */
export function segments(shape: PacketShape, size: number): Uint8Array[] {
  const packets: Uint8Array[] = [];
  for (let at = 0, n = 0; at < shape.payload.length || n === 0; at += size, n++) {
    const isLast = at + size >= shape.payload.length;
    let { flags } = shape;
    if (!isLast) flags &= ~(FIN | PSH);
    if (n > 0) flags &= ~CWR;
    packets.push(
      build({
        ...shape,
        flags,
        id: (shape.id + n) & 0xffff,
        sequence: (shape.sequence + at) >>> 0,
        payload: shape.payload.subarray(at, at + size),
      }),
    );
  }
  return packets;
}

/** struct virtio_net_hdr for `build(shape, true)`. */
export function vnetHeader(shape: PacketShape, gsoSize: number): Uint8Array {
  const bytes = new Uint8Array(10);
  const view = new DataView(bytes.buffer);
  bytes[0] = 1;
  bytes[1] = gsoSize === 0 ? 0 : shape.protocol === 'udp' ? 5 : shape.version === 4 ? 1 : 4;
  view.setUint16(2, headerLength(shape), true);
  view.setUint16(4, gsoSize, true);
  view.setUint16(6, transportOffset(shape), true);
  view.setUint16(8, shape.protocol === 'tcp' ? 16 : 6, true);
  return bytes;
}

/** Reads a plain packet (no extension) back into its shape. */
export function read(packet: Uint8Array): PacketShape {
  const view = new DataView(packet.buffer, packet.byteOffset, packet.byteLength);
  const version = (packet[0]! >>> 4) as 4 | 6;
  const ip = version === 4 ? 20 : 40;
  const isTcp = packet[version === 4 ? 9 : 6] === 6;
  const tcpOptions = isTcp ? (packet[ip + 12]! >>> 4) * 4 - 20 : 0;
  return {
    version,
    protocol: isTcp ? 'tcp' : 'udp',
    tos: version === 4 ? packet[1]! : ((packet[0]! & 15) << 4) | (packet[1]! >>> 4),
    ttl: packet[version === 4 ? 8 : 7]!,
    id: version === 4 ? view.getUint16(4) : 0,
    dontFragment: version === 4 && (packet[6]! & 0x40) !== 0,
    extension: 0,
    source: packet[version === 4 ? 15 : 23]!,
    destination: packet[version === 4 ? 19 : 39]!,
    sourcePort: view.getUint16(ip),
    destinationPort: view.getUint16(ip + 2),
    sequence: isTcp ? view.getUint32(ip + 4) : 0,
    acknowledgement: isTcp ? view.getUint32(ip + 8) : 0,
    flags: isTcp ? packet[ip + 13]! : 0,
    window: isTcp ? view.getUint16(ip + 14) : 0,
    tcpOptions,
    payload: packet.slice(ip + (isTcp ? 20 + tcpOptions : 8)),
  };
}
