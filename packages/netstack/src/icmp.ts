/** ICMP (RFC 792) and ICMPv6 (RFC 4443): the messages a host needs. */
import type { IpAddress } from './address.ts';
import { checksumOf, pseudoHeaderSum, sumBytes } from './checksum.ts';
import { sendFragments } from './fragment.ts';
import { PROTOCOL_ICMP, PROTOCOL_ICMPV6, ipHeaderLength, writeIpHeader } from './ip.ts';
import { type PacketWriter, viewOf } from './output.ts';

export const ICMP_HEADER_LENGTH = 8;

export type IcmpKind = 'echo-request' | 'echo-reply' | 'error' | 'other';

/** Why something cannot be reached, in words both families share. */
export type UnreachableReason =
  | 'network-unreachable'
  | 'host-unreachable'
  | 'port-unreachable'
  | 'protocol-unreachable'
  | 'prohibited';

const V4_CODES: Readonly<Record<UnreachableReason, number>> = {
  'network-unreachable': 0,
  'host-unreachable': 1,
  'protocol-unreachable': 2,
  'port-unreachable': 3,
  prohibited: 13,
};

/** RFC 4443 §3.1; an unknown protocol is a Parameter Problem there (§3.4). */
const V6_CODES: Readonly<Record<UnreachableReason, number>> = {
  'network-unreachable': 0,
  'host-unreachable': 3,
  'protocol-unreachable': 1,
  'port-unreachable': 4,
  prohibited: 1,
};

const V4_UNREACHABLE = 3;
const V4_FRAGMENTATION_NEEDED = 4;
const V6_TOO_BIG = 2;
const V6_UNREACHABLE = 1;
const V6_PARAMETER_PROBLEM = 4;
const NEXT_HEADER_FIELD = 6;

/** RFC 1812 §4.3.2.3 for IPv4, RFC 4443 §2.4 (c) for IPv6: as much of the packet as fits. */
const V4_ERROR_LENGTH = 576;
const V6_ERROR_LENGTH = 1280;

export function icmpKind(family: 4 | 6, type: number): IcmpKind {
  if (family === 4) {
    if (type === 8) return 'echo-request';
    if (type === 0) return 'echo-reply';
    return type === V4_UNREACHABLE || type === 11 || type === 12 ? 'error' : 'other';
  }
  if (type === 128) return 'echo-request';
  if (type === 129) return 'echo-reply';
  return type >= 1 && type <= 4 ? 'error' : 'other';
}

/** Whether an error message says that the packet was too big: IPv4 code 4 of unreachable, IPv6 type 2. */
export function isTooBig(family: 4 | 6, type: number, code: number): boolean {
  return family === 4 ? type === V4_UNREACHABLE && code === V4_FRAGMENTATION_NEEDED : type === V6_TOO_BIG;
}

/** What an unreachable message says, or undefined for other errors. */
export function unreachableReason(family: 4 | 6, type: number, code: number): UnreachableReason | undefined {
  if (family === 6) {
    if (type === V6_PARAMETER_PROBLEM) return code === 1 ? 'protocol-unreachable' : undefined;
    if (type !== V6_UNREACHABLE) return undefined;
    if (code === 0) return 'network-unreachable';
    if (code === 4) return 'port-unreachable';
    return code === 3 ? 'host-unreachable' : 'prohibited';
  }
  if (type !== V4_UNREACHABLE) return undefined;
  if (code === 0 || code === 6 || code === 11) return 'network-unreachable';
  if (code === 2) return 'protocol-unreachable';
  if (code === 3) return 'port-unreachable';
  return code === 9 || code === 10 || code === 13 ? 'prohibited' : 'host-unreachable';
}

/** How large packets on a path may be, and the identification of the fragments of those that are larger. */
export interface Fragmenting {
  readonly mtu: number;
  readonly id: number;
}

