/** What a connection does with a segment (RFC 9293 §3.10.7.3 and §3.10.7.4, with the checks of RFC 5961 and RFC 7323). */
import type { IpPacket } from '../ip.ts';
import { output, sendChallengeAck, updateDeadline } from './output.ts';
import { processAck, sampleEcho } from './recovery.ts';
import { ACK, FIN, RST, SYN, type Segment } from './segment.ts';
import { EVENT_CONNECT, EVENT_READABLE, EVENT_WRITABLE, type Tcb } from './tcb.ts';

/** RFC 7323 §5.5: a timestamp this old means nothing any more. */
const PAWS_IDLE_MS = 24 * 86_400_000;

/** Takes a segment for `t`; returns the acknowledgment to reset with when it is unacceptable (RFC 9293 §3.10.7.3), else undefined. */
export function processSegment(t: Tcb, segment: Segment, packet: IpPacket, now: number): 'reset' | undefined {
  if (t.state === 'syn-sent') return processSynSent(t, segment, now);
  const { drops } = t.host;
  const { flags } = segment;
  if (t.tsEnabled && (flags & RST) === 0) {
    // RFC 7323 §3.2: once negotiated, a segment without timestamps is dropped.
    if (!segment.hasTimestamps) {
      drops['tcp-old-timestamp']++;
      return undefined;
    }
    // PAWS (RFC 7323 §5.3 R1).
    if (((segment.tsValue - t.tsRecent) | 0) < 0 && now - t.tsRecentAt < PAWS_IDLE_MS) {
      drops['tcp-old-timestamp']++;
      sendChallengeAck(t, now);
      return undefined;
    }
  }
  const start = t.rcvNxt + ((segment.sequence - (t.irs + t.rcvNxt)) | 0);
  // The text of a reset is of no interest, and of no weight in a shut window.
  const end = start + ((flags & RST) === 0 ? segment.span : 0);
  const isInWindow = isAcceptable(t, start, end);
  // Farther away than any window has reached, it is a guess: its acknowledgment is no news (RFC 5961 §5), and it no sign of life.
  const isNear = isInWindow || (start >= t.rcvNxt - t.rcvLimit && start <= t.rcvEdge);
  if (isNear) t.lastReceivedAt = now;
  if (!isInWindow) {
    if ((flags & RST) !== 0) {
      drops['tcp-outside-window']++;
      return undefined;
    }
    // A repeated SYN means that our SYN-ACK was lost.
    if (t.state === 'syn-received' && (flags & (SYN | ACK)) === SYN && start === 0) {
      t.ackNow = true;
      t.host.wake(t);
      return undefined;
    }
    drops['tcp-outside-window']++;
    if (!isNear) {
      sendChallengeAck(t, now);
      return undefined;
    }
    if (segment.dataLength > 0 && end <= t.rcvNxt) noteDuplicate(t, start, end);
    if (segment.dataLength > 0) {
      t.ackNow = true;
      t.host.wake(t);
    } else {
      sendChallengeAck(t, now);
    }
    // Its acknowledgment may still be news (RFC 9293 §3.10.7.4: the window may be zero), also to our FIN: after both have closed
    // at once, a FIN that comes again has the only acknowledgment there will be (§3.6, figure 13).
    if ((flags & (SYN | ACK)) === ACK && t.state !== 'syn-received') {
      if (takeAck(t, segment, start, now)) advanceState(t, now);
    }
    return undefined;
  }
  if ((flags & RST) !== 0) {
    // RFC 5961 §3.2: exact or not at all.
    if (start === t.rcvNxt) t.finish(t.state === 'syn-received' ? 'ECONNREFUSED' : 'ECONNRESET', false);
    else sendChallengeAck(t, now);
    return undefined;
  }
  if ((flags & SYN) !== 0) {
    // RFC 5961 §4.2.
    sendChallengeAck(t, now);
    return undefined;
  }
  if ((flags & ACK) === 0) {
    drops['tcp-unexpected']++;
    return undefined;
  }
  if (t.state === 'syn-received') {
    const ack = ackOffset(t, segment);
    if (ack < 1 || ack > t.sndNxt) return 'reset';
    establish(t, segment, now);
  }
  if (!takeAck(t, segment, start, now)) return undefined;
  if (t.tsEnabled && start <= t.lastAckSent && ((segment.tsValue - t.tsRecent) | 0) >= 0) {
    // RFC 7323 §4.3 (2).
    t.tsRecent = segment.tsValue;
    t.tsRecentAt = now;
  }
  if (segment.dataLength > 0 || (flags & FIN) !== 0) takeData(t, segment, packet, start, now);
  advanceState(t, now);
  t.host.wake(t);
  return undefined;
}

