/** What a connection sends: segments, and when (RFC 9293 §3.8, §3.10.2; RFC 1122 §4.2.3.4). */
import { checksumOf, sumBytes } from '../checksum.ts';
import type { FlowKey } from '../flow-table.ts';
import { addressSum } from '../icmp.ts';
import { PROTOCOL_TCP, ipHeaderLength, writeIpHeader } from '../ip.ts';
import type { PacketWriter } from '../output.ts';
import { ACK, FIN, PSH, RST, SYN, TCP_HEADER_LENGTH, TIMESTAMPS_LENGTH } from './segment.ts';
import type { Tcb } from './tcb.ts';

/** RFC 2018 §3: with timestamps there is room for three blocks. */
const MAX_BLOCKS = 3;
/** Timers of the runtime are no finer than a millisecond or two; Linux has the same bound. */
const MINIMUM_PROBE_TIMEOUT_MS = 2;
/** RFC 8985 §7.2 WCDelAckT, for a lone segment: delayed ACKs of 40 ms, as practised, and some; with 200 ms the RTO comes first. */
const WORST_DELAYED_ACK_MS = 60;
/** RFC 5961 §7: challenge ACKs for each connection in 5 s; not shared, so that nobody can count them from outside. */
const CHALLENGES = 10;
const CHALLENGE_PERIOD_MS = 5000;

const blocks = new Float64Array(2 * (MAX_BLOCKS + 1));

/** Sends all that is due on a connection and sets its timers; false when the sink filled up. */
export function output(t: Tcb, now: number): boolean {
  const isOpening = t.state === 'syn-sent' || t.state === 'syn-received';
  if (t.resetQueued && t.sndUna >= t.sendEnd) t.resetPending = true;
  if (t.resetPending) {
    // What was written before it would have left by then if writing did not wait for a flush.
    if (t.state !== 'closed' && !isOpening && !sendNew(t, now)) return false;
    if (!sendReset(t)) return false;
    t.resetPending = false;
    t.finish('ECONNRESET', false);
    return true;
  }
  if (t.state === 'closed') return true;
  let fits = true;
  if (isOpening) {
    if (t.sndNxt === 0 || t.ackNow) fits = sendSyn(t, now);
  } else {
    fits = retransmitLost(t, now) && sendNew(t, now) && sendAck(t, now);
    armRetransmit(t, now);
  }
  updateDeadline(t);
  return fits;
}

/** Sends the SYN or the SYN-ACK, again if need be. */
export function sendSyn(t: Tcb, now: number): boolean {
  const flags = t.state === 'syn-sent' ? SYN : SYN | ACK;
  const isRepeat = t.sndNxt > 0;
  if (!writeSegment(t, 0, 0, flags, now)) return false;
  t.ackNow = false;
  t.sndNxt = 1;
  if (!isRepeat) t.rtoStart = now;
  if (t.retransmitKind !== 'handshake') {
    t.retransmitKind = 'handshake';
    t.retransmitAt = now + t.rtt.rto;
  }
  return true;
}

/** Sends an ACK at once, whatever is pending; false when the sink is full. */
export function sendBareAck(t: Tcb, now: number): boolean {
  return writeSegment(t, t.sndNxt, 0, ACK, now);
}

/** RFC 5961 §3.2: answer a suspicious segment with an ACK, so often and no more. */
export function sendChallengeAck(t: Tcb, now: number): void {
  if (now - t.challengeWindow >= CHALLENGE_PERIOD_MS) {
    t.challengeWindow = now;
    t.challenges = 0;
  }
  if (t.challenges >= CHALLENGES) return;
  t.challenges++;
  t.host.drops['tcp-challenged']++;
  sendBareAck(t, now);
}

/** A segment that makes the peer answer: nothing new, below its window (RFC 1122 §4.2.3.6). */
export function sendProbe(t: Tcb, now: number): boolean {
  return writeSegment(t, t.sndUna - 1, 0, ACK, now);
}

/** Sends segment number `n` of the scoreboard again. */
export function retransmit(t: Tcb, n: number, now: number): boolean {
  const start = t.board.startOf(n);
  const end = t.board.endOf(n);
  if (!writeSegment(t, start, Math.min(end, t.sendEnd) - start, end > t.sendEnd ? ACK | FIN : ACK, now)) return false;
  t.board.retransmitted(n, now);
  t.prrOut += end - start;
  t.host.retransmissions.segments++;
  if (t.undoArmed && t.undoStamp === 0) t.undoStamp = t.timestamp(now) || 1;
  return true;
}

/** Sends up to one new segment although congestion window or Nagle may say no; false when there is nothing new. */
export function sendOneNew(t: Tcb, now: number): boolean {
  const length = Math.min(t.sendEnd - t.sndNxt, t.mss - sackLength(t), t.sndUna + t.sndWnd - t.sndNxt);
  return length > 0 && sendData(t, length, now);
}

