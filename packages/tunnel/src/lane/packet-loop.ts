/**
 * The Linux lane's loop. One thread owns all of it: the interface, both sockets, the protocol's state and the packets' memory.
 *
 *   poll(2) -> requests of the main thread
 *           -> datagrams and packets (data-path.ts)
 *           -> what is due: handshakes and timers, after the data
 */
import { Device, keyId, wipe, type DeviceSecrets, type Endpoint } from '@sealane/protocol';
import { selectCrypto } from '../crypto/select.ts';
import { IdleCollector } from '../heap.ts';
import { addressOf } from '../linux/foreign.ts';
import { LinkNews, NEWS } from '../linux/link-news.ts';
import { Routes } from '../linux/routes.ts';
import { TunLink, type LinkState } from '../linux/tun.ts';
import type { LaneStatus, TunnelEvent, TunnelUpdate } from '../model.ts';
import { TimestampFile } from '../timestamp-file.ts';
import { randomSecret } from '../crypto/random.ts';
import { DataLanes } from './data-lanes.ts';
import { DataPath, packetMemory } from './data-path.ts';
import { Faults } from './faults.ts';
import { LanePoll, WAITED } from './lane-poll.ts';
import type { WorkerInput } from './linux-messages.ts';
import { Outlet } from './outlet.ts';

/** Milliseconds between looks at the link's state. */
const PROBE_INTERVAL = 500;
/** Refused handshakes that are told, a second. */
const REFUSAL_RATE = 100;
const ALL_NEWS = NEWS.link | NEWS.address4 | NEWS.address6 | NEWS.route4 | NEWS.route6;
/** Milliseconds: news come in floods. */
const NEWS_INTERVAL = 20;
const HANDSHAKE_TRAFFIC_CLASS = 0x88;

export interface LoopHandlers {
  /** A file was written that the disk should keep. */
  readonly onWritten: (path: string) => void;
  readonly onEvent: (event: Exclude<TunnelEvent, { readonly type: 'closed' }>) => void;
  /** The loop has ended by itself: the interface was deleted, or `error`. */
  readonly onGone: (error?: Error) => void;
}

export class PacketLoop {
  readonly #handlers: LoopHandlers;
  #onBell: () => void = () => {};
  readonly #core: Device;
  readonly #timestamps: TimestampFile | undefined;
  readonly #path: DataPath;
  readonly #lanes: DataLanes | undefined;
  readonly #faults = new Faults();
  readonly #outlet: Outlet;
  readonly #notes: string[] = [];
  readonly #link: TunLink;
  #state: LinkState;
  #nextProbe = 0;
  /** When a tick is due, and the time that counts from, as the last turn left them. */
  #deadline = 0;
  #turnedAt = 0;
  #lastProbe = -Infinity;
  #refusalsLeft = REFUSAL_RATE;
  #running = true;
  readonly #said = new Set<string>();
  /** Peers whose handshakes were due while no socket was open: begun again when one is. */
  readonly #unsent = new Map<string, Uint8Array>();

  readonly #poll: LanePoll;
  readonly #collector = new IdleCollector(performance.now());
  readonly #news: LinkNews | undefined;
  readonly #routes: Routes | undefined;
  #routesChanged = false;