/** RFC 9293 §3.10.7.3. */
function processSynSent(t: Tcb, segment: Segment, now: number): 'reset' | undefined {
  const { flags } = segment;
  const ack = ackOffset(t, segment);
  if ((flags & ACK) !== 0 && (ack <= 0 || ack > t.sndNxt)) {
    return (flags & RST) === 0 ? 'reset' : undefined;
  }
  if ((flags & RST) !== 0) {
    if ((flags & ACK) !== 0) t.finish('ECONNREFUSED', false);
    return undefined;
  }
  if ((flags & SYN) === 0) return undefined;
  t.adopt(segment);
  if ((flags & ACK) !== 0) {
    t.ackNow = true;
    establish(t, segment, now);
  } else {
    // Both sides opened at once (RFC 9293 §3.5, figure 8).
    t.state = 'syn-received';
    t.ackNow = true;
  }
  t.host.wake(t);
  return undefined;
}

function establish(t: Tcb, segment: Segment, now: number): void {
  t.state = 'established';
  if (t.isHalfOpen) t.host.leaveHalfOpen(t);
  t.events |= EVENT_CONNECT | EVENT_WRITABLE;
  t.lifeAt = t.readClosed ? now + t.host.tcpOptions.orphanTimeoutMs : Infinity;
  if (t.rtt.backoff === 0) t.rtt.sample(now - t.rtoStart, now);
  else {
    if (t.tsEnabled) sampleEcho(t, segment, now);
    t.rtt.startOver();
  }
  t.rtt.recovered();
  t.sndUna = 1;
  t.retransmitKind = 'none';
  t.retransmitAt = Infinity;
  t.progressAt = now;
  t.sndWnd = (segment.flags & SYN) === 0 ? segment.window * (1 << t.sndScale) : segment.window;
  t.maxSndWnd = Math.max(t.maxSndWnd, t.sndWnd);
  t.tuneAt = now;
  t.rcvRtt = t.rtt.srtt;
  if (t.keepAliveIdle > 0) t.keepAliveAt = now + t.keepAliveIdle;
}

/** RFC 9293 §3.4, table 6, in offsets; the window is what we last promised. */
function isAcceptable(t: Tcb, start: number, end: number): boolean {
  const { rcvNxt, rcvEdge } = t;
  if (end === start) return rcvEdge === rcvNxt ? start === rcvNxt : start >= rcvNxt && start <= rcvEdge;
  if (rcvEdge === rcvNxt) return false;
  return start < rcvEdge && end > rcvNxt;
}

function ackOffset(t: Tcb, segment: Segment): number {
  return t.sndUna + ((segment.acknowledgment - (t.iss + t.sndUna)) | 0);
}

/** Takes the acknowledgment and the window; false when the acknowledgment is impossible (RFC 5961 §5.2). */
function takeAck(t: Tcb, segment: Segment, start: number, now: number): boolean {
  const ack = ackOffset(t, segment);
  if (ack > t.sndNxt || ack < t.sndUna - t.maxSndWnd) {
    t.host.drops['tcp-bad-ack']++;
    sendChallengeAck(t, now);
    return false;
  }
  if (ack < t.sndUna) return true;
  let windowChanged = false;
  // RFC 9293 §3.10.7.4: only a newer segment speaks for the window.
  if (t.sndWl1 < start || (t.sndWl1 === start && t.sndWl2 <= ack)) {
    const window = segment.window * (1 << t.sndScale);
    windowChanged = window !== t.sndWnd;
    t.answeredAt = now;
    if (t.recovery === 'loss' && t.sndWnd === 0 && window > 0) {
      // What was sent again into the shut window was not taken.
      t.rtt.recovered();
      t.board.markAllLost();
    }
    t.sndWnd = window;
    t.sndWl1 = start;
    t.sndWl2 = ack;
    if (window > t.maxSndWnd) t.maxSndWnd = window;
    // An open window ends probing.
    if (t.retransmitKind === 'persist' && window > 0) {
      t.persistBackoff = 0;
      t.retransmitKind = 'none';
      t.zeroWindowSince = now;
    }
  }
  processAck(t, segment, ack, windowChanged, now);
  t.host.wake(t);
  return true;
}