/** Timestamps for a segment that is written without a connection. */
export interface ControlTimestamps {
  readonly value: number;
  readonly echo: number;
}

/** A segment without data for a flow that has no connection, or none any more (RFC 9293 §3.10.7.1). */
export function writeControl(
  writer: PacketWriter,
  flow: FlowKey,
  sequence: number,
  acknowledgment: number,
  flags: number,
  timestamps?: ControlTimestamps,
): boolean {
  const { local, remote } = flow;
  const headerLength = ipHeaderLength(local.family);
  const length = TCP_HEADER_LENGTH + (timestamps === undefined ? 0 : TIMESTAMPS_LENGTH);
  const at = writer.begin(headerLength + length);
  if (at < 0) return false;
  const { view } = writer;
  writeIpHeader(view, at, local, remote, PROTOCOL_TCP, length);
  const tcp = at + headerLength;
  view.setUint32(tcp, (flow.localPort << 16) | flow.remotePort);
  view.setInt32(tcp + 4, sequence);
  view.setInt32(tcp + 8, acknowledgment);
  view.setUint32(tcp + 12, ((length / 4) << 28) | (flags << 16));
  view.setUint32(tcp + 16, 0);
  if (timestamps !== undefined) {
    view.setUint32(tcp + 20, 0x0101080a);
    view.setInt32(tcp + 24, timestamps.value);
    view.setInt32(tcp + 28, timestamps.echo);
  }
  const sum = addressSum(local, remote, PROTOCOL_TCP) + length + sumBytes(view, tcp, length);
  view.setUint16(tcp + 16, checksumOf(sum));
  writer.end(at, headerLength + length);
  return true;
}

/** Moves the heap's deadline to the earliest of the connection's own. */
export function updateDeadline(t: Tcb): void {
  // A reset that was due has ended it.
  if (t.state === 'closed') return;
  t.deadline = Math.min(t.retransmitAt, t.delayedAckAt, t.lifeAt, t.keepAliveAt);
  t.host.updateTimer(t);
}

/** Chooses what the retransmission timer waits for (RFC 6298 §5, RFC 8985 §7.2, RFC 9293 §3.8.6.1). */
export function armRetransmit(t: Tcb, now: number): void {
  if (t.state === 'closed') return;
  if (t.sndNxt === t.sndUna) {
    const hasMore = t.sendEnd > t.sndNxt || (t.finQueued && !t.finSent);
    if (!hasMore) {
      t.retransmitKind = 'none';
      t.retransmitAt = Infinity;
    } else if (t.retransmitKind !== 'persist') {
      t.retransmitKind = 'persist';
      t.retransmitAt = now + t.rtt.rto;
      t.zeroWindowSince = now;
      t.answeredAt = now;
    }
    return;
  }
  t.persistBackoff = 0;
  const rtoAt = t.rtoStart + t.rtt.rto;
  t.retransmitKind = 'rto';
  t.retransmitAt = rtoAt;
  if (t.reorderAt < rtoAt) {
    t.retransmitKind = 'reorder';
    t.retransmitAt = t.reorderAt;
  } else if (t.recovery !== 'loss' && t.sackEnabled && t.tlpEnd <= t.sndUna && t.rtt.srtt > 0) {
    // In fast recovery too, beyond RFC 8985 §7.2: where one ACK answers a whole batch, its loss leaves nothing else but the RTO.
    const lone = t.board.count === 1 ? WORST_DELAYED_ACK_MS : 0;
    const probeAt = t.probeStart + Math.max(2 * t.rtt.srtt + lone, MINIMUM_PROBE_TIMEOUT_MS);
    if (probeAt < rtoAt) {
      t.retransmitKind = 'tlp';
      t.retransmitAt = probeAt;
    }
  }
}

/** Sends what is marked lost again, as far as the congestion window goes. */
function retransmitLost(t: Tcb, now: number): boolean {
  for (let n = t.board.nextLost(); n >= 0; n = t.board.nextLost()) {
    const length = t.board.endOf(n) - t.board.startOf(n);
    const { pipe } = t;
    if (t.cubic.cwnd - pipe < length && pipe > 0) {
      t.cwndLimited = true;
      return true;
    }
    if (!retransmit(t, n, now)) return false;
    if (n === 0) t.rtoStart = now;
  }
  return true;
}

