/**
 * The Linux lane's loop. One thread owns all of it: the interface, both sockets, the protocol's state and the packets' memory.
 *
 *   poll(2) -> requests of the main thread
 *           -> datagrams: recvmsg (trains by UDP_GRO) -> open in place -> merge -> writev to the interface
 *           -> packets:   read (up to 64 KiB of one flow) -> split -> seal in place -> sendmsg (trains by UDP_SEGMENT)
 *           -> what is due: handshakes and timers, after the data
 */
import { Device, dropVerdict, keyId, PacketBatch, VERDICT, type DeviceSecrets } from '@sealane/protocol';
import { selectCrypto } from '../crypto/select.ts';
import { addressOf, errno, foreign, type ForeignFunction } from '../linux/foreign.ts';
import { LinkNews, NEWS } from '../linux/link-news.ts';
import { lowBuffer } from '../linux/low-memory.ts';
import { Routes } from '../linux/routes.ts';
import { enableOffloads, TunLink, type LinkState } from '../linux/tun.ts';
import { errorNumbers } from '../linux/udp.ts';
import type { LaneStatus, TunnelEvent, TunnelUpdate } from '../model.ts';
import { TimestampFile } from '../timestamp-file.ts';
import { randomSecret } from '../crypto/random.ts';
import { combineEcn, ecnOf } from './ecn.ts';
import { icmpUnreachable } from './icmp.ts';
import type { WorkerInput } from './linux-messages.ts';
import { removeOwnDatagrams } from './loop-guard.ts';
import { Faults } from './faults.ts';
import { Merger, type Gathered } from './offload/merge.ts';
import { PacketMemory } from './offload/memory.ts';
import { split } from './offload/split.ts';
import { VNET } from './offload/vnet.ts';
import { Outlet } from './outlet.ts';
import { SendBuffer } from './send-buffer.ts';

/** Layout of the packet memory, in bytes. */
const READ = 1_024;
const READ_ROOM = 2 ** 16 + 1_024;
const ANSWER = READ + READ_ROOM;
const ANSWER_ROOM = 2_048;
const SEND = ANSWER + ANSWER_ROOM;
const SEND_ROOM = 320 * 1_024;
const RECEIVE = SEND + SEND_ROOM;
const RECEIVE_ROOM = 2 ** 16 + 256;
const MESSAGES = 4;
const MEMORY = RECEIVE + MESSAGES * RECEIVE_ROOM;

/** Reads of small packets that may go out together; reads of the interface in one turn. */
const READS = 64;
const DATAGRAMS = 512;
/** Milliseconds between looks at the link's state, and the pause after a turn of nothing but faults. */
const PROBE_INTERVAL = 500;
const FAULT_PAUSE = 10;
/** Answers to packets without a peer: at most this many at once, and a second. */
const ANSWER_RATE = 100;
/** Refused handshakes that are told, a second. */
const REFUSAL_RATE = 100;
const POLLIN = 1;
const POLL_ENTRY = 8;
const ENTRIES = 5;
const ALL_NEWS = NEWS.link | NEWS.address4 | NEWS.address6 | NEWS.route4 | NEWS.route6;
/** Milliseconds: news come in floods. */
const NEWS_INTERVAL = 20;
const HANDSHAKE_TRAFFIC_CLASS = 0x88;
const NO_ROUTE = dropVerdict('no-route');
const NO_ENDPOINT = dropVerdict('no-endpoint');

export interface LoopHandlers {
  readonly onEvent: (event: Exclude<TunnelEvent, { readonly type: 'closed' }>) => void;
  /** The loop has ended by itself: the interface was deleted, or `error`. */
  readonly onGone: (error?: Error) => void;
}

export class PacketLoop {
  readonly #tun: number;
  readonly #bell: number;
  readonly #handlers: LoopHandlers;
  #onBell: () => void = () => {};
  readonly #core: Device;
  readonly #timestamps: TimestampFile | undefined;
  readonly #memory: PacketMemory = new PacketMemory(MEMORY, lowBuffer(MEMORY));
  readonly #base: number = addressOf(this.#memory.bytes);
  readonly #sending: SendBuffer;
  readonly #ecn: Uint8Array = new Uint8Array(DATAGRAMS);
  readonly #received: PacketBatch = new PacketBatch(this.#memory.bytes, DATAGRAMS);
  readonly #merger: Merger;
  readonly #faults = new Faults();
  readonly #outlet: Outlet;
  readonly #notes: string[] = [];
  readonly #link: TunLink;
  #state: LinkState;
  #nextProbe = 0;
  #lastProbe = -Infinity;
  #answersLeft = ANSWER_RATE;
  #refusalsLeft = REFUSAL_RATE;
  #running = true;
  /** Peers whose handshakes were due while no socket was open: begun again when one is. */
  readonly #unsent = new Map<string, Uint8Array>();

