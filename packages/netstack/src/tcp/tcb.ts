/**
 * The transmission control block: all state of one connection (RFC 9293 §3.3.1). Data only; input.ts, recovery.ts, output.ts
 * and timeouts.ts act on it. Positions in both streams are offsets from the initial sequence number: the SYN is 0, the
 * first byte 1. They are plain numbers that never wrap; only the wire knows 32-bit sequence numbers.
 */
import type { IpAddress } from '../address.ts';
import { type BufferSource, ByteRing } from '../byte-ring.ts';
import type { DropCounters } from '../drops.ts';
import type { FlowEntry } from '../flow-table.ts';
import { type UnreachableReason, addressSum } from '../icmp.ts';
import { PROTOCOL_TCP, ipHeaderLength } from '../ip.ts';
import type { PacketWriter } from '../output.ts';
import type { Timed } from '../timer-heap.ts';
import { Cubic } from './cubic.ts';
import { ReceiveQueue } from './receive-queue.ts';
import { RttEstimator } from './rtt.ts';
import { Scoreboard } from './scoreboard.ts';
import { TCP_HEADER_LENGTH, TIMESTAMPS_LENGTH } from './segment.ts';
import { Times } from './times.ts';

export type TcpState =
  | 'syn-sent'
  | 'syn-received'
  | 'established'
  | 'fin-wait-1'
  | 'fin-wait-2'
  | 'close-wait'
  | 'closing'
  | 'last-ack'
  | 'closed';

/** Why a connection ended before its time, in the words of errno. */
export type ConnectionError =
  | 'ECONNREFUSED'
  | 'ECONNRESET'
  | 'ETIMEDOUT'
  | 'EHOSTUNREACH'
  | 'ENETUNREACH'
  | 'EACCES'
  | 'ENOBUFS';

/** What an ICMP error comes to for a connection, and for a connected UDP socket. */
export const UNREACHABLE_ERRORS: Readonly<Record<UnreachableReason, ConnectionError>> = {
  'network-unreachable': 'ENETUNREACH',
  'host-unreachable': 'EHOSTUNREACH',
  'port-unreachable': 'ECONNREFUSED',
  'protocol-unreachable': 'ECONNREFUSED',
  prohibited: 'EACCES',
};

/** Times in milliseconds, sizes in bytes. */
export interface TcpOptions {
  /** How long a connect, or a half-open connection from outside, may take. */
  readonly connectTimeoutMs: number;
  /** How long a caller of a transparent listener may take to accept. */
  readonly acceptTimeoutMs: number;
  /** Without any acknowledgment for so long, sent data counts as undeliverable (RFC 1122 §4.2.3.5, R2). */
  readonly retransmitTimeoutMs: number;
  /** How long a closed connection may go on without progress, in any state. */
  readonly orphanTimeoutMs: number;
  /** How long a peer may keep its window shut; RFC 6429 leaves this to the owner. 30 minutes for any destination, else no limit. */
  readonly zeroWindowTimeoutMs: number;
  /** Twice the maximum segment lifetime, as practised. */
  readonly timeWaitMs: number;
  readonly delayedAckMs: number;
  /** Where receive windows start and how far they grow by themselves. */
  readonly receiveBuffer: number;
  readonly maxReceiveBuffer: number;
  /** Where send buffers start and how far they grow with the congestion window. */
  readonly sendBuffer: number;
  readonly maxSendBuffer: number;
}

export const DEFAULT_TCP_OPTIONS: TcpOptions = {
  connectTimeoutMs: 75_000,
  acceptTimeoutMs: 75_000,
  retransmitTimeoutMs: 180_000,
  orphanTimeoutMs: 60_000,
  zeroWindowTimeoutMs: Infinity,
  timeWaitMs: 60_000,
  delayedAckMs: 40,
  receiveBuffer: 256 << 10,
  maxReceiveBuffer: 8 << 20,
  sendBuffer: 256 << 10,
  maxSendBuffer: 8 << 20,
};

/** What a connection needs of the stack around it. */
export interface TcpHost {
  readonly writer: PacketWriter;
  readonly tcpOptions: TcpOptions;
  readonly drops: DropCounters;
  readonly retransmissions: { segments: number };
  /** The time of the latest call into the stack. */
  readonly now: number;
  /** The connection has something to send or to tell. */
  wake(tcb: Tcb): void;
  /** There was no memory for what the owner wanted to write: it is told once there is. */
  starve(tcb: Tcb): void;
  updateTimer(tcb: Tcb): void;
  onTimer(tcb: Tcb, now: number): void;
  /** The handshake of a connection from outside is complete. */
  leaveHalfOpen(tcb: Tcb): void;
  /** The connection is closed: out of the tables, into TIME_WAIT if asked (RFC 9293 §3.6). */
  retire(tcb: Tcb, timeWait: boolean): void;
  /** A closed connection holds nothing unread any more, and counts for no limit. */
  release(tcb: Tcb): void;
}

/** Who passes events on to the owner. */
export interface EventListener {
  onEvents(events: number): void;
}

