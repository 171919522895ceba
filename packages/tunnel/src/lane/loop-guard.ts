import type { PacketBatch } from '@sealane/protocol';

const UDP = 17;
const FRAGMENT_OFFSET = 0x1fff;
/** IPv6's Fragment header (RFC 8200 section 4.5). */
const FRAGMENT = 44;

/**
 * Takes our own outer datagrams out of a batch of packets from the device, and returns how many there were: with a
 * route that leads the tunnel's endpoint into the tunnel each would be sealed again, larger, for ever. Ours are the UDP
 * packets from `listenPort` to an address and port that `wasSentTo` knows, also when they are the first fragment; later
 * fragments are small and their own datagrams need none.
 */
export function removeOwnDatagrams(
  batch: PacketBatch,
  listenPort: number,
  wasSentTo: (address: Uint8Array, port: number) => boolean,
): number {
  let kept = 0;
  for (let i = 0; i < batch.count; i++) {
    const offset = batch.offsets[i]!;
    const length = batch.lengths[i]!;
    if (isOwn(batch, offset, length, listenPort, wasSentTo)) continue;
    batch.offsets[kept] = offset;
    batch.lengths[kept] = length;
    kept++;
  }
  const removed = batch.count - kept;
  batch.count = kept;
  return removed;
}

function isOwn(
  batch: PacketBatch,
  offset: number,
  length: number,
  listenPort: number,
  wasSentTo: (address: Uint8Array, port: number) => boolean,
): boolean {
  const { view, buffer } = batch;
  if (length < 28) return false;
  const first = view.getUint8(offset);
  if (first >>> 4 === 4) {
    const udp = offset + (first & 0x0f) * 4;
    if (view.getUint8(offset + 9) !== UDP || (view.getUint16(offset + 6) & FRAGMENT_OFFSET) !== 0) return false;
    if (udp + 4 > offset + length || view.getUint16(udp) !== listenPort) return false;
    return wasSentTo(buffer.subarray(offset + 16, offset + 20), view.getUint16(udp + 2));
  }
  if (first >>> 4 !== 6 || length < 48) return false;
  let header = view.getUint8(offset + 6);
  let udp = offset + 40;
  if (header === FRAGMENT && length >= 56 && view.getUint16(offset + 42) >>> 3 === 0) {
    header = view.getUint8(offset + 40);
    udp += 8;
  }
  if (header !== UDP || view.getUint16(udp) !== listenPort) return false;
  return wasSentTo(buffer.subarray(offset + 24, offset + 40), view.getUint16(udp + 2));
}
