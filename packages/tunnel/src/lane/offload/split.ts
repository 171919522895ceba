/**
 * Cuts what the kernel hands over in one read (a packet of many segments, its checksums unfinished) into packets that fit the MTU,
 * as its own segmentation would: lengths, IPv4 ids, sequence numbers, FIN and PSH on the last only, CWR on the first only.
 */
import { FLAG, IPV4, IPV6, PROTOCOL, TCP, UDP } from './headers.ts';
import { copyAndSum, sum, swapped, writeChecksum, type PacketMemory } from './memory.ts';
import { GSO, GSO_ECN, NEEDS_CHECKSUM, VNET } from './vnet.ts';

export interface PacketSink {
  /** The offset where a packet of this length goes; it may send off what it held before. */
  place(length: number): number;
}

/**
 * Splits the `length` bytes at `header` (virtio header, then the packet) into `sink`.
 * False when header and packet contradict each other; nothing was placed then.
 */
export function split(memory: PacketMemory, header: number, length: number, sink: PacketSink): boolean {
  const { bytes, view } = memory;
  const packet = header + VNET.length;
  const size = length - VNET.length;
  if (size < IPV4.length) return false;
  const gsoType = bytes[header + VNET.gsoType]! & ~GSO_ECN;
  const start = view.getUint16(header + VNET.checksumStart, true);
  const needsChecksum = (bytes[header + VNET.flags]! & NEEDS_CHECKSUM) !== 0;
  if (gsoType === GSO.none) {
    const field = start + view.getUint16(header + VNET.checksumOffset, true);
    if (needsChecksum && (start < IPV4.length || field + 2 > size)) return false;
    const to = sink.place(size);
    bytes.copyWithin(to, packet, packet + size);
    if (needsChecksum) finishChecksum(memory, to, size, start, field);
    return true;
  }
  const gsoSize = view.getUint16(header + VNET.gsoSize, true);
  if (gsoSize === 0 || !needsChecksum) return false;
  return splitSegments(memory, packet, size, start, gsoSize, gsoType, sink);
}

/** The field holds the pseudo header's sum, so that summing over it finishes it. */
function finishChecksum(memory: PacketMemory, packet: number, size: number, start: number, field: number): void {
  const { bytes } = memory;
  writeChecksum(bytes, packet + field, sum(memory, packet + start, size - start));
  const isUdp = field - start === UDP.checksum;
  if (isUdp && bytes[packet + field] === 0 && bytes[packet + field + 1] === 0) {
    // Zero means no checksum in UDP; its other form stands for it (RFC 768).
    bytes[packet + field] = 0xff;
    bytes[packet + field + 1] = 0xff;
  }
}

function splitSegments(
  memory: PacketMemory,
  packet: number,
  size: number,
  transport: number,
  gsoSize: number,
  gsoType: number,
  sink: PacketSink,
): boolean {
  const { bytes, view, words } = memory;
  const version = bytes[packet]! >>> 4;
  const isTcp = gsoType !== GSO.udp;
  if (gsoType === GSO.tcp4 ? version !== 4 : gsoType === GSO.tcp6 ? version !== 6 : gsoType !== GSO.udp) return false;
  if (version === 4) {
    if (transport !== (bytes[packet]! & 0x0f) * 4 || transport < IPV4.length) return false;
  } else if (version !== 6 || transport < IPV6.length) {
    return false;
  }
  const least = isTcp ? TCP.options : UDP.length;
  if (transport + least > size) return false;
  const transportLength = isTcp ? (bytes[packet + transport + TCP.dataOffset]! >>> 4) * 4 : UDP.length;
  if (transportLength < least || transport + transportLength > size) return false;

  const headers = transport + transportLength;
  const payload = size - headers;
  const checksum = transport + (isTcp ? TCP.checksum : UDP.checksum);
  const addresses = version === 4 ? sum(memory, packet + IPV4.addresses, 8) : sum(memory, packet + IPV6.addresses, 32);
  const pseudo = addresses + ((isTcp ? PROTOCOL.tcp : PROTOCOL.udp) << 8);
  const sequence = isTcp ? view.getUint32(packet + transport + TCP.sequence) : 0;
  const flags = isTcp ? bytes[packet + transport + TCP.flags]! : 0;
  const id = view.getUint16(packet + IPV4.id);
  let ipSum = 0;
  if (version === 4) {
    const field = packet + IPV4.checksum;
    ipSum =
      sum(memory, packet, transport) -
      swapped(view.getUint16(packet + IPV4.totalLength)) -
      swapped(id) -
      (bytes[field]! | (bytes[field + 1]! << 8));
  }

  let at = 0;
  for (let n = 0; at < payload || n === 0; n++) {
    const length = Math.min(gsoSize, payload - at);
    const total = headers + length;
    const to = sink.place(total);
    copyHeaders(bytes, words, to, packet, headers);
    const payloadSum = copyAndSum(memory, to + headers, packet + headers + at, length);
    if (version === 4) {
      const nextId = (id + n) & 0xffff;
      view.setUint16(to + IPV4.totalLength, total);
      view.setUint16(to + IPV4.id, nextId);
      writeChecksum(bytes, to + IPV4.checksum, ipSum + swapped(total) + swapped(nextId));
    } else {
      view.setUint16(to + IPV6.payloadLength, total - IPV6.length);
    }
    if (isTcp) {
      view.setUint32(to + transport + TCP.sequence, (sequence + at) >>> 0);
      let own = flags;
      if (at + length < payload) own &= ~(FLAG.fin | FLAG.psh);
      if (n > 0) own &= ~FLAG.cwr;
      bytes[to + transport + TCP.flags] = own;
    } else {
      view.setUint16(to + transport + UDP.payloadLength, UDP.length + length);
    }
    bytes[to + checksum] = 0;
    bytes[to + checksum + 1] = 0;
    const segment = transportLength + length;
    const headerSum = sum(memory, to + transport, transportLength);
    writeChecksum(bytes, to + checksum, payloadSum + headerSum + pseudo + swapped(segment));
    if (!isTcp && bytes[to + checksum] === 0 && bytes[to + checksum + 1] === 0) {
      bytes[to + checksum] = 0xff;
      bytes[to + checksum + 1] = 0xff;
    }
    at += length;
  }
  return true;
}

/** A few words are copied faster one by one than by a call. */
function copyHeaders(bytes: Uint8Array, words: Uint32Array, to: number, from: number, length: number): void {
  if (((to | from | length) & 3) !== 0) {
    bytes.copyWithin(to, from, from + length);
    return;
  }
  const target = to >> 2;
  const source = from >> 2;
  for (let i = 0; i < length >> 2; i++) words[target + i] = words[source + i]!;
}