  /** Throws when the interface is gone already or the timestamp file cannot be read. */
  constructor(input: Omit<WorkerInput, 'port'>, handlers: LoopHandlers) {
    this.#handlers = handlers;
    const [tun] = input.queues as readonly [number];
    const lanes = input.queues.length;
    // What may fail comes before what would have to be closed then.
    this.#timestamps =
      input.timestampFile === undefined ? undefined : TimestampFile.open(input.timestampFile, handlers.onWritten);
    this.#link = new TunLink(tun);
    const state = this.#link.probe();
    if (state === undefined) {
      this.#link.close();
      throw new Error('the interface was deleted');
    }
    this.#state = { ...state, up: false };
    this.#news = LinkNews.open(ALL_NEWS);
    this.#routes = Routes.open();
    const floor = this.#timestamps?.floor;
    this.#core = new Device({
      crypto: selectCrypto(input.crypto),
      random: randomSecret,
      ...(floor !== undefined && { timestampFloor: floor }),
      lanes,
    });
    const { offloads } = input;
    if (!offloads.tcp) this.#notes.push('This kernel hands over TCP packets one by one: throughput is lower.');
    else if (!offloads.udp) this.#notes.push('This kernel hands over UDP packets one by one (it is older than 6.2).');
    const memory = packetMemory();
    const others = lanes === 1 ? undefined : this.#joinLanes(input);
    this.#lanes = others;
    this.#outlet = new Outlet({
      base: addressOf(memory.bytes),
      faults: this.#faults,
      notes: this.#notes,
      forgetSource: (peer) => this.#core.forgetSource(peer),
      ...(others !== undefined && { group: { lanes, handOver: (sockets) => others.handOver(sockets) } }),
    });
    this.#poll = new LanePoll({
      bell: input.bell,
      tun,
      ...(this.#news !== undefined && { news: this.#news.fd }),
    });
    this.#path = new DataPath({
      tun,
      queues: input.queues,
      core: this.#core,
      faults: this.#faults,
      memory,
      outlet: this.#outlet,
      udpOffload: offloads.udp,
      onElsewhere: (datagram) => others?.relay(datagram),
    });
  }

  /** Runs until `end` is called or the interface is gone; calls `onBell` at once and whenever the bell was rung. */
  run(onBell: () => void): void {
    this.#onBell = onBell;
    let failure: Error | undefined;
    try {
      onBell();
      while (this.#running) this.#turn();
    } catch (error) {
      failure = error instanceof Error ? error : new Error(String(error));
    }
    const ended = !this.#running && failure === undefined;
    this.#close();
    if (!ended) this.#handlers.onGone(failure);
  }

  end(): void {
    this.#running = false;
  }

  configure(update: TunnelUpdate): void {
    const { listenPort, fwmark } = update;
    if (listenPort !== undefined) checkInteger('listenPort', listenPort, 65_535);
    if (fwmark !== undefined) checkInteger('fwmark', fwmark, 0xffff_ffff);
    const commit = this.#outlet.prepare({
      ...(listenPort !== undefined && { port: listenPort }),
      ...(fwmark !== undefined && { mark: fwmark }),
    });
    try {
      this.#core.configure(update, performance.now());
    } catch (error) {
      commit.abandon();
      throw error;
    }
    if (update.mtu !== undefined) this.#path.mtu = update.mtu;
    this.#tellLanes();
    commit.apply();
    this.#describeSystem();
    // From the answer to this on, nothing that it forbids leaves on any lane.
    this.#lanes?.settle();
    this.#beginUnsent();
    if (this.#lastProbe > -Infinity) return;
    this.#probe(performance.now());
    if (this.#outlet.problem !== undefined) throw this.#outlet.problem;
  }

  status(): LaneStatus {
    this.#lanes?.settle();
    const others = this.#lanes?.states ?? [];
    const { problem } = this.#outlet;
    return {
      kind: 'linux',
      device: this.#core.status(performance.now()),
      listenPort: this.#outlet.wantedPort,
      fwmark: this.#outlet.mark,
      mtu: this.#state.mtu,
      up: this.#state.up,
      ...(problem !== undefined && { socketProblem: problem.message }),
      notes: this.#allNotes(),
      faults: sumCounts([this.#faults.snapshot(), ...others.map(({ faults }) => faults)]),
      ...(this.#lanes !== undefined && { lanes: [this.#path.traffic, ...others.map(({ traffic }) => traffic)] }),
    };
  }

  secrets(): DeviceSecrets {
    return this.#core.secrets();
  }

  rekey(publicKey: Uint8Array | undefined, probed: Endpoint | undefined): number {
    return this.#core.rekey(publicKey, performance.now(), probed);
  }

  #turn(): void {
    const before = this.#faults.total;
    let moved = 0;
    const wait = Math.max(0, Math.min(this.#deadline, this.#nextProbe) - this.#turnedAt);
    const poll = this.#poll;
    const ready = poll.wait(this.#outlet.udp4, this.#outlet.udp6, Math.ceil(Math.min(wait, PROBE_INTERVAL)));
    if (ready > 0) {
      if (poll.has(WAITED.bell)) this.#answerBell();
      if (!this.#running) return;
      if (poll.has(WAITED.news)) this.#hearNews();
      const now = performance.now();
      // A packet shows that the link is up before the news of that is heard: it would find no socket.
      if (poll.has(WAITED.interface) && !this.#state.up) this.#probe(now);
      if (!this.#running) return;
      if (poll.has(WAITED.udp4)) moved += this.#path.receive(this.#outlet.udp4, now);
      if (poll.has(WAITED.udp6)) moved += this.#path.receive(this.#outlet.udp6, now);
      // The host's own answers to what was delivered are there already: a poll less before they leave.
      if (poll.has(WAITED.interface) || moved > 0) moved += this.#path.readInterface(now);
      if (this.#path.gone) {
        this.#running = false;
        this.#handlers.onGone();
        return;
      }
    }
    const after = performance.now();
    if (this.#core.nextDeadline().at <= after) this.#tick(after);
    if (after >= this.#nextProbe) this.#probe(after);
    this.#tellLanes();
    this.#deadline = this.#core.nextDeadline().at;
    this.#turnedAt = after;
    if (moved > 0) return;
    if (this.#faults.total !== before) poll.rest();
    this.#collector.idle(after);
  }

  #answerBell(): void {
    this.#poll.silenceBell();
    this.#lanes?.receive();
    this.#onBell();
  }

  #hearNews(): void {
    this.#news?.drain();
    this.#routesChanged = true;
    this.#nextProbe = Math.min(this.#nextProbe, Math.max(performance.now(), this.#lastProbe + NEWS_INTERVAL));
  }

  // Time.

  #tick(now: number): void {
    const { datagrams, events } = this.#core.tick(now, Date.now());
    // Before the peer can use a session, the lane that opens it has heard of it.
    this.#tellLanes();
    try {
      this.#timestamps?.cover(this.#core.timestamp);
    } catch {
      this.#faults.add('timestamp-file-failed');
    }
    for (const { bytes, endpoint, kind, peer } of datagrams) {
      // It is begun again with the socket: nothing is lost.
      if (this.#outlet.port === 0 && kind === 'handshake' && peer !== undefined) {
        this.#unsent.set(keyId(peer.publicKey), peer.publicKey);
        continue;
      }
      this.#path.sendBytes(bytes, endpoint, peer, kind === 'handshake' ? HANDSHAKE_TRAFFIC_CLASS : 0);
    }
    for (const event of events) {
      // Strangers can cause these: the counters tell of the rest.
      if (event.type === 'handshake-refused' && this.#refusalsLeft-- <= 0) continue;
      this.#handlers.onEvent(event);
    }
  }

  #probe(now: number): void {
    this.#nextProbe = now + PROBE_INTERVAL;
    this.#lastProbe = now;
    this.#path.allowAnswers();
    this.#refusalsLeft = REFUSAL_RATE / 2;
    if (this.#routesChanged && this.#routes !== undefined)
      this.#outlet.checkSources(this.#routes, this.#core.handles());
    if (this.#routesChanged) this.#lanes?.routesChanged();
    this.#routesChanged = false;
    const state = this.#link.probe();
    if (state === undefined) {
      this.#running = false;
      this.#handlers.onGone();
      return;
    }
    this.#sayNotes();
    const before = this.#state;
    this.#state = state;
    if (state.mtu !== before.mtu) {
      this.#core.configure({ mtu: state.mtu }, now);
      this.#path.mtu = state.mtu;
      this.#describeSystem();
    }
    if (state.up === before.up) return;
    this.#outlet.setUp(state.up);
    this.#beginUnsent();
  }

  #allNotes(): readonly string[] {
    const others = this.#lanes?.states ?? [];
    return [...new Set([this.#notes, this.#outlet.notes(), ...others.map(({ notes }) => notes)].flat())];
  }

  #sayNotes(): void {
    for (const text of this.#allNotes()) {
      if (this.#said.has(text)) continue;
      this.#said.add(text);
      this.#handlers.onEvent({ type: 'note', text });
    }
  }

  #joinLanes(input: Pick<WorkerInput, 'links' | 'answers'>): DataLanes {
    return new DataLanes(input.links, input.answers, {
      onReport: (report) => {
        const now = performance.now();
        const unsent = this.#core.account(report, now);
        for (const packet of unsent) this.#path.sealBytes(packet, now);
        wipe(...unsent);
      },
      onDatagram: (datagram) => this.#path.openBytes(datagram, performance.now()),
    });
  }

  #tellLanes(): void {
    this.#lanes?.follow(this.#core.laneChanges());
  }

  #describeSystem(): void {
    this.#lanes?.describeSystem(this.#state.mtu, this.#outlet.mark);
  }

  #beginUnsent(): void {
    if (this.#outlet.port === 0) return;
    for (const publicKey of this.#unsent.values()) this.#core.rekey(publicKey, performance.now());
    this.#unsent.clear();
  }

  #close(): void {
    try {
      this.#timestamps?.close();
    } catch {
      this.#faults.add('timestamp-file-failed');
    }
    this.#core.close();
    this.#lanes?.close();
    this.#outlet.close();
    this.#link.close();
    this.#news?.close();
    this.#routes?.close();
    this.#path.close();
  }
}

function checkInteger(name: string, value: number, most: number): void {
  if (!Number.isInteger(value) || value < 0 || value > most)
    throw new RangeError(`${name} must be 0 to ${most}, got ${value}`);
}

function sumCounts(all: readonly Readonly<Record<string, number>>[]): Readonly<Record<string, number>> {
  const sums: Record<string, number> = {};
  for (const counts of all) for (const [name, count] of Object.entries(counts)) sums[name] = (sums[name] ?? 0) + count;
  return sums;
}
