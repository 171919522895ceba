/** Connections in TIME_WAIT: late segments are answered, and the ports may be taken again in time (RFC 9293 §3.6.1, RFC 6191). */
import type { IpAddress } from '../address.ts';
import type { DropCounters } from '../drops.ts';
import type { FlowEntry, FlowTable } from '../flow-table.ts';
import type { PacketWriter } from '../output.ts';
import type { IncomingConnection } from './incoming.ts';
import { writeControl } from './output.ts';
import { ACK, FIN, RST, SYN, type Segment } from './segment.ts';
import type { Tcb } from './tcb.ts';

/** RFC 6191 §2: with timestamps a second is enough for the old connection's segments to be told apart. */
const REUSE_MS = 1000;

export interface TimeWaitHost {
  readonly writer: PacketWriter;
  readonly drops: DropCounters;
}

/** The entries, in the order in which they end. */
export class TimeWaits {
  readonly #host: TimeWaitHost;
  readonly #table: FlowTable<Tcb | IncomingConnection | TimeWait>;
  readonly #limit: number;
  readonly #durationMs: number;
  readonly #entries = new Set<TimeWait>();

  /** Entries are filed in `table` too; beyond `limit` the oldest give way. */
  constructor(
    host: TimeWaitHost,
    table: FlowTable<Tcb | IncomingConnection | TimeWait>,
    limit: number,
    durationMs: number,
  ) {
    this.#host = host;
    this.#table = table;
    this.#limit = limit;
    this.#durationMs = durationMs;
  }

  get size(): number {
    return this.#entries.size;
  }

  /** When the oldest ends. */
  nextDeadline(): number {
    for (const entry of this.#entries) return entry.until;
    return Infinity;
  }

  add(tcb: Tcb, now: number): void {
    if (this.#entries.size >= this.#limit) {
      for (const oldest of this.#entries) {
        this.delete(oldest);
        break;
      }
    }
    const entry = new TimeWait(tcb, now, now + this.#durationMs);
    this.#table.add(entry);
    this.#entries.add(entry);
  }

  delete(entry: TimeWait): void {
    this.#entries.delete(entry);
    this.#table.delete(entry);
  }

  /** Ends those that are over. */
  expire(now: number): void {
    for (const entry of this.#entries) {
      if (entry.until > now) break;
      this.delete(entry);
    }
  }

  /** Whether a connection of ours may take over the four-tuple. */
  isReusable(entry: TimeWait, now: number): boolean {
    return entry.tsEnabled && now - entry.since >= REUSE_MS;
  }

  /** Takes a segment; 'reopened' when it is a new connection's SYN and the entry has made way. */
  receive(entry: TimeWait, segment: Segment, now: number): 'reopened' | undefined {
    const { flags } = segment;
    // RFC 1337 §3: a reset does not end TIME_WAIT.
    if ((flags & RST) !== 0) {
      this.#host.drops['tcp-outside-window']++;
      return undefined;
    }
    const isNewer = ((segment.sequence - entry.rcvNxt) | 0) > 0;
    if ((flags & (SYN | ACK | FIN)) === SYN) {
      // RFC 6191 §2, RFC 9293 §3.6.1.
      const hasNewTimestamp = entry.tsEnabled && segment.hasTimestamps && ((segment.tsValue - entry.tsRecent) | 0) > 0;
      if (isNewer || hasNewTimestamp) {
        this.delete(entry);
        return 'reopened';
      }
    }
    if (segment.span === 0) {
      this.#host.drops['tcp-outside-window']++;
      return undefined;
    }
    if ((flags & FIN) !== 0) {
      entry.until = now + this.#durationMs;
      this.#entries.delete(entry);
      this.#entries.add(entry);
    }
    const timestamps = entry.tsEnabled
      ? { value: (Math.floor(now) + entry.tsOffset) | 0, echo: entry.tsRecent }
      : undefined;
    writeControl(this.#host.writer, entry, entry.sndNxt, entry.rcvNxt, ACK, timestamps);
    return undefined;
  }
}

/** One connection: no more than what is needed to answer a late segment. */
export class TimeWait implements FlowEntry {
  readonly kind = 'time-wait';
  readonly local: IpAddress;
  readonly localPort: number;
  readonly remote: IpAddress;
  readonly remotePort: number;
  /** Sequence numbers on the wire. */
  readonly sndNxt: number;
  readonly rcvNxt: number;
  readonly tsOffset: number;
  readonly tsRecent: number;
  readonly tsEnabled: boolean;
  readonly since: number;
  until: number;
  flowHash = 0;
  nextInSlot: FlowEntry | undefined = undefined;

  constructor(
    flow: {
      readonly local: IpAddress;
      readonly localPort: number;
      readonly remote: IpAddress;
      readonly remotePort: number;
      readonly iss: number;
      readonly irs: number;
      readonly sndNxt: number;
      readonly rcvNxt: number;
      readonly tsOffset: number;
      readonly tsRecent: number;
      readonly tsEnabled: boolean;
    },
    now: number,
    until: number,
  ) {
    this.local = flow.local;
    this.localPort = flow.localPort;
    this.remote = flow.remote;
    this.remotePort = flow.remotePort;
    this.sndNxt = (flow.iss + flow.sndNxt) | 0;
    this.rcvNxt = (flow.irs + flow.rcvNxt) | 0;
    this.tsOffset = flow.tsOffset;
    this.tsRecent = flow.tsRecent;
    this.tsEnabled = flow.tsEnabled;
    this.since = now;
    this.until = until;
  }
}
