/**
 * What acknowledgments say: progress, round trips, losses, and what the congestion window makes of them
 * (RFC 5681, RFC 6298, RFC 6582, RFC 6675, RFC 6937, RFC 8985).
 */
import type { Segment } from './segment.ts';
import { EVENT_WRITABLE, type Tcb } from './tcb.ts';

/** RFC 5681 §3.2. */
const DUPLICATE_THRESHOLD = 3;
/** RFC 8985 §6.2 step 4: the reordering window grows to this many quarters of the lowest round trip. */
const MAX_REORDER_MULTIPLIER = 20;
/** So many recoveries without a report of a duplicate make it small again. */
const REORDER_PERSIST = 16;

/** Takes an acceptable acknowledgment of everything below offset `ack`. */
export function processAck(t: Tcb, segment: Segment, ack: number, windowChanged: boolean, now: number): void {
  const { board, cubic, rtt } = t;
  const before = t.sndUna;
  const flight = t.sndNxt - before;
  const advanced = ack > before;
  const minimumRtt = rtt.minimum === Infinity ? 0 : rtt.minimum;
  board.acknowledge(ack, now, minimumRtt);
  const sawDuplicate = t.sackEnabled && segment.sackCount > 0 && processSacks(t, segment, ack, minimumRtt, now);
  const delivered = board.deliveredBytes;
  if (board.sampleRtt !== Infinity) {
    rtt.sample(board.sampleRtt, now);
    cubic.onRtt(board.sampleRtt, delivered, ack, t.sndNxt);
  } else if (advanced && flight > 0 && segment.hasTimestamps && !sawDuplicate) {
    // Everything acknowledged was sent twice. Beside a report of a duplicate the echo says nothing: it is of a copy that arrived
    // long ago, and its acknowledgment got lost.
    sampleEcho(t, segment, now);
  }
  if (advanced) advance(t, ack, now);
  else if (delivered > 0) t.probeStart = now;
  if (t.tlpEnd > 0 && ack >= t.tlpEnd) endTailLossProbe(t, segment, ack, advanced, sawDuplicate);
  const isOver = t.recovery !== 'open' && ack >= t.recoveryPoint;
  adaptReordering(t, sawDuplicate, isOver);
  if (flight === 0) return;
  if (advanced && t.undoArmed) undoIfSpurious(t, segment);
  if (isOver && t.recovery !== 'open') {
    if (t.recovery === 'recovery') cubic.cwnd = cubic.ssthresh;
    t.recovery = 'open';
    t.undoArmed = false;
  }
  if (!t.sackEnabled) countDuplicate(t, segment, advanced, windowChanged);
  detectLosses(t, now);
  if (board.lostBytes > 0 && t.recovery === 'open') enterRecovery(t, flight);
  if (t.recovery === 'recovery') reduceProportionally(t, delivered, advanced);
  else if (advanced && (t.cwndLimited || t.recovery === 'loss')) cubic.onAck(delivered, now, rtt.srtt);
}

/** The round trip of what was sent twice: the echo tells which copy arrived (RFC 7323 §4.1). */
export function sampleEcho(t: Tcb, segment: Segment, now: number): void {
  const echoed = (t.timestamp(now) - segment.tsEcho) | 0;
  if (echoed >= 0 && echoed < 60_000) t.rtt.sample(Math.max(echoed, 1), now);
}

/** RACK's verdict on what is late, at an acknowledgment or when the reordering timer fires. */
export function detectLosses(t: Tcb, now: number): void {
  if (!t.sackEnabled) return;
  const { board, rtt } = t;
  if (rtt.minimum === Infinity) return;
  const window = board.reorderingWindow(t.reorderMultiplier, rtt.minimum, rtt.srtt, t.recovery !== 'open');
  const wait = board.detectLoss(now, window);
  t.reorderAt = wait > 0 ? now + wait : Infinity;
}

/** Fast recovery begins: one reduction for all losses up to here. */
export function enterRecovery(t: Tcb, flight: number): void {
  t.recovery = 'recovery';
  t.recoveryPoint = t.sndNxt;
  rememberForUndo(t);
  t.cubic.onCongestion();
  t.prrDelivered = 0;
  t.prrOut = 0;
  t.prrFlight = Math.max(flight, t.mss);
  t.tlpEnd = 0;
}

/** The retransmission timer expired (RFC 6298 §5.4-5.6): presume all lost and start slowly. */
export function enterLoss(t: Tcb): void {
  if (t.recovery !== 'loss') {
    if (t.recovery === 'open') {
      rememberForUndo(t);
      t.cubic.onCongestion();
    }
    t.recovery = 'loss';
  } else {
    t.undoArmed = false;
  }
  if (t.board.isHeadSacked) t.board.forgetSacks();
  t.cubic.onTimeout();
  t.recoveryPoint = t.sndNxt;
  t.duplicateAcks = 0;
  t.reorderAt = Infinity;
  t.tlpEnd = 0;
  t.board.markAllLost();
}

function rememberForUndo(t: Tcb): void {
  t.undoArmed = t.tsEnabled;
  t.undoStamp = 0;
  t.cubic.remember();
}

