/** All TCP connections of a stack: who a segment is for, who may open connections, and who has something to send. */
import { type Endpoint, FIRST_EPHEMERAL_PORT, type IpAddress } from '../address.ts';
import { type BufferPool, BufferShares, type BufferSource } from '../byte-ring.ts';
import type { DropCounters } from '../drops.ts';
import { type FlowKey, FlowTable } from '../flow-table.ts';
import type { UnreachableReason } from '../icmp.ts';
import { type IpPacket, destinationOf, sourceOf } from '../ip.ts';
import type { StackLimits } from '../limits.ts';
import type { PacketWriter } from '../output.ts';
import type { SipHash } from '../siphash.ts';
import type { TimerHeap } from '../timer-heap.ts';
import { Admission } from './admission.ts';
import { type ConnectionHandler, TcpConnection } from './connection.ts';
import type { IncomingConnection } from './incoming.ts';
import { processSegment } from './input.ts';
import { type IncomingHandler, Listeners, type TcpListener } from './listeners.ts';
import { output, writeControl } from './output.ts';
import { type Acceptor, Requests } from './requests.ts';
import { ACK, FIN, RST, SYN, Segment, parseSegment } from './segment.ts';
import { EVENT_WRITABLE, Tcb, type TcpHost, type TcpOptions, UNREACHABLE_ERRORS } from './tcb.ts';
import { type TimeWait, TimeWaits } from './time-wait.ts';
import { processTimeouts } from './timeouts.ts';

/** What TCP needs of the stack. */
export interface TcpLayerHost {
  readonly writer: PacketWriter;
  readonly pool: BufferPool;
  readonly timers: TimerHeap;
  readonly drops: DropCounters;
  readonly limits: StackLimits;
  readonly hash: SipHash;
  readonly now: number;
  random32(): number;
  sourceKey(address: IpAddress): string | number;
  pathMtu(destination: IpAddress): number;
  isLocal(packet: IpPacket): boolean;
  sendUnreachable(about: Uint8Array, local: IpAddress, remote: IpAddress, reason: UnreachableReason): void;
  pending(): void;
}

type Entry = Tcb | IncomingConnection | TimeWait;

/** Beyond any segment of the connection before that may still be under way. */
const REOPEN_GAP = 65_537;
/** Connections told of free memory in one flush. */
const FED_AT_ONCE = 64;

export class TcpLayer implements TcpHost, Acceptor {
  readonly writer: PacketWriter;
  readonly tcpOptions: TcpOptions;
  readonly drops: DropCounters;
  readonly retransmissions: { segments: number } = { segments: 0 };
  /** Takes requests for which there is no listener: the transparent mode. */
  onIncoming: IncomingHandler | undefined = undefined;
  readonly #host: TcpLayerHost;
  readonly #table: FlowTable<Entry>;
  readonly #listeners = new Listeners();
  readonly #timeWaits: TimeWaits;
  readonly #admission: Admission;
  readonly #requests: Requests;
  /** Absent when every source may have all. */
  readonly #shares: BufferShares | undefined;
  readonly #segment = new Segment();
  readonly #words = new Int32Array(9);
  readonly #hashed = new Int32Array(2);
  /** Those whose writes found no memory, by where they get it from. */
  readonly #starved = new Map<BufferSource, Set<Tcb>>();
  /** Those with something to send or to tell, first come first served. */
  #firstAwake: Tcb | undefined;
  #lastAwake: Tcb | undefined;
  #isFlushing = false;

  constructor(host: TcpLayerHost, options: TcpOptions) {
    this.#host = host;
    this.writer = host.writer;
    this.drops = host.drops;
    this.tcpOptions = options;
    this.#table = new FlowTable(host.random32());
    this.#timeWaits = new TimeWaits(this, this.#table, host.limits.maxTimeWait, options.timeWaitMs);
    this.#admission = new Admission(host.limits);
    this.#requests = new Requests(host, this.#table, this.#admission, options.acceptTimeoutMs, this);
    const { maxBufferBytes, maxBufferBytesPerSource } = host.limits;
    if (maxBufferBytesPerSource < maxBufferBytes) this.#shares = new BufferShares(host.pool, maxBufferBytesPerSource);
  }

