/** Inner IP packets that carry a number, so that loss, duplication and order show at the other end. */

const HEADER4 = 20;
const HEADER6 = 40;

/** An IPv4 or IPv6 packet of `length` bytes with `id` behind its header and a known pattern after that. */
export function ipPacket(source: Uint8Array, destination: Uint8Array, id = 0, length = 64): Uint8Array {
  const packet = new Uint8Array(length);
  const view = new DataView(packet.buffer);
  const header = source.length === 4 ? HEADER4 : HEADER6;
  if (source.length === 4) {
    packet[0] = 0x45;
    view.setUint16(2, length);
    packet[8] = 64;
    packet[9] = 253;
    packet.set(source, 12);
    packet.set(destination, 16);
  } else {
    packet[0] = 0x60;
    view.setUint16(4, length - HEADER6);
    packet[6] = 253;
    packet[7] = 64;
    packet.set(source, 8);
    packet.set(destination, 24);
  }
  if (length >= header + 4) view.setUint32(header, id);
  for (let i = header + 4; i < length; i++) packet[i] = id + i;
  return packet;
}

/** The number of a packet made by `ipPacket`. */
export function packetId(packet: Uint8Array): number {
  const header = packet[0]! >>> 4 === 4 ? HEADER4 : HEADER6;
  return new DataView(packet.buffer, packet.byteOffset).getUint32(header);
}
