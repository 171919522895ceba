/** A host: one protocol `Device` with clocks of its own, driven as a lane drives it and only by what it announces. */
import { Device, HEADROOM, PacketBatch, TAILROOM, VERDICT, dropReason, wipe } from '@sealane/protocol';
import type { Crypto, DeviceEvent, DropReason, Endpoint, OutgoingDatagram } from '@sealane/protocol';
import type { VirtualClock } from './clock.ts';
import type { Network, Receiver } from './network.ts';
import type { Generator } from './random.ts';

/** What became of a packet that a node was given. */
export type Outcome = 'send' | 'deliver' | 'consumed' | DropReason;

export interface Delivered {
  readonly at: number;
  readonly packet: Uint8Array;
  /** Of the peer that it came from. */
  readonly publicKey: Uint8Array;
}

export interface TimedEvent {
  readonly at: number;
  readonly event: DeviceEvent;
}

export interface NodeOptions {
  readonly name: string;
  readonly clock: VirtualClock;
  readonly network: Network;
  readonly random: Generator;
  /** The device's randomness. */
  readonly draw: (length: number) => Uint8Array;
  readonly crypto: Crypto;
  readonly privateKey: Uint8Array;
  /** Outer addresses, the first of a family is the default source. */
  readonly endpoints: readonly Endpoint[];
  readonly inner: Uint8Array;
  readonly inner6: Uint8Array;
  readonly timestampFloor?: Uint8Array;
  readonly mtu: number;
}

const LARGEST_DATAGRAM = 65_507;
/** More work than this in one instant is a timer that does not move. */
const TICKS_PER_INSTANT = 10_000;
/** 2026-01-01, a round number far from any boundary. */
const UNIX_START = 1_767_225_600_000;

export class Node implements Receiver {
  readonly name: string;
  readonly publicKey: Uint8Array;
  readonly privateKey: Uint8Array;
  readonly inner: Uint8Array;
  readonly inner6: Uint8Array;
  readonly delivered: Delivered[] = [];
  readonly events: TimedEvent[] = [];
  device: Device;
  endpoints: readonly Endpoint[];
  /** Runs with every packet that arrives, beside (or, if it returns true, instead of) being kept. */
  onPacket: (packet: Uint8Array, publicKey: Uint8Array) => boolean | void = () => {};
  /** Puts the address that was spoken to into `endpoint.source`, as a socket with IP_PKTINFO does. */
  pinsSource = false;

  readonly #options: NodeOptions;
  readonly #clock: VirtualClock;
  readonly #network: Network;
  readonly #outbound = batchOf(HEADROOM + LARGEST_DATAGRAM + TAILROOM);
  readonly #inbound = batchOf(LARGEST_DATAGRAM);
  /** Local monotonic time less world time. */
  #monotonicOffset: number;
  #wallOffset = 0;
  #wakeAt = Infinity;
  #lastTickAt = -1;
  #ticksNow = 0;
  #stopped = false;
  #stepped = false;

  constructor(options: NodeOptions) {
    this.#options = options;
    this.name = options.name;
    this.#clock = options.clock;
    this.#network = options.network;
    this.privateKey = options.privateKey;
    // From a copy that does not stay: tests count the places where secrets lie.
    const key = options.privateKey.slice();
    this.publicKey = options.crypto.publicKey(key);
    wipe(key);
    this.inner = options.inner;
    this.inner6 = options.inner6;
    this.endpoints = options.endpoints;
    // No two hosts started at the same moment: code that mixes up whose clock it reads must fail.
    this.#monotonicOffset = options.random.below(2 ** 31);
    this.device = this.#newDevice(options.timestampFloor);
    for (const endpoint of this.endpoints) this.#network.attach(endpoint, this);
  }

  /** This host's performance.now(). */
  get now(): number {
    return this.#clock.now + this.#monotonicOffset;
  }

  /** This host's Date.now(). */
  get unixMs(): number {
    return UNIX_START + this.#clock.now + this.#wallOffset;
  }

  get endpoint(): Endpoint {
    return this.endpoints[0]!;
  }

  configure(update: Parameters<Device['configure']>[0]): void {
    this.device.configure(update, this.now);
    this.#announce();
  }

  rekey(publicKey?: Uint8Array): number {
    const begun = this.device.rekey(publicKey, this.now);
    this.#announce();
    return begun;
  }