/** Sends new data: as far as both windows go, without silly windows (RFC 1122 §4.2.3.4). */
function sendNew(t: Tcb, now: number): boolean {
  if (t.finSent) return true;
  let limited = t.board.lostBytes > 0;
  if (t.sendEnd > t.sndNxt && !limited) {
    if (t.sndNxt === t.sndUna && now - t.lastSendAt > t.rtt.rto) t.cubic.onIdle();
    const mss = t.mss - sackLength(t);
    for (;;) {
      const available = t.sendEnd - t.sndNxt;
      const length = Math.min(available, mss, t.sndUna + t.sndWnd - t.sndNxt);
      if (length <= 0) break;
      if (length < mss && length < t.maxSndWnd / 2) {
        if (length < available) break;
        // Nagle (RFC 9293 §3.7.4).
        if (!t.noDelay && !t.finQueued && t.sndNxt > t.sndUna) break;
      }
      if (t.cubic.cwnd - t.pipe < length) {
        limited = true;
        break;
      }
      if (!sendData(t, length, now)) return false;
    }
  }
  t.cwndLimited = limited;
  if (t.finQueued && !t.finSent && t.sndNxt === t.sendEnd) return sendData(t, 0, now);
  return true;
}

/** Sends `length` new bytes, and the FIN with the last of them. */
function sendData(t: Tcb, length: number, now: number): boolean {
  const start = t.sndNxt;
  const isLast = start + length === t.sendEnd;
  const withFin = isLast && t.finQueued;
  if (!writeSegment(t, start, length, ACK | (isLast && length > 0 ? PSH : 0) | (withFin ? FIN : 0), now)) return false;
  if (start === t.sndUna) {
    t.rtoStart = now;
    t.progressAt = now;
  }
  t.probeStart = now;
  t.lastSendAt = now;
  t.sndNxt = start + length + (withFin ? 1 : 0);
  t.prrOut += length;
  t.board.push(t.sndNxt, now);
  if (withFin) {
    t.finSent = true;
    t.state = t.state === 'close-wait' ? 'last-ack' : 'fin-wait-1';
  }
  return true;
}

/** Acknowledges what arrived: at once when asked, for every second full segment, when the window opened, or later. */
function sendAck(t: Tcb, now: number): boolean {
  const pending = t.rcvNxt - t.lastAckSent;
  if (t.ackNow || pending >= 2 * t.rcvMss || (pending > 0 && t.quickAcks > 0) || opensWindow(t)) {
    if (pending > 0 && t.quickAcks > 0) t.quickAcks--;
    // One for each (RFC 5681 §4.2): a peer without SACK counts them, and with it a lost one must not cost a timeout.
    for (let copies = Math.min(t.outOfOrder, t.sackEnabled ? 2 : 3); copies > 1; copies--) {
      if (!sendBareAck(t, now)) return false;
    }
    return sendBareAck(t, now);
  }
  if (pending > 0 && t.delayedAckAt === Infinity) t.delayedAckAt = now + t.host.tcpOptions.delayedAckMs;
  return true;
}

/** Whether reading has opened the window by enough to say so (RFC 9293 §3.8.6.2.2). */
function opensWindow(t: Tcb): boolean {
  if (t.finReceived) return false;
  const left = t.rcvEdge - t.rcvNxt;
  const gain = t.rcvNxt + freeWindow(t) - t.rcvEdge;
  return (
    gain > 0 && (gain >= t.rcvLimit / 4 || (left < 2 * t.rcvMss && gain >= Math.min(2 * t.rcvMss, t.rcvLimit / 2)))
  );
}

function freeWindow(t: Tcb): number {
  const limit = t.pool.isUnderPressure ? Math.min(t.rcvLimit, 32 << 10) : t.rcvLimit;
  return Math.max(0, limit - t.queue.readable);
}

/** The window field, and with it the promise kept in rcvEdge. */
function advertise(t: Tcb, isSyn: boolean): number {
  const free = freeWindow(t);
  const scale = isSyn ? 0 : t.rcvScale;
  let edge = t.rcvNxt + (free < Math.min(t.rcvMss, t.rcvLimit / 2) ? 0 : free);
  if (edge < t.rcvEdge) edge = t.rcvEdge;
  const field = Math.min(65_535, Math.ceil((edge - t.rcvNxt) / (1 << scale)));
  // Rounding up keeps the right edge where it was promised (RFC 7323 §2.4).
  t.rcvEdge = Math.max(t.rcvEdge, t.rcvNxt + field * (1 << scale));
  return field;
}

function sackLength(t: Tcb): number {
  if (!t.sackEnabled || (!t.queue.hasGaps && t.dsackEnd === 0)) return 0;
  return 4 + 8 * MAX_BLOCKS;
}

function sendReset(t: Tcb): boolean {
  if (t.state === 'closed' || t.state === 'syn-sent') return true;
  return writeControl(t.host.writer, t, (t.iss + t.sndNxt) | 0, (t.irs + t.rcvNxt) | 0, RST | ACK);
}

