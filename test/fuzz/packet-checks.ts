/** Packets by the RFCs and nothing of the stack's own: what is true of every one, and how to forge some. */

/** Throws unless it is one whole IP packet within `mtu` whose checksums are right. */
export function checkWhole(packet: Uint8Array, mtu: number): void {
  const view = new DataView(packet.buffer, packet.byteOffset, packet.byteLength);
  const version = packet[0]! >>> 4;
  const isV4 = version === 4;
  const length = isV4 ? view.getUint16(2) : 40 + view.getUint16(4);
  if ((!isV4 && version !== 6) || length !== packet.length || length > mtu)
    throw new Error(`no whole IP packet: version ${version}, ${length} of ${packet.length} bytes`);
  if (isV4 && sum(packet, 0, 20) !== 0xffff) throw new Error('a wrong IPv4 header checksum');
  const isFragment = isV4 ? (view.getUint16(6) & 0x3fff) !== 0 : packet[6] === 44;
  if (isFragment) return;
  const protocol = packet[isV4 ? 9 : 6]!;
  const at = isV4 ? 20 : 40;
  const pseudo = protocol === 1 ? 0 : sum(packet, isV4 ? 12 : 8, at) + protocol + (length - at);
  if (fold(pseudo + sum(packet, at, length)) !== 0xffff) throw new Error(`a wrong checksum, protocol ${protocol}`);
  if (protocol !== 6) return;
  const headerLength = (packet[at + 12]! >>> 4) * 4;
  if (headerLength < 20 || at + headerLength > length) throw new Error(`a TCP header of ${headerLength} bytes`);
  if (view.getUint16(at) === 0 || view.getUint16(at + 2) === 0) throw new Error('a TCP port 0');
}

/** The packet with its two ends exchanged. */
export function turnRound(packet: Uint8Array): Uint8Array {
  const turned = packet.slice();
  const [at, length, payload] = packet[0]! >>> 4 === 4 ? [12, 4, 20] : [8, 16, 40];
  turned.set(packet.subarray(at + length, at + 2 * length), at);
  turned.set(packet.subarray(at, at + length), at + length);
  if (packet.length < payload + 4) return turned;
  turned.set(packet.subarray(payload + 2, payload + 4), payload);
  turned.set(packet.subarray(payload, payload + 2), payload + 2);
  return turned;
}

/** Makes the checksums and lengths right, in place; says which protocol it found. */
export function repaired(packet: Uint8Array, really: boolean): { readonly protocol: number } {
  const isV4 = packet[0]! >>> 4 === 4;
  const at = isV4 ? 20 : 40;
  const protocol = packet[isV4 ? 9 : 6] ?? 0;
  const field = at + ({ 6: 16, 17: 6, 1: 2, 58: 2 }[protocol] ?? 0);
  if (!really || field === at || packet.length < field + 2) return { protocol };
  const view = new DataView(packet.buffer, packet.byteOffset, packet.byteLength);
  if (isV4) {
    packet[0] = 0x45;
    view.setUint16(2, packet.length);
    view.setUint16(10, 0);
    view.setUint16(10, ~sum(packet, 0, 20) & 0xffff);
  } else view.setUint16(4, packet.length - 40);
  view.setUint16(field, 0);
  const pseudo = protocol === 1 ? 0 : sum(packet, isV4 ? 12 : 8, at) + protocol + (packet.length - at);
  view.setUint16(field, ~fold(pseudo + sum(packet, at, packet.length)) & 0xffff);
  return { protocol };
}

function sum(bytes: Uint8Array, from: number, to: number): number {
  let total = 0;
  for (let i = from; i < to; i += 2) total += (bytes[i]! << 8) | (i + 1 < to ? bytes[i + 1]! : 0);
  return fold(total);
}

function fold(total: number): number {
  let folded = total;
  while (folded > 0xffff) folded = (folded & 0xffff) + (folded >>> 16);
  return folded;
}
