/** Connection requests that wait for an answer. */
import type { Endpoint, IpAddress } from '../address.ts';
import type { FlowEntry } from '../flow-table.ts';
import type { UnreachableReason } from '../icmp.ts';
import type { Timed } from '../timer-heap.ts';
import type { ConnectionHandler, TcpConnection } from './connection.ts';
import type { PeerSyn } from './tcb.ts';

/** How a request is turned down: a reset, an ICMP error, or silence. */
export type Rejection = 'reset' | 'drop' | UnreachableReason;

/** What the layer does for a request. */
export interface IncomingHost {
  accept(incoming: IncomingConnection, handler: ConnectionHandler): TcpConnection;
  reject(incoming: IncomingConnection, reason: Rejection): void;
  onTimer(incoming: IncomingConnection): void;
}

/**
 * A SYN that nothing was answered to yet. The other side waits, and repeats it, until `accept` or `reject`; so a server can
 * first find out whether it reaches the destination itself.
 */
export class IncomingConnection implements FlowEntry, Timed {
  readonly kind = 'incoming';
  readonly local: IpAddress;
  readonly localPort: number;
  readonly remote: IpAddress;
  readonly remotePort: number;
  readonly source: string | number;
  readonly syn: PeerSyn;
  /** The SYN's packet, for an ICMP error to quote; absent until the handler that was called with the request has left it open. */
  quote: Uint8Array | undefined = undefined;
  /** Called when the other side gave up, or time ran out, before an answer. */
  onAbort: (() => void) | undefined = undefined;
  isOpen = true;
  /** Where the connection ended whose TIME_WAIT this request has taken over, as a sequence number. */
  readonly sndNxtBefore: number | undefined;
  flowHash = 0;
  nextInSlot: FlowEntry | undefined = undefined;
  deadline: number = Infinity;
  heapIndex = -1;
  readonly #host: IncomingHost;

  constructor(
    host: IncomingHost,
    local: Endpoint,
    remote: Endpoint,
    source: string | number,
    syn: PeerSyn,
    sndNxtBefore: number | undefined,
  ) {
    this.#host = host;
    this.local = local.address;
    this.localPort = local.port;
    this.remote = remote.address;
    this.remotePort = remote.port;
    this.source = source;
    this.syn = syn;
    this.sndNxtBefore = sndNxtBefore;
  }

  /** Answers with a SYN-ACK; `handler.onConnect` follows when the handshake is complete. */
  accept(handler: ConnectionHandler): TcpConnection {
    return this.#host.accept(this, handler);
  }

  /** Answers with a reset or an ICMP error, or not at all. A request that is no longer open is left alone. */
  reject(reason: Rejection): void {
    this.#host.reject(this, reason);
  }

  onDeadline(): void {
    this.#host.onTimer(this);
  }
}
