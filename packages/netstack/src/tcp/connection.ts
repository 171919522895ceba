/** A TCP connection as its owner sees it. */
import type { Endpoint } from '../address.ts';
import {
  type ConnectionError,
  EVENT_CLOSE,
  EVENT_CONNECT,
  EVENT_READABLE,
  EVENT_WRITABLE,
  type EventListener,
  type Tcb,
  type TcpState,
} from './tcb.ts';

/** Told from within `Stack.flush` and `Stack.tick`, never from within another call. All are optional. */
export interface ConnectionHandler {
  /** The handshake is complete. */
  onConnect?(connection: TcpConnection): void;
  /** There is something to read, or the peer has ended its direction (`hasEnded`). */
  onReadable?(connection: TcpConnection): void;
  /** There is room again after `write` took less than it was given. */
  onWritable?(connection: TcpConnection): void;
  /** The connection is over in both directions; what was received in order can still be read, and until then or `close` it counts. */
  onClose?(connection: TcpConnection, error: ConnectionError | undefined): void;
}

const READ_CHUNK = 65_536;

export class TcpConnection implements EventListener {
  handler: ConnectionHandler;
  readonly #tcb: Tcb;
  #bytesRead = 0;
  #bytesWritten = 0;

  constructor(tcb: Tcb, handler: ConnectionHandler) {
    this.#tcb = tcb;
    this.handler = handler;
    tcb.listener = this;
  }