function takeData(t: Tcb, segment: Segment, packet: IpPacket, start: number, now: number): void {
  const { queue } = t;
  let from = start;
  let to = start + segment.dataLength;
  if ((segment.flags & FIN) !== 0 && t.finOffset < 0 && to < t.rcvEdge + 1) t.finOffset = to;
  if (t.readClosed && segment.dataLength > 0 && to > t.rcvNxt) {
    // Nobody will read it, and the peer shall know (RFC 9293 §3.6.1, RFC 2525 §2.17).
    t.resetPending = true;
    return;
  }
  if (to > t.rcvEdge) to = t.rcvEdge;
  if (t.finOffset >= 0 && to > t.finOffset) to = t.finOffset;
  if (from < t.rcvNxt) {
    if (segment.dataLength > 0) noteDuplicate(t, from, Math.min(to, t.rcvNxt));
    from = t.rcvNxt;
  }
  if (from < to && !t.finReceived) {
    const hadGaps = queue.hasGaps;
    const refusal = queue.insert(from, packet.buffer, segment.data + (from - start), to - from);
    if (refusal !== undefined) {
      t.host.drops[refusal]++;
      t.ackNow = true;
      return;
    }
    if (queue.next > t.rcvNxt) {
      t.rcvNxt = queue.next;
      t.events |= EVENT_READABLE;
    } else {
      t.outOfOrder++;
    }
    if (hadGaps || queue.hasGaps) t.ackNow = true;
    if (segment.dataLength > t.rcvMss) t.rcvMss = Math.min(segment.dataLength, t.offeredMss);
    if (segment.hasTimestamps && !hadGaps) measureAsReceiver(t, segment, now);
  }
  if (t.finOffset >= 0 && queue.next === t.finOffset && !t.finReceived) {
    t.finReceived = true;
    t.rcvNxt = t.finOffset + 1;
    t.ackNow = true;
    t.events |= EVENT_READABLE;
  } else if ((segment.flags & FIN) !== 0) {
    t.ackNow = true;
  }
}

/** The round trip a receiver sees: since what the peer echoes was sent. Idle senders only make it look longer, hence the bias. */
function measureAsReceiver(t: Tcb, segment: Segment, now: number): void {
  const sample = (t.timestamp(now) - segment.tsEcho) | 0;
  if (sample < 0 || sample > 10_000) return;
  if (t.rcvRtt === 0 || sample < t.rcvRtt) t.rcvRtt = sample;
  else t.rcvRtt += (sample - t.rcvRtt) / 8;
}

function noteDuplicate(t: Tcb, start: number, end: number): void {
  t.ackNow = true;
  if (!t.sackEnabled || end <= start) return;
  t.dsackStart = start;
  t.dsackEnd = end;
}

/** The state that follows from which FINs were sent, acknowledged and received (RFC 9293 §3.3.2, figure 5). */
function advanceState(t: Tcb, now: number): void {
  const isFinAcked = t.finSent && t.sndUna > t.sendEnd;
  switch (t.state) {
    case 'established':
      if (t.finReceived) t.state = 'close-wait';
      break;
    case 'fin-wait-1':
    case 'fin-wait-2':
    case 'closing':
      if (t.finReceived && isFinAcked) {
        // The last ACK goes out now; TIME_WAIT answers from here on.
        output(t, now);
        t.finish(undefined, true);
        return;
      }
      if (t.finReceived) t.state = 'closing';
      else if (isFinAcked && t.state === 'fin-wait-1') {
        t.state = 'fin-wait-2';
        if (t.readClosed) t.lifeAt = now + t.host.tcpOptions.orphanTimeoutMs;
      }
      break;
    case 'last-ack':
      if (isFinAcked) {
        t.finish(undefined, false);
        return;
      }
      break;
    case 'close-wait':
    case 'closed':
    case 'syn-received':
    case 'syn-sent':
      break;
  }
  updateDeadline(t);
}
