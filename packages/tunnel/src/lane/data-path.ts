/**
 * The way of packets through one thread: between its queue of the interface and its sockets, through what seals and opens them.
 *
 *   datagrams: recvmsg (trains by UDP_GRO) -> open in place -> merge -> writev to the interface
 *   packets:   read (up to 64 KiB of one flow) -> split -> seal in place -> sendmsg (trains by UDP_SEGMENT)
 */
import { dropVerdict, PacketBatch, VERDICT, type Endpoint, type PeerHandle } from '@sealane/protocol';
import { addressOf, errno, foreign, type ForeignFunction } from '../linux/foreign.ts';
import { lowBuffer } from '../linux/low-memory.ts';
import { errorNumbers, type LinuxUdp } from '../linux/udp.ts';
import type { LaneTraffic } from '../model.ts';
import { combineEcn, ecnOf } from './ecn.ts';
import type { Faults } from './faults.ts';
import { icmpUnreachable } from './icmp.ts';
import { removeOwnDatagrams } from './loop-guard.ts';
import { IPV4, IPV6, PROTOCOL } from './offload/headers.ts';
import { PacketMemory } from './offload/memory.ts';
import { Merger, type Gathered } from './offload/merge.ts';
import { split } from './offload/split.ts';
import { VNET } from './offload/vnet.ts';
import type { Outlet } from './outlet.ts';
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
/** What is received in one turn, if there is as much: so many bytes, in so many messages at most. */
const RECEIVED_BYTES = MESSAGES * 2 ** 16;
const RECEIVED_MESSAGES = 128;
/** Answers to packets without a peer: at most this many at once, and a second. */
const ANSWER_RATE = 100;
const NO_ROUTE = dropVerdict('no-route');
const NO_ENDPOINT = dropVerdict('no-endpoint');

/** What seals and opens: `Device`, or a lane's replica of it. */
export interface PacketCore {
  seal(batch: PacketBatch, now: number): void;
  open(batch: PacketBatch, now: number): void;
}

export interface DataPathOptions {
  /** The descriptor of the queue to read, and those of all queues. */
  readonly tun: number;
  readonly queues: readonly number[];
  readonly core: PacketCore;
  readonly faults: Faults;
  readonly memory: PacketMemory;
  readonly outlet: Outlet;
  /** Whether the interface takes UDP packets of many segments. */
  readonly udpOffload: boolean;
  /** Takes a copy of a datagram that another lane is to open. */
  readonly onElsewhere: (datagram: StrayDatagram) => void;
}

/** A datagram on its way to the lane that opens it. */
export interface StrayDatagram {
  readonly bytes: Uint8Array;
  readonly endpoint: Endpoint;
  readonly trafficClass: number;
}

/** The memory of one way. */
export function packetMemory(): PacketMemory {
  return PacketMemory.fast(MEMORY);
}

export class DataPath {
  readonly #tun: number;
  readonly #queues: readonly number[];
  readonly #onElsewhere: (datagram: StrayDatagram) => void;
  readonly #core: PacketCore;
  readonly #faults: Faults;
  readonly #outlet: Outlet;
  readonly #memory: PacketMemory;
  readonly #base: number;
  readonly #sending: SendBuffer;
  readonly #ecn: Uint8Array = new Uint8Array(DATAGRAMS);
  readonly #received: PacketBatch;
  readonly #merger: Merger;
  #answersLeft = ANSWER_RATE;
  #gone = false;
  #datagramsReceived = 0;
  #datagramsSent = 0;
  #handedOver = 0;
  #now = 0;

  readonly #read: ForeignFunction = foreign('long read(int, uintptr_t, size_t)');
  readonly #write: ForeignFunction = foreign('long write(int, uintptr_t, size_t)');
  readonly #writev: ForeignFunction = foreign('long writev(int, uintptr_t, int)');
  readonly #errors = errorNumbers('EAGAIN', 'EINTR', 'EBADFD');
  readonly #vectors: Uint32Array = new Uint32Array(lowBuffer(64 * 16));
  readonly #vectorsAt: number = addressOf(new Uint8Array(this.#vectors.buffer));

  constructor({ tun, queues, core, faults, memory, outlet, udpOffload, onElsewhere }: DataPathOptions) {
    this.#tun = tun;
    this.#queues = queues;
    this.#onElsewhere = onElsewhere;
    this.#core = core;
    this.#faults = faults;
    this.#outlet = outlet;
    this.#memory = memory;
    this.#base = addressOf(memory.bytes);
    this.#received = new PacketBatch(memory.bytes, DATAGRAMS);
    this.#sending = new SendBuffer(memory, SEND, SEND + SEND_ROOM, () => this.#send());
    this.#merger = new Merger(memory, { udp: udpOffload }, (pieces) => this.#deliver(pieces));
  }

  /** The interface was deleted: a read has found out. */
  get gone(): boolean {
    return this.#gone;
  }

  set mtu(mtu: number) {
    this.#sending.mtu = mtu;
  }

  /** Lets packets without a peer be answered again; call twice a second. */
  allowAnswers(): void {
    this.#answersLeft = ANSWER_RATE / 2;
  }

  /** Sends bytes that lie nowhere in the packets' memory yet. */
  sendBytes(bytes: Uint8Array, endpoint: Endpoint, peer: PeerHandle | undefined, trafficClass: number): void {
    this.#memory.bytes.set(bytes, READ);
    this.#outlet.sendOne(endpoint, peer, READ, bytes.length, trafficClass);
  }