  readonly #read: ForeignFunction = foreign('long read(int, uintptr_t, size_t)');
  readonly #write: ForeignFunction = foreign('long write(int, uintptr_t, size_t)');
  readonly #writev: ForeignFunction = foreign('long writev(int, uintptr_t, int)');
  readonly #poll: ForeignFunction = foreign('int poll(uintptr_t, unsigned long, int)');
  readonly #errors = errorNumbers('EAGAIN', 'EINTR', 'EBADFD');
  readonly #vectors: Uint32Array = new Uint32Array(lowBuffer(64 * 16));
  readonly #vectorsAt: number = addressOf(new Uint8Array(this.#vectors.buffer));
  readonly #news: LinkNews | undefined = LinkNews.open(ALL_NEWS);
  readonly #routes: Routes | undefined = Routes.open();
  #routesChanged = false;
  /** struct pollfd of bell, interface, the two sockets and the news of links. */
  readonly #entries: DataView = new DataView(lowBuffer(ENTRIES * POLL_ENTRY));
  readonly #entriesAt: number = addressOf(new Uint8Array(this.#entries.buffer));

  /** Throws when the interface is gone already or the timestamp file cannot be read. */
  constructor(input: Omit<WorkerInput, 'port'>, handlers: LoopHandlers) {
    this.#tun = input.tun;
    this.#bell = input.bell;
    this.#handlers = handlers;
    this.#link = new TunLink(input.tun);
    const state = this.#link.probe();
    if (state === undefined) throw new Error('the interface was deleted');
    this.#state = { ...state, up: false };
    this.#timestamps = input.timestampFile === undefined ? undefined : TimestampFile.open(input.timestampFile);
    const floor = this.#timestamps?.floor;
    this.#core = new Device({
      crypto: selectCrypto(input.crypto),
      random: randomSecret,
      ...(floor !== undefined && { timestampFloor: floor }),
    });
    const offloads = enableOffloads(input.tun);
    if (!offloads.tcp) this.#notes.push('This kernel hands over TCP packets one by one: throughput is lower.');
    else if (!offloads.udp) this.#notes.push('This kernel hands over UDP packets one by one (it is older than 6.2).');
    this.#outlet = new Outlet(this.#base, this.#faults, this.#notes, (peer) => this.#core.forgetSource(peer));
    this.#entries.setInt32(0, input.bell, true);
    this.#entries.setInt32(POLL_ENTRY, input.tun, true);
    this.#entries.setInt32(4 * POLL_ENTRY, this.#news?.fd ?? -1, true);
    this.#sending = new SendBuffer(this.#memory, SEND, SEND + SEND_ROOM, () => this.#send());
    this.#merger = new Merger(this.#memory, { udp: offloads.udp }, (pieces) => this.#deliver(pieces));
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
    commit.apply();
    this.#beginUnsent();
    if (update.mtu !== undefined) this.#sending.mtu = update.mtu;
    if (this.#lastProbe > -Infinity) return;
    this.#probe(performance.now());
    if (this.#outlet.problem !== undefined) throw this.#outlet.problem;
  }

  status(): LaneStatus {
    return {
      kind: 'linux',
      device: this.#core.status(performance.now()),
      listenPort: this.#outlet.wantedPort,
      fwmark: this.#outlet.mark,
      mtu: this.#state.mtu,
      up: this.#state.up,
      notes: [...this.#notes, ...this.#outlet.notes()],
      faults: this.#faults.snapshot(),
    };
  }

  secrets(): DeviceSecrets {
    return this.#core.secrets();
  }

  rekey(publicKey: Uint8Array | undefined): number {
    return this.#core.rekey(publicKey, performance.now());
  }

  #turn(): void {
    const before = this.#faults.total;
    let moved = 0;
    const now = performance.now();
    const wait = Math.max(0, Math.min(this.#core.nextDeadline().at, this.#nextProbe) - now);
    const ready = this.#wait(Math.ceil(Math.min(wait, PROBE_INTERVAL)));
    if (ready > 0) {
      if (this.#events(0) !== 0) this.#answerBell();
      if (!this.#running) return;
      if (this.#events(4) !== 0) this.#hearNews();
      if (this.#events(2) !== 0) moved += this.#receive('ipv4');
      if (this.#events(3) !== 0) moved += this.#receive('ipv6');
      if (this.#events(1) !== 0) moved += this.#readInterface();
    }
    const after = performance.now();
    if (this.#core.nextDeadline().at <= after) this.#tick(after);
    if (after >= this.#nextProbe) this.#probe(after);
    // A fault that lasts must not keep a core busy.
    if (moved === 0 && this.#faults.total !== before) this.#poll(this.#entriesAt, 1, FAULT_PAUSE);
  }

  #wait(milliseconds: number): number {
    const { udp4, udp6 } = this.#outlet;
    const entries = this.#entries;
    entries.setInt32(2 * POLL_ENTRY, udp4?.fd ?? -1, true);
    entries.setInt32(3 * POLL_ENTRY, udp6?.fd ?? -1, true);
    for (let i = 0; i < ENTRIES; i++) entries.setUint32(i * POLL_ENTRY + 4, POLLIN, true);
    return this.#poll(this.#entriesAt, ENTRIES, milliseconds);
  }

  #events(entry: number): number {
    return this.#entries.getUint16(entry * POLL_ENTRY + 6, true);
  }

  #answerBell(): void {
    this.#read(this.#bell, this.#base + ANSWER, 8);
    this.#onBell();
  }

  #hearNews(): void {
    this.#news?.drain();
    this.#routesChanged = true;
    this.#nextProbe = Math.min(this.#nextProbe, Math.max(performance.now(), this.#lastProbe + NEWS_INTERVAL));
  }

  // Outbound.

  /** Reads, seals and sends what waits, within bounds; returns the number of reads. */
  #readInterface(): number {
    const { EAGAIN, EINTR, EBADFD } = this.#errors;
    // The IP header behind the virtio header lies 4-aligned.
    const header = READ + 64 - VNET.length;
    let reads = 0;
    for (; reads < READS && !this.#sending.isNearlyFull; reads++) {
      const length = this.#read(this.#tun, this.#base + header, READ_ROOM - 64);
      if (length < 0) {
        const code = errno();
        if (code === EINTR) continue;
        if (code === EBADFD) {
          this.#running = false;
          this.#send();
          this.#handlers.onGone();
          return reads;
        }
        if (code !== EAGAIN) this.#faults.add('device-read-failed', code);
        break;
      }
      if (!split(this.#memory, header, length, this.#sending)) this.#faults.add('device-bad-packet');
    }
    this.#send();
    return reads;
  }

  #send(): void {
    const { batch } = this.#sending;
    if (batch.count === 0) return;
    const outlet = this.#outlet;
    if (outlet.port === 0) {
      this.#faults.add('no-socket');
      this.#sending.clear();
      return;
    }
    const looped = removeOwnDatagrams(batch, outlet.port, (address, port) => outlet.wasSentTo(address, port));
    if (looped > 0) this.#faults.add('routing-loop', undefined, looped);
    const { bytes } = this.#memory;
    for (let i = 0; i < batch.count; i++) this.#ecn[i] = ecnOf(bytes, batch.offsets[i]!);
    this.#core.seal(batch, performance.now());
    for (let i = 0; i < batch.count;) {
      const verdict = batch.verdicts[i]!;
      if (verdict === VERDICT.send) {
        i = outlet.sendRow(batch, i, this.#ecn);
        continue;
      }
      if (verdict === NO_ROUTE || verdict === NO_ENDPOINT)
        this.#answerUnreachable(batch.offsets[i]!, batch.lengths[i]!);
      i += 1;
    }
    this.#sending.clear();
  }

  #answerUnreachable(packet: number, length: number): void {
    if (this.#answersLeft === 0) return;
    const target = ANSWER + 16;
    const size = icmpUnreachable(this.#memory, packet, length, target);
    if (size === 0) return;
    this.#answersLeft -= 1;
    this.#memory.bytes.fill(0, target - VNET.length, target);
    this.#write(this.#tun, this.#base + target - VNET.length, size + VNET.length);
  }

  // Inbound.

  /** Receives, opens and delivers what waits, within bounds; returns the number of calls that gave something. */
  #receive(family: 'ipv4' | 'ipv6'): number {
    const socket = family === 'ipv4' ? this.#outlet.udp4 : this.#outlet.udp6;
    if (socket === undefined) return 0;
    const { EAGAIN, EINTR } = this.#errors;
    const batch = this.#received;
    batch.clear();
    let messages = 0;
    for (; messages < MESSAGES; messages++) {
      const at = RECEIVE + messages * RECEIVE_ROOM + 64;
      const length = socket.receive(this.#base + at, RECEIVE_ROOM - 64);
      if (length < 0) {
        if (-length !== EAGAIN && -length !== EINTR) this.#faults.add('receive-failed', -length);
        break;
      }
      const segment = Math.max(1, socket.segment);
      for (let offset = 0; offset < length; offset += segment) {
        if (batch.count === DATAGRAMS) this.#open(batch);
        this.#ecn[batch.count] = socket.trafficClass & 3;
        batch.push(at + offset, Math.min(segment, length - offset), socket.endpoint);
      }
    }
    this.#open(batch);
    return messages;
  }

  #open(batch: PacketBatch): void {
    if (batch.count === 0) return;
    this.#core.open(batch, performance.now());
    for (let i = 0; i < batch.count; i++) {
      if (batch.verdicts[i] !== VERDICT.deliver) continue;
      const packet = batch.offsets[i]!;
      if (this.#ecn[i] === 0 || combineEcn(this.#memory, packet, this.#ecn[i]!)) {
        this.#merger.add(packet, batch.lengths[i]!);
      } else {
        this.#faults.add('congestion-mark-refused');
      }
    }
    this.#merger.flush();
    batch.clear();
  }

  #deliver(pieces: Gathered): void {
    const { count } = pieces;
    let taken: number;
    if (count === 1) {
      taken = this.#write(this.#tun, this.#base + pieces.offsets[0]!, pieces.lengths[0]!);
    } else {
      const vectors = this.#vectors;
      for (let i = 0; i < count; i++) {
        const address = this.#base + pieces.offsets[i]!;
        vectors[4 * i] = address >>> 0;
        vectors[4 * i + 1] = Math.floor(address / 2 ** 32);
        vectors[4 * i + 2] = pieces.lengths[i]!;
      }
      taken = this.#writev(this.#tun, this.#vectorsAt, count);
    }
    if (taken < 0) this.#faults.add('device-write-failed', errno(), count);
  }

  // Time.

  #tick(now: number): void {
    const { datagrams, events } = this.#core.tick(now, Date.now());
    try {
      this.#timestamps?.cover(this.#core.timestamp);
    } catch {
      this.#faults.add('timestamp-file-failed');
    }
    for (const { bytes, endpoint, kind, peer } of datagrams) {
      if (this.#outlet.port === 0 && kind === 'handshake' && peer !== undefined) {
        this.#unsent.set(keyId(peer.publicKey), peer.publicKey);
      }
      this.#memory.bytes.set(bytes, READ);
      this.#outlet.sendOne(endpoint, peer, READ, bytes.length, kind === 'handshake' ? HANDSHAKE_TRAFFIC_CLASS : 0);
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
    this.#answersLeft = ANSWER_RATE / 2;
    this.#refusalsLeft = REFUSAL_RATE / 2;
    if (this.#routesChanged && this.#routes !== undefined) this.#outlet.checkSources(this.#routes);
    this.#routesChanged = false;
    const state = this.#link.probe();
    if (state === undefined) {
      this.#running = false;
      this.#handlers.onGone();
      return;
    }
    const before = this.#state;
    this.#state = state;
    if (state.mtu !== before.mtu) {
      this.#core.configure({ mtu: state.mtu }, now);
      this.#sending.mtu = state.mtu;
    }
    if (state.up === before.up) return;
    this.#outlet.setUp(state.up);
    this.#beginUnsent();
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
    this.#outlet.close();
    this.#link.close();
    this.#news?.close();
    this.#routes?.close();
    this.#memory.bytes.fill(0);
  }
}

function checkInteger(name: string, value: number, most: number): void {
  if (!Number.isInteger(value) || value < 0 || value > most)
    throw new RangeError(`${name} must be 0 to ${most}, got ${value}`);
}
