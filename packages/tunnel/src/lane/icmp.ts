import { fold, sum, swapped, writeChecksum, type PacketMemory } from './offload/memory.ts';

const ICMP = 1;
const ICMPV6 = 58;
const HEADER = 8;
/** As much of the packet as an answer repeats: IPv4 hosts take 576 bytes, IPv6 hosts 1280 (RFC 1812, RFC 4443). */
const MOST_IPV4 = 576;
const MOST_IPV6 = 1_280;

/**
 * Builds the answer to an IP packet that no peer may get: host unreachable (RFC 792 type 3 code 1) or address unreachable
 * (RFC 4443 type 1 code 3), at `target` in the same memory. Returns its length, or 0 for packets that must not be answered:
 * ICMP errors, later fragments, multicast and broadcast (RFC 1122 section 3.2.2, RFC 4443 section 2.4).
 * The answer comes from the address that was not reached.
 */
export function icmpUnreachable(memory: PacketMemory, packet: number, length: number, target: number): number {
  const { bytes } = memory;
  if (length >= 20 && bytes[packet]! >>> 4 === 4) return unreachable4(memory, packet, length, target);
  if (length >= 40 && bytes[packet]! >>> 4 === 6) return unreachable6(memory, packet, length, target);
  return 0;
}

function unreachable4(memory: PacketMemory, packet: number, length: number, target: number): number {
  const { bytes, view } = memory;
  const header = (bytes[packet]! & 0x0f) * 4;
  if (header < 20 || header > length || (view.getUint16(packet + 6) & 0x1fff) !== 0) return 0;
  const to = bytes[packet + 16]!;
  const from = bytes[packet + 12]!;
  if (to >= 224 || from >= 224 || from === 0) return 0;
  // Echo requests (8) and the queries behind them may be answered, errors may not.
  if (bytes[packet + 9] === ICMP && (header + 1 > length || ![0, 8, 13, 14].includes(bytes[packet + header]!)))
    return 0;
  const quoted = Math.min(length, MOST_IPV4 - 20 - HEADER);
  const total = 20 + HEADER + quoted;
  bytes.fill(0, target, target + 20 + HEADER);
  bytes[target] = 0x45;
  bytes[target + 1] = 0xc0;
  view.setUint16(target + 2, total);
  bytes[target + 8] = 64;
  bytes[target + 9] = ICMP;
  bytes.copyWithin(target + 12, packet + 16, packet + 20);
  bytes.copyWithin(target + 16, packet + 12, packet + 16);
  writeChecksum(bytes, target + 10, sum(memory, target, 20));
  bytes[target + 20] = 3;
  bytes[target + 21] = 1;
  bytes.copyWithin(target + 28, packet, packet + quoted);
  writeChecksum(bytes, target + 22, sum(memory, target + 20, HEADER + quoted));
  return total;
}

function unreachable6(memory: PacketMemory, packet: number, length: number, target: number): number {
  const { bytes, view } = memory;
  if (bytes[packet + 24] === 0xff || bytes[packet + 8] === 0xff) return 0;
  if (fold(sum(memory, packet + 8, 16)) === 0) return 0;
  if (bytes[packet + 6] === ICMPV6 && (length < 41 || bytes[packet + 40]! < 128)) return 0;
  const quoted = Math.min(length, MOST_IPV6 - 40 - HEADER);
  const size = HEADER + quoted;
  bytes.fill(0, target, target + 40 + HEADER);
  bytes[target] = 0x60;
  view.setUint16(target + 4, size);
  bytes[target + 6] = ICMPV6;
  bytes[target + 7] = 64;
  bytes.copyWithin(target + 8, packet + 24, packet + 40);
  bytes.copyWithin(target + 24, packet + 8, packet + 24);
  bytes[target + 40] = 1;
  bytes[target + 41] = 3;
  bytes.copyWithin(target + 48, packet, packet + quoted);
  const pseudo = sum(memory, target + 8, 32) + (ICMPV6 << 8) + swapped(size);
  writeChecksum(bytes, target + 42, sum(memory, target + 40, size) + pseudo);
  return 40 + size;
}