  /** Seals and sends an IP packet that lies elsewhere. */
  sealBytes(packet: Uint8Array, now: number): void {
    this.#now = now;
    this.#memory.bytes.set(packet, this.#sending.place(packet.length));
    this.#send();
  }

  /** Opens and delivers a datagram that lies elsewhere. */
  openBytes({ bytes, endpoint, trafficClass }: StrayDatagram, now: number): void {
    if (bytes.length > RECEIVE_ROOM - 64) return;
    this.#now = now;
    const batch = this.#received;
    this.#memory.bytes.set(bytes, RECEIVE + 64);
    this.#ecn[0] = trafficClass & 3;
    batch.push(RECEIVE + 64, bytes.length, endpoint);
    this.#open(batch);
  }

  get traffic(): LaneTraffic {
    return { received: this.#datagramsReceived, sent: this.#datagramsSent, handedOver: this.#handedOver };
  }

  /** Erases the packets. */
  close(): void {
    this.#memory.bytes.fill(0);
  }

  // Outbound.

  /** Reads, seals and sends what waits, within bounds; returns the number of reads. */
  readInterface(now: number): number {
    this.#now = now;
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
          this.#gone = true;
          break;
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
    this.#core.seal(batch, this.#now);
    for (let i = 0; i < batch.count;) {
      const verdict = batch.verdicts[i]!;
      if (verdict === VERDICT.send) {
        const next = outlet.sendRow(batch, i, this.#ecn);
        this.#datagramsSent += next - i;
        i = next;
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
  receive(socket: LinuxUdp | undefined, now: number): number {
    if (socket === undefined) return 0;
    this.#now = now;
    const { EAGAIN, EINTR } = this.#errors;
    const batch = this.#received;
    batch.clear();
    let messages = 0;
    for (let bytes = 0; bytes < RECEIVED_BYTES && messages < RECEIVED_MESSAGES; messages++) {
      const slot = messages % MESSAGES;
      if (slot === 0) this.#open(batch);
      const at = RECEIVE + slot * RECEIVE_ROOM + 64;
      const length = socket.receive(this.#base + at, RECEIVE_ROOM - 64);
      if (length < 0) {
        if (-length !== EAGAIN && -length !== EINTR) this.#faults.add('receive-failed', -length);
        break;
      }
      bytes += length;
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
    this.#core.open(batch, this.#now);
    const strays = this.#handedOver;
    for (let i = 0; i < batch.count; i++) {
      const verdict = batch.verdicts[i];
      if (verdict !== VERDICT.deliver) {
        if (verdict === VERDICT.elsewhere) this.#handOver(batch, i);
        continue;
      }
      const packet = batch.offsets[i]!;
      if (this.#ecn[i] === 0 || combineEcn(this.#memory, packet, this.#ecn[i]!)) {
        this.#merger.add(packet, batch.lengths[i]!);
      } else {
        this.#faults.add('congestion-mark-refused');
      }
    }
    this.#datagramsReceived += batch.count - (this.#handedOver - strays);
    this.#merger.flush();
    batch.clear();
  }

  #handOver(batch: PacketBatch, i: number): void {
    const endpoint = batch.endpoints[i];
    if (endpoint === undefined) return;
    const offset = batch.offsets[i]!;
    this.#handedOver += 1;
    const bytes = this.#memory.bytes.slice(offset, offset + batch.lengths[i]!);
    this.#onElsewhere({ bytes, endpoint, trafficClass: this.#ecn[i]! });
  }

  #deliver(pieces: Gathered): void {
    const { count } = pieces;
    const tun = this.#queues.length === 1 ? this.#tun : this.#queueOf(pieces.offsets[0]! + VNET.length);
    let taken: number;
    if (count === 1) {
      taken = this.#write(tun, this.#base + pieces.offsets[0]!, pieces.lengths[0]!);
    } else {
      const vectors = this.#vectors;
      for (let i = 0; i < count; i++) {
        const address = this.#base + pieces.offsets[i]!;
        vectors[4 * i] = address >>> 0;
        vectors[4 * i + 1] = Math.floor(address / 2 ** 32);
        vectors[4 * i + 2] = pieces.lengths[i]!;
      }
      taken = this.#writev(tun, this.#vectorsAt, count);
    }
    if (taken < 0) this.#faults.add('device-write-failed', errno(), count);
  }

  /**
   * The queue that a packet is written to is the one on which the kernel then hands over its flow's answers. One session comes in on
   * one lane; spread like this, what goes out is spread over all.
   */
  #queueOf(packet: number): number {
    const { bytes, view } = this.#memory;
    const isIpv4 = bytes[packet]! >>> 4 === 4;
    const header = isIpv4 ? IPV4.length : IPV6.length;
    const protocol = bytes[packet + (isIpv4 ? IPV4.protocol : IPV6.nextHeader)];
    let hash = 0;
    for (let at = packet + (isIpv4 ? 12 : 8); at < packet + header; at += 4) hash ^= view.getUint32(at);
    if (protocol === PROTOCOL.tcp || protocol === PROTOCOL.udp) hash ^= view.getUint32(packet + header);
    hash ^= hash >>> 16;
    hash ^= hash >>> 8;
    return this.#queues[(hash & 0xff) % this.#queues.length]!;
  }
}