/** The Eifel test (RFC 3522): an echo from before the first retransmission means that the original had arrived. */
function undoIfSpurious(t: Tcb, segment: Segment): void {
  if (t.undoStamp === 0) return;
  t.undoArmed = false;
  if (!segment.hasTimestamps || ((segment.tsEcho - t.undoStamp) | 0) >= 0) return;
  t.board.unmarkLost();
  t.cubic.undo();
  t.recovery = 'open';
}

function advance(t: Tcb, ack: number, now: number): void {
  t.sndUna = ack;
  t.progressAt = now;
  t.rtoStart = now;
  t.probeStart = now;
  t.duplicateAcks = 0;
  t.rtt.recovered();
  const dataEnd = Math.min(ack, t.sendEnd);
  if (dataEnd > t.sendStart) {
    if (dataEnd === t.sendEnd) t.sendRing.release();
    else t.sendRing.advance(dataEnd - t.sendStart);
    t.sendStart = dataEnd;
    if (t.wantsWritable) t.events |= EVENT_WRITABLE;
  }
}

/** Marks what the blocks report; true when one reports a duplicate (RFC 2883). */
function processSacks(t: Tcb, segment: Segment, ack: number, minimumRtt: number, now: number): boolean {
  let sawDuplicate = false;
  for (let i = 0; i < segment.sackCount; i++) {
    const start = t.sndUna + ((segment.sackStart[i]! - (t.iss + t.sndUna)) | 0);
    const end = t.sndUna + ((segment.sackEnd[i]! - (t.iss + t.sndUna)) | 0);
    if (start >= end || end > t.sndNxt) continue;
    if (i === 0 && (end <= ack || isInside(t, segment, start, end))) {
      sawDuplicate = true;
      continue;
    }
    if (end > ack) t.board.sack(start, end, now, minimumRtt);
  }
  return sawDuplicate;
}

/** RFC 2883 §4: the first block lies inside the second, so it reports a duplicate. */
function isInside(t: Tcb, segment: Segment, start: number, end: number): boolean {
  if (segment.sackCount < 2) return false;
  const outerStart = t.sndUna + ((segment.sackStart[1]! - (t.iss + t.sndUna)) | 0);
  const outerEnd = t.sndUna + ((segment.sackEnd[1]! - (t.iss + t.sndUna)) | 0);
  return start >= outerStart && end <= outerEnd;
}

/** RFC 8985 §6.2 step 4: a round trip with reports of duplicates makes the reordering window larger, by one step. */
function adaptReordering(t: Tcb, sawDuplicate: boolean, isOver: boolean): void {
  if (t.sndUna >= t.dsackRound) t.dsackRound = 0;
  if (sawDuplicate && t.dsackRound === 0) {
    t.dsackRound = t.sndNxt;
    t.reorderMultiplier = Math.min(t.reorderMultiplier + 1, MAX_REORDER_MULTIPLIER);
    t.reorderPersist = REORDER_PERSIST;
  } else if (isOver && --t.reorderPersist <= 0) {
    t.reorderMultiplier = 1;
  }
}

/**
 * RFC 8985 §7.4.2: a probe that repaired a loss is a congestion signal like any other. That it was needless a report of a duplicate
 * says, or without DSACK a duplicate acknowledgment; either comes before anything that was sent later is acknowledged.
 */
function endTailLossProbe(t: Tcb, segment: Segment, ack: number, advanced: boolean, sawDuplicate: boolean): void {
  const isRepeat = !advanced && segment.sackCount === 0 && segment.dataLength === 0;
  if (t.tlpIsRetransmission && !sawDuplicate && !isRepeat) {
    if (ack === t.tlpEnd) return;
    if (t.recovery === 'open') {
      t.cubic.onCongestion();
      t.cubic.cwnd = t.cubic.ssthresh;
    }
  }
  t.tlpEnd = 0;
}

/** A peer without SACK: three duplicates mean one loss, a partial acknowledgment the next (RFC 6582 §3.2). */
function countDuplicate(t: Tcb, segment: Segment, advanced: boolean, windowChanged: boolean): void {
  if (advanced) {
    if (t.recovery === 'recovery') t.board.markHeadLost();
    return;
  }
  if (segment.dataLength > 0 || windowChanged || t.sndUna === t.sndNxt) return;
  t.duplicateAcks++;
  if (t.duplicateAcks === DUPLICATE_THRESHOLD && t.recovery === 'open') t.board.markHeadLost();
}

/** Proportional Rate Reduction with the slow-start reduction bound (RFC 6937 §3). */
function reduceProportionally(t: Tcb, delivered: number, advanced: boolean): void {
  const { cubic, mss, pipe } = t;
  const isFirst = t.prrDelivered === 0 && t.prrOut === 0;
  t.prrDelivered += delivered;
  let allowance: number;
  if (pipe > cubic.ssthresh) {
    allowance = Math.ceil((t.prrDelivered * cubic.ssthresh) / t.prrFlight) - t.prrOut;
  } else {
    const behind = t.prrDelivered - t.prrOut;
    allowance = Math.min(cubic.ssthresh - pipe, advanced ? Math.max(behind, delivered) + mss : behind);
  }
  cubic.cwnd = Math.max(pipe + Math.max(allowance, isFirst ? mss : 0), mss);
}
