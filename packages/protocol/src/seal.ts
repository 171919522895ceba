/** Sealing one packet where it lies: header before it, padding and tag behind it (paper section 5.4.6). */
import { HEADROOM, TAILROOM } from './batch.ts';
import type { Keypair } from './keypair.ts';
import { DATA, MESSAGE } from './messages.ts';

const PADDING_MULTIPLE = 16;
const TAG_LENGTH = 16;

/** The padded length of a packet: the next multiple of 16, but never above the MTU (0: no MTU known). */
export function paddedLength(length: number, mtu: number): number {
  const padded = Math.ceil(length / PADDING_MULTIPLE) * PADDING_MULTIPLE;
  return mtu > 0 && padded > mtu ? Math.max(length, mtu) : padded;
}

/**
 * Seals the `length` bytes at `offset`; the datagram begins HEADROOM bytes before and its length is returned.
 * The keypair must be able to send. `packet` is `view`'s memory.
 */
export function sealInPlace(
  keypair: Keypair,
  packet: Uint8Array,
  view: DataView,
  offset: number,
  length: number,
  mtu: number,
): number {
  const padded = paddedLength(length, mtu);
  if (padded > length) packet.fill(0, offset + length, offset + padded);
  const header = offset - HEADROOM;
  view.setUint32(header, MESSAGE.data, true);
  view.setUint32(header + DATA.receiver, keypair.remoteIndex, true);
  view.setUint32(header + DATA.counterLow, keypair.counterLow, true);
  view.setUint32(header + DATA.counterHigh, keypair.counterHigh, true);
  keypair.sealer.seal(packet, offset, padded, keypair.counterLow, keypair.counterHigh);
  keypair.advanceCounter();
  return HEADROOM + padded + TAG_LENGTH;
}

/** The sealed datagram of a packet, in memory of its own. */
export function sealCopy(keypair: Keypair, packet: Uint8Array, mtu: number): Uint8Array {
  const bytes = new Uint8Array(HEADROOM + packet.length + TAILROOM);
  bytes.set(packet, HEADROOM);
  const view = new DataView(bytes.buffer);
  return bytes.subarray(0, sealInPlace(keypair, bytes, view, HEADROOM, packet.length, mtu));
}
