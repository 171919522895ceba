/** Packets made by hand: what a hostile or a foreign host may send. Written apart from the stack, after the RFCs. */
import type { IpAddress } from '../../src/index.ts';

export interface TcpFields {
  readonly from: IpAddress;
  readonly fromPort: number;
  readonly to: IpAddress;
  readonly toPort: number;
  readonly seq: number;
  readonly ack?: number;
  /** Letters of SYN, FIN, RST, ACK, PSH: s f r a p. */
  readonly flags: string;
  readonly window?: number;
  readonly options?: readonly number[];
  readonly data?: Uint8Array;
}

export interface Parsed {
  readonly protocol: number;
  readonly payload: Uint8Array;
  readonly seq: number;
  readonly ack: number;
  readonly flags: string;
  readonly window: number;
  readonly options: Uint8Array;
  readonly data: Uint8Array;
  readonly fromPort: number;
  readonly toPort: number;
}

const LETTERS = 'fsrpau';

export function addressBytes(address: IpAddress): Uint8Array {
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  [address.a, address.b, address.c, address.d].forEach((word, i) => view.setInt32(i * 4, word));
  return address.family === 4 ? bytes.slice(12) : bytes;
}

/** RFC 1071 by 16-bit words. */
function checksum(...parts: readonly Uint8Array[]): number {
  let sum = 0;
  for (const part of parts) {
    for (let i = 0; i < part.length; i += 2) sum += (part[i]! << 8) | (part[i + 1] ?? 0);
  }
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 65_536);
  return ~sum & 0xffff;
}

function upperChecksum(from: IpAddress, to: IpAddress, protocol: number, payload: Uint8Array): number {
  const tail = Uint8Array.from([0, protocol, payload.length >>> 8, payload.length & 255]);
  return checksum(addressBytes(from), addressBytes(to), tail, payload);
}

export interface IpFields {
  readonly id?: number;
  /** Fragment offset in bytes, and whether more follow. */
  readonly offset?: number;
  readonly more?: boolean;
}

/** An IP packet around `payload`; with `fields`, a fragment. */
export function ip(
  from: IpAddress,
  to: IpAddress,
  protocol: number,
  payload: Uint8Array,
  fields?: IpFields,
): Uint8Array {
  const { id = 0, offset = 0, more = false } = fields ?? {};
  if (from.family === 4) {
    const packet = new Uint8Array(20 + payload.length);
    const view = new DataView(packet.buffer);
    packet[0] = 0x45;
    view.setUint16(2, packet.length);
    view.setUint16(4, id);
    view.setUint16(6, (more ? 0x2000 : 0) | (offset / 8));
    packet[8] = 64;
    packet[9] = protocol;
    packet.set(addressBytes(from), 12);
    packet.set(addressBytes(to), 16);
    view.setUint16(10, checksum(packet.subarray(0, 20)));
    packet.set(payload, 20);
    return packet;
  }
  const extra = fields === undefined ? 0 : 8;
  const packet = new Uint8Array(40 + extra + payload.length);
  const view = new DataView(packet.buffer);
  packet[0] = 0x60;
  view.setUint16(4, extra + payload.length);
  packet[6] = extra > 0 ? 44 : protocol;
  packet[7] = 64;
  packet.set(addressBytes(from), 8);
  packet.set(addressBytes(to), 24);
  if (extra > 0) {
    packet[40] = protocol;
    view.setUint16(42, offset | (more ? 1 : 0));
    view.setUint32(44, id);
  }
  packet.set(payload, 40 + extra);
  return packet;
}

export function tcp(fields: TcpFields): Uint8Array {
  const { options = [], data = new Uint8Array(0) } = fields;
  const headerLength = 20 + options.length;
  const payload = new Uint8Array(headerLength + data.length);
  const view = new DataView(payload.buffer);
  view.setUint16(0, fields.fromPort);
  view.setUint16(2, fields.toPort);
  view.setInt32(4, fields.seq | 0);
  view.setInt32(8, (fields.ack ?? 0) | 0);
  payload[12] = (headerLength / 4) << 4;
  payload[13] = Array.from(fields.flags).reduce((bits, letter) => bits | (1 << LETTERS.indexOf(letter)), 0);
  view.setUint16(14, fields.window ?? 65_535);
  payload.set(options, 20);
  payload.set(data, headerLength);
  view.setUint16(16, upperChecksum(fields.from, fields.to, 6, payload));
  return ip(fields.from, fields.to, 6, payload);
}

/** The SYN option that permits SACK. */
export const SACK_PERMITTED: readonly number[] = [4, 2, 1, 1];

/** A SACK option of the blocks between these sequence numbers: start, end, start, end ... */
export function sackOption(...edges: readonly number[]): number[] {
  const bytes = edges.flatMap((edge) => [24, 16, 8, 0].map((shift) => (edge >>> shift) & 255));
  return [1, 1, 5, 2 + bytes.length, ...bytes];
}

export function udpPayload(
  from: IpAddress,
  fromPort: number,
  to: IpAddress,
  toPort: number,
  data: Uint8Array,
): Uint8Array {
  const payload = new Uint8Array(8 + data.length);
  const view = new DataView(payload.buffer);
  view.setUint16(0, fromPort);
  view.setUint16(2, toPort);
  view.setUint16(4, payload.length);
  payload.set(data, 8);
  view.setUint16(6, upperChecksum(from, to, 17, payload) || 0xffff);
  return payload;
}

export function icmp(
  from: IpAddress,
  to: IpAddress,
  type: number,
  code: number,
  rest: number,
  data: Uint8Array,
): Uint8Array {
  const payload = new Uint8Array(8 + data.length);
  const view = new DataView(payload.buffer);
  payload[0] = type;
  payload[1] = code;
  view.setUint32(4, rest);
  payload.set(data, 8);
  const sum = from.family === 4 ? checksum(payload) : upperChecksum(from, to, 58, payload);
  view.setUint16(2, sum);
  return ip(from, to, from.family === 4 ? 1 : 58, payload);
}

/** Reads a packet without extension headers; TCP fields are zero or empty for other protocols. */
export function parse(packet: Uint8Array): Parsed {
  const isV4 = packet[0]! >>> 4 === 4;
  const at = isV4 ? 20 : 40;
  const protocol = packet[isV4 ? 9 : 6]!;
  const payload = packet.slice(at);
  const view = new DataView(payload.buffer);
  const isTcp = protocol === 6;
  const headerLength = isTcp ? (payload[12]! >>> 4) * 4 : 8;
  const bits = isTcp ? payload[13]! : 0;
  return {
    protocol,
    payload,
    fromPort: view.getUint16(0),
    toPort: view.getUint16(2),
    seq: isTcp ? view.getInt32(4) : 0,
    ack: isTcp ? view.getInt32(8) : 0,
    flags: Array.from(LETTERS)
      .filter((_, i) => (bits & (1 << i)) !== 0)
      .join(''),
    window: isTcp ? view.getUint16(14) : 0,
    options: isTcp ? payload.slice(20, headerLength) : new Uint8Array(0),
    data: payload.slice(headerLength),
  };
}