  get local(): Endpoint {
    return { address: this.#tcb.local, port: this.#tcb.localPort };
  }

  get remote(): Endpoint {
    return { address: this.#tcb.remote, port: this.#tcb.remotePort };
  }

  get state(): TcpState {
    return this.#tcb.state;
  }

  get error(): ConnectionError | undefined {
    return this.#tcb.error;
  }

  /** Bytes that `read` would return now. */
  get readableLength(): number {
    return this.#tcb.queue.readable;
  }

  /** The peer has ended its direction and everything was read. */
  get hasEnded(): boolean {
    return this.#tcb.finReceived && this.#tcb.queue.readable === 0;
  }

  /** Bytes that `write` would take now. */
  get writableLength(): number {
    const t = this.#tcb;
    return t.finQueued || t.state === 'closed' ? 0 : Math.max(0, t.sendLimit - (t.sendEnd - t.sendStart));
  }

  /** Bytes written that the peer has not acknowledged. */
  get pendingLength(): number {
    return this.#tcb.state === 'closed' ? 0 : this.#tcb.sendEnd - this.#tcb.sendStart;
  }

  get bytesRead(): number {
    return this.#bytesRead;
  }

  get bytesWritten(): number {
    return this.#bytesWritten;
  }

  /** Smoothed round-trip time in milliseconds; 0 before the first sample. */
  get rtt(): number {
    return this.#tcb.rtt.srtt;
  }

  /** The congestion window in bytes. */
  get congestionWindow(): number {
    return this.#tcb.cubic.cwnd;
  }

  /** A fresh copy of up to `maxLength` bytes received in order, or undefined when there is none. */
  read(maxLength: number = READ_CHUNK): Uint8Array | undefined {
    const length = Math.min(maxLength, this.#tcb.queue.readable);
    if (length <= 0) return undefined;
    const bytes = new Uint8Array(length);
    this.readInto(bytes);
    return bytes;
  }

  /** Copies received bytes into `target` and returns how many; 0 means none now (see `hasEnded`). */
  readInto(target: Uint8Array, offset = 0, length: number = target.length - offset): number {
    const t = this.#tcb;
    const count = t.queue.read(target, offset, length);
    if (count > 0) {
      this.#bytesRead += count;
      tuneReceiveBuffer(t, count);
      if (t.state !== 'closed') t.host.wake(t);
      else if (t.queue.readable === 0) t.host.release(t);
    }
    return count;
  }

  /** Takes bytes into the send buffer (they are copied) and returns how many; when fewer than given, `onWritable` follows. */
  write(data: Uint8Array, offset = 0, length: number = data.length - offset): number {
    const t = this.#tcb;
    if (t.finQueued) throw new TypeError('write: the connection was ended');
    if (t.state === 'closed') return 0;
    const pending = t.sendEnd - t.sendStart;
    let count = Math.min(length, Math.max(0, t.sendLimit - pending));
    if (count > 0) {
      // With little memory left, less than asked for.
      for (let size = pending + count; size > t.sendRing.capacity && !t.sendRing.ensure(size);) size >>>= 1;
      count = Math.min(count, t.sendRing.capacity - pending);
      // Nothing of its own in flight would bring the next chance.
      if (count === 0 && pending === 0) t.host.starve(t);
    }
    if (count < length) t.wantsWritable = true;
    if (count <= 0) return 0;
    t.sendRing.write(pending, data, offset, count);
    t.sendEnd += count;
    this.#bytesWritten += count;
    t.host.wake(t);
    return count;
  }

  /** Ends our direction once everything written was sent (shutdown(2), SHUT_WR); reading goes on. */
  end(): void {
    const t = this.#tcb;
    if (t.finQueued || t.state === 'closed') return;
    t.finQueued = true;
    t.host.wake(t);
  }

  /**
   * Lets go of the connection as close(2) does: what was written is still delivered, then a FIN, all in the background and with
   * a time limit; a reset only if received data was left unread (RFC 2525 §2.17). The handler hears no more.
   */
  close(): void {
    const t = this.#tcb;
    t.listener = undefined;
    t.readClosed = true;
    if (t.queue.readable > 0 || t.queue.hasGaps) t.resetPending = t.state !== 'closed';
    t.queue.release();
    if (t.state === 'closed') {
      t.host.release(t);
      return;
    }
    if (t.state === 'syn-sent') {
      t.finish(undefined, false);
      return;
    }
    // A FIN before the reset would look like a proper end.
    t.finQueued ||= !t.resetPending && !t.resetQueued;
    leaveOrphan(t);
  }

  /** Ends the connection with a reset and drops what the windows do not let out; the handler hears no more. */
  abort(): void {
    const t = this.#tcb;
    t.listener = undefined;
    t.readClosed = true;
    t.queue.release();
    if (t.state === 'closed') {
      t.host.release(t);
      return;
    }
    t.resetPending = true;
    t.host.wake(t);
  }

  /** As `abort`, once everything written is acknowledged: in the background and with a time limit, like `close`. */
  abortOnceDelivered(): void {
    const t = this.#tcb;
    if (t.state === 'closed' || t.state === 'syn-sent' || t.queue.readable > 0 || t.queue.hasGaps) {
      this.abort();
      return;
    }
    t.listener = undefined;
    t.readClosed = true;
    t.resetQueued = true;
    leaveOrphan(t);
  }

  /** Switches Nagle's algorithm off or on (RFC 9293 §3.7.4). */
  setNoDelay(noDelay: boolean): void {
    this.#tcb.noDelay = noDelay;
    if (noDelay) this.#tcb.host.wake(this.#tcb);
  }

  /** Probes a peer that is silent for `idleMs`, `probes` times `intervalMs` apart (RFC 9293 §3.8.4); 0 switches it off. */
  setKeepAlive(idleMs: number, intervalMs = 15_000, probes = 4): void {
    const t = this.#tcb;
    t.keepAliveIdle = idleMs;
    t.keepAliveInterval = intervalMs;
    t.keepAliveProbes = probes;
    t.keepAliveSent = 0;
    const isRunning = idleMs > 0 && t.state !== 'syn-sent' && t.state !== 'syn-received' && t.state !== 'closed';
    t.keepAliveAt = isRunning ? t.host.now + idleMs : Infinity;
    t.host.wake(t);
  }

  /** For the layer: tells the handler. */
  onEvents(events: number): void {
    const { handler } = this;
    if ((events & EVENT_CONNECT) !== 0) handler.onConnect?.(this);
    if ((events & EVENT_READABLE) !== 0 && this.#isOwned) handler.onReadable?.(this);
    const t = this.#tcb;
    if ((events & EVENT_WRITABLE) !== 0 && t.wantsWritable && this.#isOwned && this.writableLength > 0) {
      t.wantsWritable = false;
      handler.onWritable?.(this);
    }
    if ((events & EVENT_CLOSE) !== 0 && this.#isOwned) handler.onClose?.(this, t.error);
  }

  /** Not closed by the owner from within an earlier callback. */
  get #isOwned(): boolean {
    return this.#tcb.listener !== undefined;
  }
}

/** From here on nobody but the stack looks after the connection. */
function leaveOrphan(t: Tcb): void {
  const { now, tcpOptions } = t.host;
  t.progressAt = now;
  t.keepAliveAt = Infinity;
  t.lifeAt = Math.min(t.lifeAt, now + tcpOptions.orphanTimeoutMs);
  t.host.wake(t);
}

/** Lets the window grow to twice what is read within a round trip, so that it never is what limits the sender. */
function tuneReceiveBuffer(t: Tcb, count: number): void {
  t.tuneBytes += count;
  const { now, tcpOptions } = t.host;
  if (now - t.tuneAt < Math.max(t.rcvRtt, 1)) return;
  const wanted = Math.min(2 * t.tuneBytes, tcpOptions.maxReceiveBuffer, t.largestWindow);
  if (wanted > t.rcvLimit && !t.pool.isUnderPressure) t.rcvLimit = wanted;
  t.tuneBytes = 0;
  t.tuneAt = now;
}