/** Writes an echo request or reply, in fragments if it must be; false when the sink is full. */
export function sendEcho(
  writer: PacketWriter,
  source: IpAddress,
  destination: IpAddress,
  isRequest: boolean,
  id: number,
  sequence: number,
  data: Uint8Array,
  fragmenting: Fragmenting,
): boolean {
  const { family } = source;
  const type = family === 4 ? (isRequest ? 8 : 0) : isRequest ? 128 : 129;
  const rest = (id << 16) | sequence;
  if (ipHeaderLength(family) + ICMP_HEADER_LENGTH + data.length <= fragmenting.mtu) {
    return sendIcmp(writer, source, destination, type, 0, rest, data);
  }
  const message = new Uint8Array(ICMP_HEADER_LENGTH + data.length);
  writeMessage(viewOf(message), message, 0, source, destination, type, 0, rest, data);
  const protocol = family === 4 ? PROTOCOL_ICMP : PROTOCOL_ICMPV6;
  return sendFragments(writer, source, destination, protocol, message, fragmenting.mtu, fragmenting.id);
}

/** Writes a destination-unreachable about the packet `about`; false when the sink is full. */
export function sendUnreachable(
  writer: PacketWriter,
  source: IpAddress,
  destination: IpAddress,
  reason: UnreachableReason,
  about: Uint8Array,
): boolean {
  const isV4 = source.family === 4;
  const isParameterProblem = !isV4 && reason === 'protocol-unreachable';
  const type = isV4 ? V4_UNREACHABLE : isParameterProblem ? V6_PARAMETER_PROBLEM : V6_UNREACHABLE;
  const code = (isV4 ? V4_CODES : V6_CODES)[reason];
  const rest = isParameterProblem ? NEXT_HEADER_FIELD : 0;
  return sendError(writer, source, destination, type, code, rest, about);
}

/** Writes that only packets of up to `mtu` bytes pass, about one that does not (RFC 1191 §4, RFC 4443 §3.2); false when the sink is full. */
export function sendTooBig(
  writer: PacketWriter,
  source: IpAddress,
  destination: IpAddress,
  mtu: number,
  about: Uint8Array,
): boolean {
  return source.family === 4
    ? sendError(writer, source, destination, V4_UNREACHABLE, V4_FRAGMENTATION_NEEDED, Math.min(mtu, 0xffff), about)
    : sendError(writer, source, destination, V6_TOO_BIG, 0, mtu, about);
}

function sendError(
  writer: PacketWriter,
  source: IpAddress,
  destination: IpAddress,
  type: number,
  code: number,
  rest: number,
  about: Uint8Array,
): boolean {
  const most = source.family === 4 ? V4_ERROR_LENGTH : V6_ERROR_LENGTH;
  const limit = most - ipHeaderLength(source.family) - ICMP_HEADER_LENGTH;
  return sendIcmp(writer, source, destination, type, code, rest, about.subarray(0, limit));
}

function sendIcmp(
  writer: PacketWriter,
  source: IpAddress,
  destination: IpAddress,
  type: number,
  code: number,
  rest: number,
  data: Uint8Array,
): boolean {
  const { family } = source;
  const headerLength = ipHeaderLength(family);
  const length = ICMP_HEADER_LENGTH + data.length;
  const offset = writer.begin(headerLength + length);
  if (offset < 0) return false;
  const { view } = writer;
  writeIpHeader(view, offset, source, destination, family === 4 ? PROTOCOL_ICMP : PROTOCOL_ICMPV6, length);
  writeMessage(view, writer.buffer, offset + headerLength, source, destination, type, code, rest, data);
  writer.end(offset, headerLength + length);
  return true;
}

function writeMessage(
  view: DataView,
  buffer: Uint8Array,
  at: number,
  source: IpAddress,
  destination: IpAddress,
  type: number,
  code: number,
  rest: number,
  data: Uint8Array,
): void {
  const length = ICMP_HEADER_LENGTH + data.length;
  view.setUint32(at, (type << 24) | (code << 16));
  view.setInt32(at + 4, rest);
  buffer.set(data, at + ICMP_HEADER_LENGTH);
  const pseudo = source.family === 4 ? 0 : length + addressSum(source, destination, PROTOCOL_ICMPV6);
  view.setUint16(at + 2, checksumOf(pseudo + sumBytes(view, at, length)));
}

/** The pseudo-header's sum without the length, for two addresses. */
export function addressSum(source: IpAddress, destination: IpAddress, protocol: number): number {
  return pseudoHeaderSum(
    source.a,
    source.b,
    source.c,
    source.d,
    destination.a,
    destination.b,
    destination.c,
    destination.d,
    protocol,
  );
}
