/** Explicit congestion notification through a tunnel (RFC 6040): copied out when sealed, combined in when opened. */
import { sum, writeChecksum, type PacketMemory } from './offload/memory.ts';

const NOT_ECT = 0;
const ECT_1 = 1;
const ECT_0 = 2;
const CE = 3;

/** The ECN field of an IP packet. */
export function ecnOf(bytes: Uint8Array, packet: number): number {
  return bytes[packet]! >>> 4 === 4 ? bytes[packet + 1]! & 3 : (bytes[packet + 1]! >>> 4) & 3;
}

/** Combines the outer field into the inner packet (RFC 6040 section 4.2); false when the packet must be dropped. */
export function combineEcn(memory: PacketMemory, packet: number, outer: number): boolean {
  if (outer === NOT_ECT || outer === ECT_0) return true;
  const inner = ecnOf(memory.bytes, packet);
  if (outer === CE) {
    if (inner === NOT_ECT) return false;
    if (inner !== CE) setEcn(memory, packet, CE);
  } else if (inner === ECT_0) {
    setEcn(memory, packet, ECT_1);
  }
  return true;
}

function setEcn(memory: PacketMemory, packet: number, ecn: number): void {
  const { bytes, view } = memory;
  if (bytes[packet]! >>> 4 === 6) {
    bytes[packet + 1] = (bytes[packet + 1]! & ~0x30) | (ecn << 4);
    return;
  }
  bytes[packet + 1] = (bytes[packet + 1]! & ~3) | ecn;
  view.setUint16(packet + 10, 0);
  writeChecksum(bytes, packet + 10, sum(memory, packet, (bytes[packet]! & 0x0f) * 4));
}
