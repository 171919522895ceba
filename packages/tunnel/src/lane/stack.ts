/**
 * The Linux lane of a stack: on the event loop, where the programs' sockets are, but with the sockets of the Linux lane,
 * which take and give trains of datagrams in one call. It needs no privileges.
 *
 *   poll(2) on a thread of Node's pool -> recvmsg until nothing is left -> open -> stack
 *   stack readable                     -> read a batch -> seal in place -> sendmsg, a row of datagrams each
 *   after both                         -> tick if a deadline is due -> arm timer
 */
import { Device, dropVerdict, PacketBatch, VERDICT, type DeviceSecrets, type Endpoint } from '@sealane/protocol';
import { addressOf, foreignAsync } from '../linux/foreign.ts';
import { LowPool, type LowSlot } from '../linux/low-memory.ts';
import { errorNumbers, type LinuxUdp } from '../linux/udp.ts';
import { DeviceClosedError } from '../model.ts';
import type { Lane, LaneOptions, LaneStatus, PacketDevice, TunnelEvent, TunnelUpdate } from '../model.ts';
import { TimestampFile } from '../timestamp-file.ts';
import { randomSecret } from '../crypto/random.ts';
import { Faults } from './faults.ts';
import { removeOwnDatagrams } from './loop-guard.ts';
import { Outlet } from './outlet.ts';
import { UnreachableAnswers } from './unreachable.ts';

const SEND_PACKETS = 128;
const SEND_ROOM = 2 ** 18;
/** Behind the packets: one datagram that is not one. */
const CONTROL_ROOM = 2_048;
const RECEIVE_ROOM = 2 ** 16 + 256;
/** Before the first packet: ciphers work on a packet where it lies only behind a block of theirs. */
const MARGIN = 64;
const RECEIVE = MARGIN + SEND_ROOM + CONTROL_ROOM;
const RECEIVED_PACKETS = 512;
const MESSAGES_PER_TURN = 128;
const BYTES_PER_TURN = 2 ** 19;
const BATCHES_PER_TURN = 4;
const HANDSHAKE_TRAFFIC_CLASS = 0x88;
const POLLIN = 1;
const POLL_ENTRY = 8;
/** A poll holds a thread of Node's pool, and the process's exit for as long as this, in milliseconds. */
const POLL_MS = 250;
/** Milliseconds. */
const FAULT_PAUSE = 10;
/** Of the pool's four threads by default. */
const MOST_LANES = 2;
const LONGEST_TIMEOUT = 2 ** 31 - 1;
const NO_ROUTE = dropVerdict('no-route');
const NO_ENDPOINT = dropVerdict('no-endpoint');

/** The memory of closed lanes serves the next ones, as low memory stays for as long as its thread. */
const memories = new LowPool(RECEIVE + MARGIN + RECEIVE_ROOM);
let lanes = 0;

/** Why this lane cannot carry the device, or undefined when it can. */
export function stackLaneObstacle({ device }: LaneOptions): string | undefined {
  if (process.platform !== 'linux') return 'the Linux lane needs Linux';
  if (device.kind !== 'netstack') return 'this lane is for a stack';
  return lanes < MOST_LANES ? undefined : `the Linux lane is for at most ${MOST_LANES} stacks of a process`;
}

export class StackLane implements Lane {
  readonly kind = 'linux';
  readonly #packets: PacketDevice;
  readonly #core: Device;
  readonly #onEvent: (event: TunnelEvent) => void;
  readonly #timestamps: TimestampFile | undefined;
  readonly #unreachable: UnreachableAnswers;
  readonly #faults = new Faults();
  readonly #notes: string[] = [];
  /** Of these. */
  #notesSaid = 0;
  readonly #errors = errorNumbers('EAGAIN', 'EINTR');
  readonly #memory: LowSlot = memories.take();
  readonly #outbound = new PacketBatch(this.#memory.bytes.subarray(MARGIN, MARGIN + SEND_ROOM), SEND_PACKETS);
  readonly #ecn = new Uint8Array(SEND_PACKETS);
  readonly #received = new PacketBatch(this.#memory.bytes.subarray(RECEIVE + MARGIN), RECEIVED_PACKETS);
  readonly #receiveAt: number = this.#memory.address + RECEIVE + MARGIN;
  readonly #outlet: Outlet;
  /** struct pollfd of the two sockets. */
  readonly #entries = new DataView(new ArrayBuffer(2 * POLL_ENTRY));
  readonly #entriesAt: number = addressOf(new Uint8Array(this.#entries.buffer));
  readonly #poll = foreignAsync('int poll(uintptr_t, unsigned long, int)');

  #up = false;
  #isPolling = false;
  #isReadable = false;
  #isTurnPending = false;
  #timer: NodeJS.Timeout | undefined;
  #timerAt = Infinity;
  #closing: Promise<void> | undefined;

