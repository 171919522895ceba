/** Connection requests until they are answered: how they begin, are repeated, given up, accepted and turned down. */
import type { IpAddress } from '../address.ts';
import type { DropCounters } from '../drops.ts';
import type { FlowTable } from '../flow-table.ts';
import type { UnreachableReason } from '../icmp.ts';
import { type IpPacket, destinationOf, sourceOf } from '../ip.ts';
import { QUOTE_LENGTH } from '../limits.ts';
import type { PacketWriter } from '../output.ts';
import type { TimerHeap } from '../timer-heap.ts';
import type { Admission } from './admission.ts';
import type { ConnectionHandler, TcpConnection } from './connection.ts';
import { IncomingConnection, type IncomingHost, type Rejection } from './incoming.ts';
import type { IncomingHandler } from './listeners.ts';
import { writeControl } from './output.ts';
import { ACK, RST, SYN, type Segment } from './segment.ts';
import type { Tcb } from './tcb.ts';
import type { TimeWait } from './time-wait.ts';

/** What requests need of the stack. */
export interface RequestsHost {
  readonly writer: PacketWriter;
  readonly timers: TimerHeap;
  readonly drops: DropCounters;
  readonly now: number;
  sendUnreachable(about: Uint8Array, local: IpAddress, remote: IpAddress, reason: UnreachableReason): void;
  pending(): void;
}

/** Who makes a connection of a request that has left. */
export interface Acceptor {
  accept(incoming: IncomingConnection, handler: ConnectionHandler): TcpConnection;
}

export class Requests implements IncomingHost {
  readonly #host: RequestsHost;
  readonly #table: FlowTable<Tcb | IncomingConnection | TimeWait>;
  readonly #admission: Admission;
  readonly #timeoutMs: number;
  readonly #acceptor: Acceptor;
  /** The packet of the request whose handler runs. */
  #syn: IpPacket | undefined = undefined;

  constructor(
    host: RequestsHost,
    table: FlowTable<Tcb | IncomingConnection | TimeWait>,
    admission: Admission,
    timeoutMs: number,
    acceptor: Acceptor,
  ) {
    this.#host = host;
    this.#table = table;
    this.#admission = admission;
    this.#timeoutMs = timeoutMs;
    this.#acceptor = acceptor;
  }

  /** A SYN that is admitted. */
  open(
    packet: IpPacket,
    segment: Segment,
    source: string | number,
    handler: IncomingHandler,
    sndNxtBefore: number | undefined,
  ): void {
    const local = { address: destinationOf(packet), port: segment.destinationPort };
    const remote = { address: sourceOf(packet), port: segment.sourcePort };
    const { sequence, window, mss, windowScale, sackPermitted, hasTimestamps, tsValue } = segment;
    const syn = { sequence, window, mss, windowScale, sackPermitted, hasTimestamps, tsValue };
    const incoming = new IncomingConnection(this, local, remote, source, syn, sndNxtBefore);
    this.#admission.add(source);
    this.#syn = packet;
    try {
      handler(incoming);
    } finally {
      this.#syn = undefined;
      // Most are answered at once: only the others have to be found again.
      if (incoming.isOpen) this.#keep(incoming, quoteOf(packet));
    }
  }

  /** Takes a segment for a request; 'restarted' when it is another SYN and the request has made way. */
  receive(incoming: IncomingConnection, segment: Segment): 'restarted' | undefined {
    const { flags } = segment;
    const isRepeat = segment.sequence === incoming.syn.sequence;
    if ((flags & RST) !== 0) {
      // Nothing of ours was sent, so only its own sequence number vouches for a reset (RFC 5961 §3.2).
      if (segment.sequence === ((incoming.syn.sequence + 1) | 0) || isRepeat) this.#abort(incoming);
      else this.#host.drops['tcp-outside-window']++;
      return undefined;
    }
    if ((flags & (SYN | ACK)) === SYN && !isRepeat) {
      // The other side has started over with the same port.
      this.#abort(incoming);
      return 'restarted';
    }
    if ((flags & (SYN | ACK)) !== SYN) this.#host.drops['tcp-unexpected']++;
    return undefined;
  }

  accept(incoming: IncomingConnection, handler: ConnectionHandler): TcpConnection {
    if (!incoming.isOpen) throw new TypeError('accept: the request is no longer open');
    this.#leave(incoming);
    return this.#acceptor.accept(incoming, handler);
  }

  reject(incoming: IncomingConnection, reason: Rejection): void {
    if (!incoming.isOpen) return;
    this.#forget(incoming);
    if (reason === 'drop') return;
    const { writer } = this.#host;
    if (reason === 'reset') writeControl(writer, incoming, 0, (incoming.syn.sequence + 1) | 0, RST | ACK);
    else {
      const quote = incoming.quote ?? (this.#syn && quoteOf(this.#syn));
      if (quote !== undefined) this.#host.sendUnreachable(quote, incoming.local, incoming.remote, reason);
    }
    this.#host.pending();
  }

  onTimer(incoming: IncomingConnection): void {
    this.#abort(incoming);
  }

  #keep(incoming: IncomingConnection, quote: Uint8Array): void {
    incoming.quote = quote;
    incoming.deadline = this.#host.now + this.#timeoutMs;
    this.#table.add(incoming);
    this.#host.timers.update(incoming);
  }

  #abort(incoming: IncomingConnection): void {
    this.#forget(incoming);
    incoming.onAbort?.();
  }

  #forget(incoming: IncomingConnection): void {
    if (!incoming.isOpen) return;
    this.#leave(incoming);
    this.#admission.leaveHalfOpen(incoming.source);
    this.#admission.remove(incoming.source);
  }

  #leave(incoming: IncomingConnection): void {
    incoming.isOpen = false;
    this.#table.delete(incoming);
    this.#host.timers.remove(incoming);
  }
}

function quoteOf(packet: IpPacket): Uint8Array {
  return packet.buffer.slice(packet.start, packet.start + Math.min(packet.length, QUOTE_LENGTH));
}