  get now(): number {
    return this.#host.now;
  }

  /** Connections in every state but TIME_WAIT, with requests without an answer and closed ones with something left to read. */
  get connections(): number {
    return this.#admission.connections;
  }

  get halfOpen(): number {
    return this.#admission.halfOpen;
  }

  get timeWaits(): number {
    return this.#timeWaits.size;
  }

  get sources(): number {
    return this.#admission.sources;
  }

  /** When the oldest TIME_WAIT ends; connections have their deadlines in the heap. */
  nextDeadline(): number {
    return this.#timeWaits.nextDeadline();
  }

  listen(port: number, address: IpAddress | undefined, handler: IncomingHandler): TcpListener {
    return this.#listeners.add(port, address, handler);
  }

  /** Opens a connection; its SYN goes out with the next flush. Throws RangeError when limits or ports are exhausted. */
  connect(local: IpAddress, localPort: number, remote: Endpoint, handler: ConnectionHandler): TcpConnection {
    if (this.#admission.isFull) throw new RangeError('connect: too many connections');
    const port = localPort === 0 ? this.#freePort(local, remote) : localPort;
    const flow = { local, localPort: port, remote: remote.address, remotePort: remote.port };
    const held = port === 0 ? undefined : this.#table.findKey(flow);
    if (port === 0 || (held !== undefined && !this.#isReusable(held))) {
      throw new RangeError('localPort: no free port for this destination');
    }
    const before = held?.kind === 'time-wait' ? held : undefined;
    if (before !== undefined) this.#timeWaits.delete(before);
    const tcb = this.#createTcb(flow, 'syn-sent', this.#host.pool, before?.sndNxt);
    this.#table.add(tcb);
    this.#admission.addOutgoing();
    tcb.lifeAt = this.now + this.tcpOptions.connectTimeoutMs;
    const connection = new TcpConnection(tcb, handler);
    this.wake(tcb);
    return connection;
  }

  /** Takes the payload of `packet`. */
  receive(packet: IpPacket, now: number): void {
    const segment = this.#segment;
    const fault = parseSegment(segment, packet);
    if (fault !== undefined) {
      this.drops[fault]++;
      return;
    }
    const entry = this.#table.find(
      packet.d0,
      packet.d1,
      packet.d2,
      packet.d3,
      segment.destinationPort,
      packet.s0,
      packet.s1,
      packet.s2,
      packet.s3,
      segment.sourcePort,
    );
    if (entry === undefined) this.#receiveUnmatched(packet, segment);
    else if (entry.kind === 'connection') {
      if (processSegment(entry, segment, packet, now) === 'reset') this.#reset(packet, segment);
    } else if (entry.kind === 'incoming') {
      if (this.#requests.receive(entry, segment) === 'restarted') this.#receiveUnmatched(packet, segment);
    } else if (this.#timeWaits.receive(entry, segment, now) === 'reopened') {
      this.#receiveUnmatched(packet, segment, entry.sndNxt);
    }
  }

  /** Tells owners what happened and sends what is due; false when the sink filled up and something is left. */
  flush(now: number): boolean {
    this.#isFlushing = true;
    this.#feed();
    let fits = true;
    try {
      while (this.#firstAwake !== undefined && fits) {
        const tcb = this.#firstAwake;
        this.#firstAwake = tcb.nextAwake;
        tcb.nextAwake = undefined;
        tcb.isAwake = false;
        const { events } = tcb;
        tcb.events = 0;
        // An owner's callback may throw; the others keep their turn.
        if (events !== 0) tcb.listener?.onEvents(events);
        fits = output(tcb, now);
        if (!fits) this.wake(tcb);
      }
    } finally {
      this.#isFlushing = false;
    }
    return fits;
  }

  /** Ends the TIME_WAITs that are over. */
  expire(now: number): void {
    this.#timeWaits.expire(now);
  }

  /** An ICMP error quotes a segment of the flow with this sequence number (RFC 5927 §4: it must be in flight). */
  onUnreachable(tcb: Tcb, reason: UnreachableReason): void {
    // RFC 5461 §4.1: while connecting an error is final, later it is a hint that timeouts take care of.
    if (tcb.state === 'syn-sent') tcb.finish(UNREACHABLE_ERRORS[reason], false);
  }

  /** The connection that a quoted segment belongs to, if its sequence number is one in flight. */
  findQuoted(
    local: IpAddress,
    localPort: number,
    remote: IpAddress,
    remotePort: number,
    sequence: number,
  ): Tcb | undefined {
    const entry = this.#table.findKey({ local, localPort, remote, remotePort });
    if (entry?.kind !== 'connection') return undefined;
    const offset = entry.sndUna + ((sequence - (entry.iss + entry.sndUna)) | 0);
    return offset >= entry.sndUna && offset < Math.max(entry.sndNxt, 1) ? entry : undefined;
  }

  /** The path to `remote` takes less than it did: what is in flight is cut up and sent again (RFC 1191 §6.4). */
  onPathMtu(tcb: Tcb, mtu: number): void {
    if (mtu >= tcb.pathMtu) return;
    tcb.pathMtu = mtu;
    const before = tcb.mss;
    tcb.updateMss();
    if (tcb.mss >= before || tcb.state === 'syn-sent' || tcb.state === 'syn-received') return;
    tcb.board.markAllLost();
    this.wake(tcb);
  }

  // What connections call.

  wake(tcb: Tcb): void {
    if (tcb.isAwake) return;
    tcb.isAwake = true;
    const isFirst = this.#firstAwake === undefined;
    if (isFirst) this.#firstAwake = tcb;
    else this.#lastAwake!.nextAwake = tcb;
    this.#lastAwake = tcb;
    if (isFirst && !this.#isFlushing) this.#host.pending();
  }

  starve(tcb: Tcb): void {
    const others = this.#starved.get(tcb.pool);
    if (others === undefined) this.#starved.set(tcb.pool, new Set([tcb]));
    else others.add(tcb);
  }

  updateTimer(tcb: Tcb): void {
    this.#host.timers.update(tcb);
  }

  onTimer(tcb: Tcb, now: number): void {
    processTimeouts(tcb, now);
  }

  retire(tcb: Tcb, timeWait: boolean): void {
    this.#host.timers.remove(tcb);
    this.#table.delete(tcb);
    this.#starved.get(tcb.pool)?.delete(tcb);
    if (tcb.isHalfOpen) this.leaveHalfOpen(tcb);
    if (timeWait) this.#timeWaits.add(tcb, this.now);
  }

  release(tcb: Tcb): void {
    if (!tcb.isCounted) return;
    tcb.isCounted = false;
    if (tcb.source === undefined) this.#admission.removeOutgoing();
    else {
      this.#admission.remove(tcb.source);
      this.#shares?.of(tcb.source).leave();
    }
  }

  leaveHalfOpen(tcb: Tcb): void {
    tcb.isHalfOpen = false;
    if (tcb.source !== undefined) this.#admission.leaveHalfOpen(tcb.source);
  }

  /** Makes a connection of a request. */
  accept(incoming: IncomingConnection, handler: ConnectionHandler): TcpConnection {
    const share = this.#shares?.of(incoming.source).join();
    const tcb = this.#createTcb(incoming, 'syn-received', share ?? this.#host.pool, incoming.sndNxtBefore);
    tcb.adopt(incoming.syn);
    tcb.source = incoming.source;
    tcb.isHalfOpen = true;
    tcb.lifeAt = this.now + this.tcpOptions.connectTimeoutMs;
    this.#table.add(tcb);
    const connection = new TcpConnection(tcb, handler);
    this.wake(tcb);
    return connection;
  }

  /** Tells those whose writes found no memory that there is some, a few at a time. */
  #feed(): void {
    if (this.#starved.size === 0) return;
    for (const [pool, hungry] of this.#starved) {
      let left = pool.hasRoom ? FED_AT_ONCE : 0;
      for (const tcb of hungry) {
        if (left-- <= 0) break;
        hungry.delete(tcb);
        tcb.events |= EVENT_WRITABLE;
        this.wake(tcb);
      }
      if (hungry.size === 0) this.#starved.delete(pool);
    }
  }

  /** `sndNxtBefore` is where the flow's connection before this one ended, if that is still in TIME_WAIT. */
  #createTcb(
    { local, localPort, remote, remotePort }: FlowKey,
    state: 'syn-sent' | 'syn-received',
    pool: BufferSource,
    sndNxtBefore: number | undefined,
  ): Tcb {
    // RFC 6528 §3: a clock of 4 us steps plus a keyed hash of the four-tuple.
    const words = this.#words;
    words.set([local.a, local.b, local.c, local.d, remote.a, remote.b, remote.c, remote.d]);
    words[8] = (localPort << 16) | remotePort;
    this.#host.hash.hash(words, this.#hashed);
    let iss = (this.#hashed[0]! + ((this.now * 250) % 0x100000000)) | 0;
    // RFC 9293 §3.6.1: larger than what the connection before has used, also where it was faster than that clock.
    if (sndNxtBefore !== undefined && ((iss - sndNxtBefore) | 0) <= 0) iss = (sndNxtBefore + REOPEN_GAP) | 0;
    const mtu = this.#host.pathMtu(remote);
    return new Tcb(this, local, localPort, remote, remotePort, iss, this.#hashed[1]!, mtu, state, pool);
  }

  /** RFC 6056 §3.3.1: from a random port on. */
  #freePort(local: IpAddress, remote: Endpoint): number {
    const span = 65_536 - FIRST_EPHEMERAL_PORT;
    const first = (this.#host.random32() >>> 0) % span;
    for (let i = 0; i < span; i++) {
      const localPort = FIRST_EPHEMERAL_PORT + ((first + i) % span);
      const held = this.#table.findKey({ local, localPort, remote: remote.address, remotePort: remote.port });
      if (held === undefined || this.#isReusable(held)) return localPort;
    }
    return 0;
  }

  #isReusable(entry: Entry): boolean {
    return entry.kind === 'time-wait' && this.#timeWaits.isReusable(entry, this.now);
  }

  #receiveUnmatched(packet: IpPacket, segment: Segment, sndNxtBefore?: number): void {
    const { flags } = segment;
    if ((flags & RST) !== 0) {
      this.drops['no-listener']++;
      return;
    }
    if ((flags & (SYN | ACK | FIN)) === SYN) {
      const handler = this.#handlerFor(packet, segment.destinationPort);
      if (handler !== undefined) {
        const source = this.#host.sourceKey(sourceOf(packet));
        const hasRoom = this.#shares?.hasRoomFor(source) ?? true;
        const refusal = hasRoom ? this.#admission.refusal(source) : 'limit-memory';
        if (refusal === undefined) this.#requests.open(packet, segment, source, handler, sndNxtBefore);
        else this.drops[refusal]++;
        return;
      }
    }
    this.drops['no-listener']++;
    // In transparent mode the flow may be one from before a restart: a reset is right there too.
    if (this.onIncoming !== undefined || this.#host.isLocal(packet)) this.#reset(packet, segment);
  }

  #handlerFor(packet: IpPacket, port: number): IncomingHandler | undefined {
    const found = this.#host.isLocal(packet) ? this.#listeners.find(packet, port) : undefined;
    return found ?? this.onIncoming;
  }

  /** RFC 9293 §3.10.7.1. */
  #reset(packet: IpPacket, segment: Segment): void {
    const flow = {
      local: destinationOf(packet),
      localPort: segment.destinationPort,
      remote: sourceOf(packet),
      remotePort: segment.sourcePort,
    };
    if ((segment.flags & ACK) !== 0) writeControl(this.writer, flow, segment.acknowledgment, 0, RST);
    else writeControl(this.writer, flow, 0, (segment.sequence + segment.span) | 0, RST | ACK);
  }
}
