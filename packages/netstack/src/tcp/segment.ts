/** The TCP header and its options on the wire (RFC 9293 §3.1, RFC 7323, RFC 2018). */
import { isChecksumValid, pseudoHeaderSum, sumBytes } from '../checksum.ts';
import type { DropReason } from '../drops.ts';
import { type IpPacket, PROTOCOL_TCP } from '../ip.ts';

export const FIN = 1;
export const SYN = 2;
export const RST = 4;
export const PSH = 8;
export const ACK = 16;

export const TCP_HEADER_LENGTH = 20;
/** Two NOPs and the timestamps option. */
export const TIMESTAMPS_LENGTH = 12;
/** RFC 7323 §2.3. */
export const MAX_WINDOW_SCALE = 14;

const MAX_SACK_BLOCKS = 4;

/** A parsed segment; one is reused for all. */
export class Segment {
  sourcePort = 0;
  destinationPort = 0;
  sequence = 0;
  acknowledgment = 0;
  flags = 0;
  window = 0;
  /** Offset and length of the data in the packet's buffer. */
  data = 0;
  dataLength = 0;
  /** 0 when absent. */
  mss = 0;
  /** -1 when absent. */
  windowScale = -1;
  sackPermitted = false;
  hasTimestamps = false;
  tsValue = 0;
  tsEcho = 0;
  sackCount = 0;
  readonly sackStart: Int32Array = new Int32Array(MAX_SACK_BLOCKS);
  readonly sackEnd: Int32Array = new Int32Array(MAX_SACK_BLOCKS);

  /** Sequence space it takes. */
  get span(): number {
    return this.dataLength + ((this.flags & SYN) >>> 1) + (this.flags & FIN);
  }
}

/** Fills `segment` from the payload of `packet`, or says why it is no segment. */
export function parseSegment(segment: Segment, packet: IpPacket): DropReason | undefined {
  const { view, payload: at, payloadLength: length } = packet;
  if (length < TCP_HEADER_LENGTH) return 'malformed-transport';
  const word = view.getUint16(at + 12);
  const headerLength = (word >>> 12) * 4;
  if (headerLength < TCP_HEADER_LENGTH || headerLength > length) return 'malformed-transport';
  const pseudo = pseudoHeaderSum(
    packet.s0,
    packet.s1,
    packet.s2,
    packet.s3,
    packet.d0,
    packet.d1,
    packet.d2,
    packet.d3,
    PROTOCOL_TCP,
  );
  if (!isChecksumValid(pseudo + length + sumBytes(view, at, length))) return 'bad-checksum';
  segment.sourcePort = view.getUint16(at);
  segment.destinationPort = view.getUint16(at + 2);
  if (segment.sourcePort === 0 || segment.destinationPort === 0) return 'malformed-transport';
  segment.sequence = view.getInt32(at + 4);
  segment.acknowledgment = view.getInt32(at + 8);
  segment.flags = word & 0x3f;
  segment.window = view.getUint16(at + 14);
  segment.data = at + headerLength;
  segment.dataLength = length - headerLength;
  segment.mss = 0;
  segment.windowScale = -1;
  segment.sackPermitted = false;
  segment.hasTimestamps = false;
  segment.sackCount = 0;
  if (headerLength > TCP_HEADER_LENGTH) parseOptions(segment, view, at + TCP_HEADER_LENGTH, segment.data);
  return undefined;
}

/** A malformed option ends the list; what came before it counts (RFC 9293 §3.1). */
function parseOptions(segment: Segment, view: DataView, at: number, end: number): void {
  // RFC 7323 appendix A: the usual layout of everything but SYN.
  if (end - at === TIMESTAMPS_LENGTH && view.getUint32(at) === 0x0101080a) {
    segment.hasTimestamps = true;
    segment.tsValue = view.getInt32(at + 4);
    segment.tsEcho = view.getInt32(at + 8);
    return;
  }
  while (at < end) {
    const kind = view.getUint8(at);
    if (kind === 0) return;
    if (kind === 1) {
      at++;
      continue;
    }
    if (at + 2 > end) return;
    const length = view.getUint8(at + 1);
    if (length < 2 || at + length > end) return;
    if (kind === 2 && length === 4) segment.mss = view.getUint16(at + 2);
    else if (kind === 3 && length === 3) segment.windowScale = Math.min(view.getUint8(at + 2), MAX_WINDOW_SCALE);
    else if (kind === 4 && length === 2) segment.sackPermitted = true;
    else if (kind === 5 && length >= 10 && (length - 2) % 8 === 0) {
      segment.sackCount = Math.min((length - 2) / 8, MAX_SACK_BLOCKS);
      for (let i = 0; i < segment.sackCount; i++) {
        segment.sackStart[i] = view.getInt32(at + 2 + i * 8);
        segment.sackEnd[i] = view.getInt32(at + 6 + i * 8);
      }
    } else if (kind === 8 && length === 10) {
      segment.hasTimestamps = true;
      segment.tsValue = view.getInt32(at + 2);
      segment.tsEcho = view.getInt32(at + 6);
    }
    at += length;
  }
}