  /** Gives an IP packet to the tunnel. */
  send(packet: Uint8Array): Outcome {
    if (this.#stopped) return 'device-down';
    const batch = this.#outbound;
    batch.clear();
    batch.buffer.set(packet, HEADROOM);
    batch.push(HEADROOM, packet.length);
    this.device.seal(batch, this.now);
    const outcome = outcomeOf(batch.verdicts[0]!);
    if (outcome === 'send') {
      const offset = batch.offsets[0]!;
      const bytes = batch.buffer.slice(offset, offset + batch.lengths[0]!);
      this.#transmit(batch.peers[0]!.endpoint!, bytes);
    }
    this.#announce();
    return outcome;
  }

  receive(bytes: Uint8Array, source: Endpoint, destination: Endpoint): void {
    this.accept(
      bytes,
      this.pinsSource ? { ...source, source: { address: destination.address, interfaceIndex: 1 } } : source,
    );
  }

  /** Takes a datagram as if it had come from `source`. */
  accept(bytes: Uint8Array, source: Endpoint): Outcome {
    if (this.#stopped) return 'device-down';
    const batch = this.#inbound;
    batch.clear();
    batch.buffer.set(bytes);
    batch.push(0, bytes.length, source);
    this.device.open(batch, this.now);
    const outcome = outcomeOf(batch.verdicts[0]!);
    if (outcome === 'deliver') {
      const offset = batch.offsets[0]!;
      const packet = batch.buffer.slice(offset, offset + batch.lengths[0]!);
      const { publicKey } = batch.peers[0]!;
      if (this.onPacket(packet, publicKey) !== true) this.delivered.push({ at: this.#clock.now, packet, publicKey });
    }
    this.#announce();
    return outcome;
  }

  /** Steps of this host's clocks, as by NTP, a broken kernel or a suspend. A sleep under way still takes its time. */
  step(change: { readonly monotonicMs?: number; readonly wallMs?: number }): void {
    this.#monotonicOffset += change.monotonicMs ?? 0;
    this.#wallOffset += change.wallMs ?? 0;
    this.#stepped = true;
    this.#announce();
  }

  /** Leaves its addresses and takes others, as a phone that changes networks. */
  move(endpoints: readonly Endpoint[]): void {
    for (const endpoint of this.endpoints) this.#network.detach(endpoint);
    this.endpoints = endpoints;
    for (const endpoint of endpoints) this.#network.attach(endpoint, this);
  }

  /** The process dies without a word; nothing is sent or received until `restart`. */
  kill(): void {
    this.#stopped = true;
  }

  /** A new process on the same host: no sessions, no peers, only what it is given. */
  restart(timestampFloor?: Uint8Array): void {
    this.#stopped = false;
    this.device = this.#newDevice(timestampFloor);
    this.#wakeAt = Infinity;
    this.#announce();
  }

  eventsOf<T extends DeviceEvent['type']>(type: T): (Extract<DeviceEvent, { type: T }> & { readonly at: number })[] {
    return this.events.flatMap(({ at, event }) =>
      event.type === type ? [{ ...(event as Extract<DeviceEvent, { type: T }>), at }] : [],
    );
  }

  #newDevice(timestampFloor: Uint8Array | undefined): Device {
    const { crypto, draw, mtu } = this.#options;
    const device = new Device({
      crypto,
      random: draw,
      ...(timestampFloor && { timestampFloor }),
    });
    device.configure({ privateKey: this.privateKey, mtu }, this.now);
    return device;
  }

  /** Makes an appointment for what the device says is due next. */
  #announce(): void {
    const { at } = this.device.nextDeadline();
    const wakeAt = Math.max(at - this.#monotonicOffset, this.#clock.now);
    if (at === Infinity || wakeAt >= this.#wakeAt) return;
    this.#wakeAt = wakeAt;
    this.#clock.at(wakeAt, () => this.#wake(wakeAt));
  }

  #wake(appointed: number): void {
    if (this.#stopped || appointed !== this.#wakeAt) return;
    this.#wakeAt = Infinity;
    const { at, why } = this.device.nextDeadline();
    // The sum of two doubles may lie a hair before the instant that was announced.
    const now = at > this.now && at - this.now < 1e-3 ? at : this.now;
    // After a step back the announced instant looks far away: a lane ticks after every sleep, and so the device hears of it.
    if (at <= now || this.#stepped) {
      this.#stepped = false;
      this.#guard(why);
      const { datagrams, events } = this.device.tick(now, this.unixMs);
      for (const event of events) this.events.push({ at: this.#clock.now, event });
      for (const datagram of datagrams) this.#dispatch(datagram);
    }
    this.#announce();
  }

  #guard(why: string): void {
    this.#ticksNow = this.#lastTickAt === this.#clock.now ? this.#ticksNow + 1 : 0;
    this.#lastTickAt = this.#clock.now;
    if (this.#ticksNow > TICKS_PER_INSTANT)
      throw new Error(`${this.name}: '${why}' stays due at ${this.#clock.now} ms`);
  }

  #dispatch(datagram: OutgoingDatagram): void {
    this.#transmit(datagram.endpoint, datagram.bytes);
  }

  #transmit(destination: Endpoint, bytes: Uint8Array): void {
    const { length } = destination.address;
    const pinned = destination.source?.address.join('.');
    const source =
      this.endpoints.find(({ address }) => pinned !== undefined && address.join('.') === pinned) ??
      this.endpoints.find(({ address }) => address.length === length);
    if (source !== undefined) this.#network.send(this.name, source, destination, bytes);
  }
}

function batchOf(size: number): PacketBatch {
  return new PacketBatch(new Uint8Array(size), 1);
}

function outcomeOf(verdict: number): Outcome {
  if (verdict === VERDICT.send) return 'send';
  if (verdict === VERDICT.deliver) return 'deliver';
  if (verdict === VERDICT.consumed) return 'consumed';
  const reason = dropReason(verdict);
  if (reason === undefined) throw new Error(`verdict ${verdict} means nothing`);
  return reason;
}
