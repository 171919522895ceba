/** What a connection does when one of its deadlines comes. */
import { armRetransmit, output, retransmit, sendOneNew, sendProbe, sendSyn, updateDeadline } from './output.ts';
import { detectLosses, enterLoss, enterRecovery } from './recovery.ts';
import type { Tcb } from './tcb.ts';

const MAX_PERSIST_MS = 60_000;

/** Does whatever is due at `now`. */
export function processTimeouts(t: Tcb, now: number): void {
  if (t.state === 'closed') return;
  if (t.lifeAt <= now && isLifeOver(t, now)) return;
  if (t.keepAliveAt <= now && !keepAlive(t, now)) return;
  if (t.delayedAckAt <= now) {
    t.delayedAckAt = Infinity;
    t.ackNow = true;
  }
  if (t.retransmitAt <= now) onRetransmitTimer(t, now);
  if ((t as { readonly state: string }).state === 'closed') return;
  if (!output(t, now)) t.host.wake(t);
  updateDeadline(t);
}

/** Connects that took too long, and closed connections that make no progress, end here. */
function isLifeOver(t: Tcb, now: number): boolean {
  const { orphanTimeoutMs } = t.host.tcpOptions;
  const isOpening = t.state === 'syn-sent' || t.state === 'syn-received';
  if (!isOpening && t.state !== 'fin-wait-2' && t.progressAt + orphanTimeoutMs > now) {
    t.lifeAt = t.progressAt + orphanTimeoutMs;
    return false;
  }
  // A peer that is still there shall know that its connection is gone.
  if (!isOpening && t.state !== 'fin-wait-2') {
    t.resetPending = true;
    output(t, now);
  }
  t.finish('ETIMEDOUT', false);
  return true;
}

/** RFC 9293 §3.8.4; false when the peer is gone. */
function keepAlive(t: Tcb, now: number): boolean {
  const quietUntil = t.lastReceivedAt + t.keepAliveIdle;
  if (quietUntil > now) {
    t.keepAliveSent = 0;
    t.keepAliveAt = quietUntil;
    return true;
  }
  if (t.keepAliveSent >= t.keepAliveProbes) {
    t.finish('ETIMEDOUT', false);
    return false;
  }
  // Unacknowledged data asks by itself.
  if (t.sndNxt === t.sndUna) {
    t.keepAliveSent++;
    sendProbe(t, now);
  }
  t.keepAliveAt = now + t.keepAliveInterval;
  return true;
}

function onRetransmitTimer(t: Tcb, now: number): void {
  const kind = t.retransmitKind;
  t.retransmitKind = 'none';
  t.retransmitAt = Infinity;
  switch (kind) {
    case 'handshake':
      t.rtt.backOff();
      t.retransmitAt = now + t.rtt.rto;
      t.retransmitKind = 'handshake';
      sendSyn(t, now);
      break;
    case 'reorder': {
      detectLosses(t, now);
      if (t.board.lostBytes > 0 && t.recovery === 'open') {
        enterRecovery(t, t.sndNxt - t.sndUna);
        t.cubic.cwnd = Math.max(t.cubic.ssthresh, t.pipe + t.mss);
      }
      break;
    }
    case 'tlp':
      probeTail(t, now);
      break;
    case 'rto':
      onRto(t, now);
      break;
    case 'persist':
      onPersist(t, now);
      break;
    case 'none':
      break;
  }
}

/** RFC 8985 §7.3: something new, or the last segment again, to provoke an acknowledgment. */
function probeTail(t: Tcb, now: number): void {
  if (t.board.count === 0) return;
  t.tlpIsRetransmission = !sendOneNew(t, now);
  // A receiver may acknowledge one new segment late, but not two (RFC 5681 §4.2).
  if (!t.tlpIsRetransmission) sendOneNew(t, now);
  // Beside reports of what arrived, which RFC 8985 does not probe under, the last one that is missing.
  const last = t.board.lastMissing();
  if (t.tlpIsRetransmission && last >= 0) retransmit(t, last, now);
  t.tlpEnd = t.sndNxt;
  t.rtoStart = now;
  armRetransmit(t, now);
}

function onRto(t: Tcb, now: number): void {
  // A window may be shut over what is in flight (RFC 9293 §3.8.6), a lone FIN be sent into one.
  const isOver =
    t.sndWnd === 0 ? isShutTooLong(t, now, t.progressAt) : now - t.progressAt >= t.host.tcpOptions.retransmitTimeoutMs;
  if (isOver) {
    t.finish('ETIMEDOUT', false);
    return;
  }
  enterLoss(t);
  t.rtt.backOff();
  t.rtoStart = now;
}

/** RFC 9293 §3.8.6.1, RFC 1122 §4.2.2.17: probes go on for as long as the peer answers them. */
function isShutTooLong(t: Tcb, now: number, since: number): boolean {
  const { retransmitTimeoutMs, zeroWindowTimeoutMs } = t.host.tcpOptions;
  return now - t.answeredAt >= retransmitTimeoutMs || now - since >= zeroWindowTimeoutMs;
}

function onPersist(t: Tcb, now: number): void {
  if (isShutTooLong(t, now, t.zeroWindowSince)) {
    t.finish('ETIMEDOUT', false);
    return;
  }
  if (!sendOneNew(t, now)) sendProbe(t, now);
  if (t.sndNxt > t.sndUna) return;
  t.persistBackoff = Math.min(t.persistBackoff + 1, 16);
  t.retransmitKind = 'persist';
  t.retransmitAt = now + Math.min(t.rtt.rto * 2 ** t.persistBackoff, MAX_PERSIST_MS);
}