  private constructor(options: LaneOptions) {
    this.#packets = options.device;
    this.#unreachable = new UnreachableAnswers(options.device);
    this.#onEvent = options.onEvent;
    this.#timestamps = options.timestampFile === undefined ? undefined : TimestampFile.open(options.timestampFile);
    const floor = this.#timestamps?.floor;
    this.#core = new Device({
      crypto: options.crypto,
      random: randomSecret,
      ...(floor !== undefined && { timestampFloor: floor }),
    });
    this.#outlet = new Outlet({
      base: this.#memory.address + MARGIN,
      faults: this.#faults,
      notes: this.#notes,
      forgetSource: (peer) => this.#core.forgetSource(peer),
    });
  }

  /** Opens the lane with its first configuration; on an error nothing stays open but the packet device. */
  static async open(options: LaneOptions, config: TunnelUpdate = {}): Promise<StackLane> {
    const lane = new StackLane(options);
    try {
      await lane.configure({ mtu: options.device.mtu, ...config });
      lane.#up = true;
      lane.#outlet.setUp(true);
      if (lane.#outlet.problem !== undefined) throw lane.#outlet.problem;
    } catch (error) {
      lane.#core.close();
      lane.#outlet.close();
      memories.give(lane.#memory);
      lane.#timestamps?.close();
      throw error;
    }
    lanes++;
    options.device.start({
      readable: () => lane.#deviceReadable(),
      link: () => undefined,
      closed: (error) => void lane.#shut(error),
    });
    lane.#receive();
    return lane;
  }

  async configure(update: TunnelUpdate): Promise<void> {
    if (this.#closing !== undefined) throw new DeviceClosedError('the tunnel is closed');
    const { listenPort, fwmark } = update;
    checkInteger('listenPort', listenPort, 65_535);
    checkInteger('fwmark', fwmark, 0xffff_ffff);
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
    this.#requestTurn();
  }

  async status(): Promise<LaneStatus> {
    return {
      kind: this.kind,
      device: this.#core.status(performance.now()),
      listenPort: this.#outlet.port,
      fwmark: this.#outlet.mark,
      mtu: this.#packets.mtu,
      up: this.#up,
      notes: [...this.#notes, ...this.#outlet.notes()],
      faults: this.#faults.snapshot(),
    };
  }

  async secrets(): Promise<DeviceSecrets> {
    return this.#core.secrets();
  }

  async rekey(publicKey?: Uint8Array, probed?: Endpoint): Promise<number> {
    const begun = this.#core.rekey(publicKey, performance.now(), probed);
    this.#requestTurn();
    return begun;
  }

  close(): Promise<void> {
    return this.#shut();
  }

  // Inbound.

  /** Takes what is there; comes back with the next turn of the event loop while there is something, else waits in poll. */
  #receive(): void {
    if (this.#closing !== undefined) return;
    const { udp4, udp6 } = this.#outlet;
    const before = this.#faults.total;
    const moved = this.#drain(udp4) + this.#drain(udp6);
    if (moved > 0) {
      this.#requestTurn();
      setImmediate(() => this.#receive());
    } else if (this.#faults.total !== before) {
      // A fault that lasts must not keep a core busy.
      setTimeout(() => this.#receive(), FAULT_PAUSE);
    } else {
      this.#wait(udp4, udp6);
    }
  }

  #wait(udp4: LinuxUdp | undefined, udp6: LinuxUdp | undefined): void {
    if (this.#isPolling) return;
    this.#isPolling = true;
    for (const [i, socket] of [udp4, udp6].entries()) {
      this.#entries.setInt32(i * POLL_ENTRY, socket?.fd ?? -1, true);
      this.#entries.setUint32(i * POLL_ENTRY + 4, POLLIN, true);
    }
    this.#poll([this.#entriesAt, 2, POLL_MS], () => {
      this.#isPolling = false;
      this.#receive();
    });
  }

  /** Returns how many messages there were. */
  #drain(socket: LinuxUdp | undefined): number {
    if (socket === undefined) return 0;
    const batch = this.#received;
    let messages = 0;
    for (let bytes = 0; messages < MESSAGES_PER_TURN && bytes < BYTES_PER_TURN;) {
      const length = socket.receive(this.#receiveAt, RECEIVE_ROOM);
      if (length < 0) {
        if (-length !== this.#errors.EAGAIN && -length !== this.#errors.EINTR)
          this.#faults.add('receive-failed', -length);
        break;
      }
      messages++;
      bytes += length;
      const segment = Math.max(1, socket.segment);
      batch.clear();
      for (let offset = 0; offset < length; offset += segment) {
        if (batch.count === RECEIVED_PACKETS) this.#open(batch);
        batch.push(offset, Math.min(segment, length - offset), socket.endpoint);
      }
      this.#open(batch);
    }
    return messages;
  }

  #open(batch: PacketBatch): void {
    this.#core.open(batch, performance.now());
    for (let i = 0; i < batch.count; i++) {
      if (batch.verdicts[i] !== VERDICT.deliver) continue;
      if (!this.#packets.write(batch.buffer, batch.offsets[i]!, batch.lengths[i]!))
        this.#faults.add('device-write-failed');
    }
    batch.clear();
  }

  // Outbound.

  #deviceReadable(): void {
    this.#isReadable = true;
    if (!this.#isTurnPending) this.#turn();
  }

  #pump(): void {
    for (let n = 0; n < BATCHES_PER_TURN; n++) {
      if (this.#sealBatch() === 0) {
        this.#isReadable = false;
        return;
      }
    }
    this.#requestTurn();
  }

  #sealBatch(): number {
    const batch = this.#outbound;
    const outlet = this.#outlet;
    batch.clear();
    try {
      this.#packets.read(batch);
    } catch (error) {
      if (!(error instanceof DeviceClosedError)) throw error;
      void this.#shut();
      return 0;
    }
    const count = batch.count;
    if (count === 0) return 0;
    const looped = removeOwnDatagrams(batch, outlet.port, (address, port) => outlet.wasSentTo(address, port));
    if (looped > 0) this.#faults.add('routing-loop', undefined, looped);
    const now = performance.now();
    this.#core.seal(batch, now);
    for (let i = 0; i < batch.count;) {
      const verdict = batch.verdicts[i]!;
      if (verdict === VERDICT.send) {
        i = outlet.sendRow(batch, i, this.#ecn);
        continue;
      }
      if (verdict === NO_ROUTE || verdict === NO_ENDPOINT) {
        this.#unreachable.answer(batch.buffer, batch.offsets[i]!, batch.lengths[i]!, now);
      }
      i++;
    }
    return count;
  }

  // Time.

  #requestTurn(): void {
    if (this.#isTurnPending || this.#closing !== undefined) return;
    this.#isTurnPending = true;
    setImmediate(() => {
      this.#isTurnPending = false;
      this.#turn();
    });
  }

  #turn(): void {
    if (this.#closing !== undefined) return;
    if (this.#isReadable) this.#pump();
    const now = performance.now();
    if (this.#core.nextDeadline().at <= now) this.#tick(now);
    while (this.#notesSaid < this.#notes.length) this.#onEvent({ type: 'note', text: this.#notes[this.#notesSaid++]! });
    if (this.#closing !== undefined) return;
    const { at } = this.#core.nextDeadline();
    if (at <= performance.now()) this.#requestTurn();
    else if (at < this.#timerAt) this.#arm(at);
  }

  #tick(now: number): void {
    const { datagrams, events } = this.#core.tick(now, Date.now());
    try {
      this.#timestamps?.cover(this.#core.timestamp);
    } catch {
      this.#faults.add('timestamp-file-failed');
    }
    for (const { bytes, endpoint, kind, peer } of datagrams) {
      this.#memory.bytes.set(bytes, MARGIN + SEND_ROOM);
      const trafficClass = kind === 'handshake' ? HANDSHAKE_TRAFFIC_CLASS : 0;
      this.#outlet.sendOne(endpoint, peer, SEND_ROOM, bytes.length, trafficClass);
    }
    for (const event of events) this.#onEvent(event);
  }

  /** A deadline that moved back leaves the timer as it is: waking for nothing is cheaper than arming per packet. */
  #arm(at: number): void {
    clearTimeout(this.#timer);
    this.#timerAt = at;
    const delay = Math.min(LONGEST_TIMEOUT, Math.max(1, Math.ceil(at - performance.now())));
    this.#timer = setTimeout(() => {
      this.#timerAt = Infinity;
      this.#turn();
    }, delay);
  }

  #shut(error?: Error): Promise<void> {
    this.#closing ??= (async (): Promise<void> => {
      clearTimeout(this.#timer);
      lanes--;
      try {
        this.#timestamps?.close();
      } catch {
        this.#faults.add('timestamp-file-failed');
      }
      this.#core.close();
      this.#up = false;
      this.#outlet.close();
      memories.give(this.#memory);
      await this.#packets.close();
      this.#onEvent({ type: 'closed', ...(error !== undefined && { error }) });
    })();
    return this.#closing;
  }
}

function checkInteger(name: string, value: number | undefined, most: number): void {
  if (value !== undefined && !(Number.isInteger(value) && value >= 0 && value <= most)) {
    throw new RangeError(`${name} must be 0 to ${most}, got ${value}`);
  }
}