/** What happened since the owner was last told. */
export const EVENT_CONNECT = 1;
export const EVENT_READABLE = 2;
export const EVENT_WRITABLE = 4;
export const EVENT_CLOSE = 8;

export type RetransmitKind = 'none' | 'handshake' | 'rto' | 'tlp' | 'reorder' | 'persist';

/** What the other side's SYN said. */
export interface PeerSyn {
  readonly sequence: number;
  readonly window: number;
  /** 0 when absent. */
  readonly mss: number;
  /** -1 when absent. */
  readonly windowScale: number;
  readonly sackPermitted: boolean;
  readonly hasTimestamps: boolean;
  readonly tsValue: number;
}

/** RFC 9293 §3.7.1: what to assume without an MSS option. */
const DEFAULT_MSS_V4 = 536;
const DEFAULT_MSS_V6 = 1220;
/** Peers that ask for less would make every byte cost a packet. */
const MINIMUM_MSS = 64;

export class Tcb extends Times implements FlowEntry, Timed {
  readonly kind = 'connection';
  readonly host: TcpHost;
  /** Where the buffers of both directions come from. */
  readonly pool: BufferSource;
  readonly local: IpAddress;
  readonly localPort: number;
  readonly remote: IpAddress;
  readonly remotePort: number;
  readonly ipHeaderLength: number;
  readonly pseudoSum: number;
  flowHash = 0;
  nextInSlot: FlowEntry | undefined = undefined;
  /** The source that this connection counts for, when others opened it. */
  source: string | number | undefined = undefined;
  isHalfOpen = false;
  /** It takes a place within the limits. */
  isCounted = true;

  state: TcpState;
  error: ConnectionError | undefined = undefined;
  events = 0;
  /** On the host's list of connections to look at. */
  isAwake = false;
  nextAwake: Tcb | undefined = undefined;
  /** Told of the events that happened; gone once the owner has closed. */
  listener: EventListener | undefined = undefined;

  // Send sequence space (RFC 9293 §3.3.1).
  readonly iss: number;
  sndUna = 0;
  sndNxt = 0;
  sndWnd = 0;
  sndWl1 = 0;
  sndWl2 = 0;
  maxSndWnd = 0;
  sndScale = 0;
  readonly sendRing: ByteRing;
  /** Offsets of the first byte kept and of the end of what was written. */
  sendStart = 1;
  sendEnd = 1;
  finQueued = false;
  finSent = false;
  noDelay = false;
  /** A write was cut short: tell when there is room. */
  wantsWritable = false;
  resetPending = false;
  /** A reset is due once everything written is acknowledged. */
  resetQueued = false;

  // Receive sequence space.
  irs = 0;
  rcvNxt = 0;
  /** Right edge of the window we advertised; never moves left. */
  rcvEdge = 0;
  rcvScale = 0;
  rcvLimit: number;
  rcvMss: number = DEFAULT_MSS_V4;
  readonly queue: ReceiveQueue;
  /** Offset of the peer's FIN once seen, or -1. */
  finOffset = -1;
  finReceived = false;
  /** The owner will not read any more. */
  readClosed = false;
  lastAckSent = 0;
  ackNow = false;
  quickAcks = 16;
  /** Segments beyond a gap that no acknowledgment stands for yet. */
  outOfOrder = 0;
  dsackStart = 0;
  dsackEnd = 0;
  /** Bytes read since `tuneAt`. */
  tuneBytes = 0;

  mss: number;
  peerMss: number;
  pathMtu: number;
  readonly flowLabel: number;
  sackEnabled = false;
  tsEnabled = false;
  tsRecent = 0;
  readonly tsOffset: number;

  // Loss recovery (RFC 8985, 6675, 6937) and congestion control.
  readonly rtt: RttEstimator = new RttEstimator();
  readonly cubic: Cubic;
  readonly board: Scoreboard = new Scoreboard();
  recovery: 'open' | 'recovery' | 'loss' = 'open';
  recoveryPoint = 0;
  prrDelivered = 0;
  prrOut = 0;
  prrFlight = 0;
  duplicateAcks = 0;
  /** RFC 8985 §6.2 step 4: RACK.reo_wnd_mult, RACK.reo_wnd_persist, and the end of RACK.dsack_round or 0. */
  reorderMultiplier = 1;
  reorderPersist = 0;
  dsackRound = 0;
  tlpEnd = 0;
  tlpIsRetransmission = false;
  /** When set, an echo older than this proves the recovery spurious (RFC 3522). */
  undoArmed = false;
  undoStamp = 0;
  /** Judged when sending, used when acknowledgments come. */
  cwndLimited = false;

  // Deadlines.
  retransmitKind: RetransmitKind = 'none';
  persistBackoff = 0;
  keepAliveIdle = 0;
  keepAliveInterval = 0;
  keepAliveProbes = 0;
  keepAliveSent = 0;
  challenges = 0;

  // Timed.
  heapIndex = -1;