/** Writes one segment; `start` is the offset of its first byte in our stream. */
function writeSegment(t: Tcb, start: number, length: number, flags: number, now: number): boolean {
  const isSyn = (flags & SYN) !== 0;
  let optionLength = t.tsEnabled && !isSyn ? TIMESTAMPS_LENGTH : 0;
  const blockCount = isSyn ? 0 : countBlocks(t, t.segmentRoom - optionLength - length);
  if (blockCount > 0) optionLength += 4 + 8 * blockCount;
  if (isSyn) optionLength = synOptionLength(t);
  const tcpLength = TCP_HEADER_LENGTH + optionLength + length;
  const total = t.ipHeaderLength + tcpLength;
  const { writer } = t.host;
  const at = writer.begin(total);
  if (at < 0) {
    t.host.drops['output-full']++;
    return false;
  }
  const { view } = writer;
  writeIpHeader(view, at, t.local, t.remote, PROTOCOL_TCP, tcpLength, t.flowLabel);
  const tcp = at + t.ipHeaderLength;
  view.setUint32(tcp, (t.localPort << 16) | t.remotePort);
  view.setInt32(tcp + 4, (t.iss + start) | 0);
  view.setInt32(tcp + 8, (flags & ACK) === 0 ? 0 : (t.irs + t.rcvNxt) | 0);
  view.setUint32(tcp + 12, (((TCP_HEADER_LENGTH + optionLength) / 4) << 28) | (flags << 16) | advertise(t, isSyn));
  view.setUint32(tcp + 16, 0);
  let option = tcp + TCP_HEADER_LENGTH;
  if (isSyn) {
    writeSynOptions(t, view, option, now);
  } else {
    if (t.tsEnabled) option = writeTimestamps(t, view, option, now);
    if (blockCount > 0) writeBlocks(t, view, option, blockCount);
  }
  if (length > 0) t.sendRing.read(start - t.sendStart, writer.buffer, tcp + TCP_HEADER_LENGTH + optionLength, length);
  view.setUint16(tcp + 16, checksumOf(t.pseudoSum + tcpLength + sumBytes(view, tcp, tcpLength)));
  writer.end(at, total);
  if ((flags & ACK) !== 0) {
    t.lastAckSent = t.rcvNxt;
    // Where no block fitted beside the data, an ACK of its own has them.
    if (blockCount === 0 && sackLength(t) > 0) return true;
    t.ackNow = false;
    t.outOfOrder = 0;
    t.delayedAckAt = Infinity;
    t.dsackEnd = 0;
  }
  return true;
}

/** Our SYN offers everything; our SYN-ACK repeats what the SYN offered (RFC 7323 §2.2, §3.2). */
function synOptionLength(t: Tcb): number {
  if (t.state === 'syn-sent') return 20;
  return 4 + (t.tsEnabled ? 12 : t.sackEnabled ? 4 : 0) + (t.rcvScale > 0 ? 4 : 0);
}

function writeSynOptions(t: Tcb, view: DataView, at: number, now: number): void {
  const isFirst = t.state === 'syn-sent';
  view.setUint32(at, 0x02040000 | t.offeredMss);
  at += 4;
  const withSack = isFirst || t.sackEnabled;
  if (isFirst || t.tsEnabled) {
    view.setUint32(at, withSack ? 0x0402080a : 0x0101080a);
    view.setInt32(at + 4, t.timestamp(now));
    view.setInt32(at + 8, isFirst ? 0 : t.tsRecent);
    at += 12;
  } else if (withSack) {
    view.setUint32(at, 0x01010402);
    at += 4;
  }
  if (isFirst || t.rcvScale > 0) view.setUint32(at, 0x01030300 | t.rcvScale);
}

function writeTimestamps(t: Tcb, view: DataView, at: number, now: number): number {
  view.setUint32(at, 0x0101080a);
  view.setInt32(at + 4, t.timestamp(now));
  view.setInt32(at + 8, t.tsRecent);
  return at + TIMESTAMPS_LENGTH;
}

/** Collects the blocks to report, a duplicate first (RFC 2883 §4), as many as `room` bytes take (RFC 2018 §3). */
function countBlocks(t: Tcb, room: number): number {
  if (!t.sackEnabled || (t.dsackEnd === 0 && !t.queue.hasGaps)) return 0;
  const maximum = Math.min(MAX_BLOCKS, Math.floor((room - 4) / 8));
  if (maximum <= 0) return 0;
  if (t.dsackEnd === 0) return t.queue.sackBlocks(blocks, maximum);
  const count = t.queue.sackBlocks(blocks, maximum - 1);
  blocks.copyWithin(2, 0, count * 2);
  blocks[0] = t.dsackStart;
  blocks[1] = t.dsackEnd;
  return count + 1;
}

function writeBlocks(t: Tcb, view: DataView, at: number, count: number): void {
  view.setUint32(at, 0x01010500 | (2 + 8 * count));
  for (let i = 0; i < count * 2; i++) view.setInt32(at + 4 + i * 4, (t.irs + blocks[i]!) | 0);
}