  constructor(
    host: TcpHost,
    local: IpAddress,
    localPort: number,
    remote: IpAddress,
    remotePort: number,
    iss: number,
    hash: number,
    pathMtu: number,
    state: 'syn-sent' | 'syn-received',
    pool: BufferSource,
  ) {
    super();
    this.host = host;
    this.pool = pool;
    this.local = local;
    this.localPort = localPort;
    this.remote = remote;
    this.remotePort = remotePort;
    this.iss = iss;
    this.tsOffset = hash;
    this.flowLabel = hash & 0xfffff;
    this.state = state;
    this.ipHeaderLength = ipHeaderLength(local.family);
    this.pseudoSum = addressSum(local, remote, PROTOCOL_TCP) % 65_535;
    this.pathMtu = pathMtu;
    this.peerMss = local.family === 4 ? DEFAULT_MSS_V4 : DEFAULT_MSS_V6;
    this.mss = Math.min(this.peerMss, this.offeredMss);
    this.cubic = new Cubic(this.mss);
    this.rcvLimit = host.tcpOptions.receiveBuffer;
    while (this.rcvScale < 14 && 65_535 << this.rcvScale < host.tcpOptions.maxReceiveBuffer) this.rcvScale++;
    this.sendRing = new ByteRing(pool);
    this.queue = new ReceiveQueue(pool);
    this.board.reset(1);
    this.lastReceivedAt = host.now;
    this.progressAt = host.now;
  }

  onDeadline(now: number): void {
    this.host.onTimer(this, now);
  }

  /** The MSS that our own SYN announces (RFC 9293 §3.7.1, RFC 6691: options not deducted). */
  get offeredMss(): number {
    return this.pathMtu - this.ipHeaderLength - TCP_HEADER_LENGTH;
  }

  /** What options and data of a segment may take together (RFC 6691 §2). */
  get segmentRoom(): number {
    return Math.min(this.peerMss, this.offeredMss);
  }

  /** How many bytes the owner may have waiting in the send buffer. */
  get sendLimit(): number {
    const { sendBuffer, maxSendBuffer } = this.host.tcpOptions;
    if (this.pool.isUnderPressure) return Math.min(sendBuffer, 64 << 10);
    return Math.min(Math.max(sendBuffer, 2 * Math.floor(this.cubic.cwnd)), maxSendBuffer);
  }

  /** What the window field can say (RFC 7323 §2.2). */
  get largestWindow(): number {
    return 65_535 * 2 ** this.rcvScale;
  }

  /** Bytes in flight by the best of our knowledge (RFC 6675 §4). */
  get pipe(): number {
    const inFlight = this.sndNxt - this.sndUna - this.board.sackedBytes - this.board.lostBytes;
    return this.sackEnabled ? inFlight : Math.max(0, inFlight - this.duplicateAcks * this.mss);
  }

  /** Our timestamp clock: milliseconds, offset by a secret (RFC 7323 §5.4). */
  timestamp(now: number): number {
    return (Math.floor(now) + this.tsOffset) | 0;
  }

  /** Takes over what the peer's SYN said (RFC 7323 §2.3, §3.2; RFC 2018 §2). */
  adopt(syn: PeerSyn): void {
    this.irs = syn.sequence;
    this.rcvNxt = 1;
    this.lastAckSent = 1;
    // A SYN of ours has promised a window already.
    this.rcvEdge = this.rcvEdge === 0 ? 1 : this.rcvEdge + 1;
    this.sackEnabled = syn.sackPermitted;
    this.tsEnabled = syn.hasTimestamps;
    this.tsRecent = syn.tsValue;
    this.tsRecentAt = this.host.now;
    if (syn.windowScale >= 0) this.sndScale = syn.windowScale;
    else this.rcvScale = 0;
    this.rcvLimit = Math.min(this.rcvLimit, this.largestWindow);
    this.sndWnd = syn.window;
    this.maxSndWnd = syn.window;
    if (syn.mss > 0) this.peerMss = Math.max(syn.mss, MINIMUM_MSS);
    this.updateMss();
  }

  /** Call when the peer's MSS, the options in use or the path MTU changed. */
  updateMss(): void {
    const room = this.segmentRoom - (this.tsEnabled ? TIMESTAMPS_LENGTH : 0);
    const mss = Math.max(room, MINIMUM_MSS - TIMESTAMPS_LENGTH);
    const isFresh = this.sndNxt <= 1;
    if (mss < this.mss) this.board.resegment(mss);
    this.mss = mss;
    this.rcvMss = Math.min(this.rcvMss, mss);
    this.cubic.setMss(mss);
    if (isFresh) this.cubic.cwnd = 10 * mss;
  }

  /**
   * Ends the connection and tells the owner. What was received in order can still be read, also after a reset, as with Linux
   * (RFC 9293 §3.10.7.4 would flush it): its sender may have had every right to think it delivered.
   */
  finish(error: ConnectionError | undefined, timeWait: boolean): void {
    if (this.state === 'closed') return;
    this.state = 'closed';
    this.error = error;
    this.deadline = Infinity;
    this.sendRing.release();
    if (this.readClosed) this.queue.release();
    else this.queue.forgetEarly();
    this.events |= EVENT_CLOSE;
    this.host.retire(this, timeWait);
    if (this.queue.readable === 0) this.host.release(this);
    this.host.wake(this);
  }
}
