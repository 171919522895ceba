/** A TUN interface (Linux) as a packet device. */
import { closeSync } from 'node:fs';
import { HEADROOM, TAILROOM, type PacketBatch } from '@sealane/protocol';
import { Bell } from '../linux/bell.ts';
import { addressOf, errno, errnoName, foreign, foreignAsync, type ForeignFunction } from '../linux/foreign.ts';
import { LinkNews } from '../linux/link-news.ts';
import { createTun, disableOffloads, TunLink, VNET_HEADER, type LinkState, type TunQueues } from '../linux/tun.ts';
import { DeviceClosedError, type PacketDevice, type PacketDeviceNotices } from '../model.ts';

export interface TunOptions {
  /** At most 15 characters; a `%d` in it becomes the first free number. */
  readonly name: string;
  /** Bytes; the kernel's 1500 when absent. */
  readonly mtu?: number;
  /** Ways into the interface, 1 to 16: the Linux lane runs a thread for each. 1 by default. */
  readonly queues?: number;
  /**
   * Also takes a TUN interface that exists and that no program has open. It has one queue, and what its maker gave it stays: its MTU now,
   * the interface itself when the device is closed.
   */
  readonly attach?: boolean;
}

const POLLIN = 1;
const POLL_ENTRY = 8;
/** Milliseconds between looks at the link's state, for changes that no news tells of: an interface in another namespace. */
const PROBE_INTERVAL = 500;
const LARGEST_PACKET = 65_535;
export const MOST_QUEUES = 16;

/**
 * Makes the interface, down and without addresses, and owns it: closing removes it. One that exists is refused, unless with `attach`.
 * Throws a RangeError for a bad name or MTU, and an Error whose one line says what the system lacks.
 */
export function openTun(options: TunOptions): TunDevice {
  const { mtu, queues: wanted = 1, attach = false } = options;
  if (mtu !== undefined && !(Number.isInteger(mtu) && mtu >= 68 && mtu <= LARGEST_PACKET)) {
    throw new RangeError(`mtu must be 68 to 65535, not ${mtu}`);
  }
  if (!(Number.isInteger(wanted) && wanted >= 1 && wanted <= MOST_QUEUES)) {
    throw new RangeError(`queues must be 1 to ${MOST_QUEUES}, not ${wanted}`);
  }
  const { queues, name, attached } = createTun(options.name, wanted, attach);
  const link = new TunLink(queues[0]!);
  try {
    if (mtu !== undefined && !attached) link.setMtu(mtu);
    const state = link.probe();
    if (state === undefined) throw new Error(`the interface ${name} vanished while it was set up`);
    return new TunDevice({ queues, wantedQueues: wanted, name, attached }, link, state);
  } catch (error) {
    link.close();
    for (const fd of queues) closeSync(fd);
    throw error;
  }
}

export class TunDevice implements PacketDevice {
  readonly kind = 'tun';
  readonly name: string;
  readonly fd: number;
  readonly wantedQueues: number;
  #queues: readonly number[];
  readonly #link: TunLink;
  readonly #attached: boolean;
  readonly #read: ForeignFunction = foreign('long read(int, uintptr_t, size_t)');
  readonly #write: ForeignFunction = foreign('long write(int, uintptr_t, size_t)');
  readonly #spare = new Uint8Array(new ArrayBuffer(VNET_HEADER + LARGEST_PACKET));
  #state: LinkState;
  #watch: Watch | undefined;
  #closed = false;
  #closing: Promise<void> | undefined;

  /** @internal */
  constructor(made: TunQueues & { readonly wantedQueues: number }, link: TunLink, state: LinkState) {
    this.wantedQueues = made.wantedQueues;
    this.fd = made.queues[0]!;
    this.#queues = made.queues;
    this.name = made.name;
    this.#attached = made.attached;
    this.#link = link;
    this.#state = state;
  }

  /** Descriptors, the first of which is `fd`. */
  get queues(): readonly number[] {
    return this.#queues;
  }

  /** Gives all queues but the first back: the kernel then has all packets go there. */
  keepOneQueue(): void {
    for (const fd of this.#queues.slice(1)) closeSync(fd);
    this.#queues = [this.fd];
  }

  get mtu(): number {
    return this.#state.mtu;
  }

  read(batch: PacketBatch): number {
    if (this.#closed) throw new DeviceClosedError(`the interface ${this.name} is closed`);
    const base = addressOf(batch.buffer);
    // Room before the first packet lets ciphers begin before it; every IP header lies 4-aligned.
    let offset = 4 * HEADROOM;
    const needed = this.#state.mtu + TAILROOM;
    while (batch.count < batch.capacity && batch.buffer.length - offset >= needed) {
      const room = Math.min(LARGEST_PACKET, batch.buffer.length - offset - TAILROOM);
      const taken = this.#read(this.fd, base + offset - VNET_HEADER, room + VNET_HEADER);
      if (taken < 0) {
        const code = errnoName(errno());
        if (code === 'EINTR') continue;
        if (code === 'EBADFD') throw new DeviceClosedError(`the interface ${this.name} was deleted`);
        break;
      }
      const length = taken - VNET_HEADER;
      // A packet that fills the room to the last byte may have been cut.
      if (length <= 0 || (length === room && room < LARGEST_PACKET && length > this.#state.mtu)) continue;
      batch.push(offset, length);
      offset = (offset + length + TAILROOM + HEADROOM + 15) & ~15;
    }
    return batch.count;
  }

  write(buffer: Uint8Array, offset: number, length: number): boolean {
    if (this.#closed || length > LARGEST_PACKET) return false;
    // A header of zeros: nothing is left for the kernel to finish.
    this.#spare.fill(0, 0, VNET_HEADER);
    this.#spare.set(buffer.subarray(offset, offset + length), VNET_HEADER);
    return this.#write(this.fd, addressOf(this.#spare), length + VNET_HEADER) === length + VNET_HEADER;
  }

  start(notices: PacketDeviceNotices): void {
    if (this.#watch !== undefined || this.#closed) throw new TypeError('the device was started before');
    this.#watch = new Watch(this.fd, {
      readable: notices.readable,
      isDown: () => !this.#state.up,
      look: () => this.#look(notices),
    });
    // Whoever opened the device may have set the link up since.
    this.#state = this.#link.probe() ?? this.#state;
    notices.link({ up: this.#state.up, mtu: this.#state.mtu });
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  /** Compares the link with what was told last; false ends the watch. */
  #look(notices: PacketDeviceNotices): boolean {
    let state: LinkState | undefined;
    try {
      state = this.#link.probe();
    } catch (error) {
      notices.closed(new Error(`the interface ${this.name} cannot be watched`, { cause: error }));
      return false;
    }
    if (state === undefined) {
      notices.closed();
      return false;
    }
    const { up, mtu } = this.#state;
    this.#state = state;
    if (state.up !== up || state.mtu !== mtu) notices.link({ up: state.up, mtu: state.mtu });
    return true;
  }

  async #close(): Promise<void> {
    this.#closed = true;
    await this.#watch?.end();
    this.#link.close();
    // The next program that opens it may not know packets of many segments.
    if (this.#attached) disableOffloads(this.fd);
    for (const fd of this.#queues) closeSync(fd);
  }
}

interface Watcher {
  readonly readable: () => void;
  /** Called with news of any link, a first packet and each PROBE_INTERVAL; false ends the watch. */
  readonly look: () => boolean;
  readonly isDown: () => boolean;
}

/** poll(2) on a thread of Node's pool, again and again; an eventfd ends it at once. */
class Watch {
  readonly #entries = new Uint8Array(new ArrayBuffer(3 * POLL_ENTRY));
  readonly #view = new DataView(this.#entries.buffer);
  readonly #poll = foreignAsync('int poll(uintptr_t, unsigned long, int)');
  readonly #bell = Bell.open();
  readonly #news = LinkNews.open();
  readonly #watcher: Watcher;
  #ending = false;
  #ended: () => void = () => {};
  readonly #end: Promise<void>;
  #lastLook = performance.now();

  constructor(fd: number, watcher: Watcher) {
    this.#watcher = watcher;
    for (const [i, watched] of [fd, this.#bell.fd, this.#news?.fd ?? -1].entries()) {
      this.#view.setInt32(i * POLL_ENTRY, watched, true);
      this.#view.setInt16(i * POLL_ENTRY + 4, POLLIN, true);
    }
    this.#end = new Promise((resolve) => {
      this.#ended = resolve;
    });
    this.#next();
  }

  async end(): Promise<void> {
    if (!this.#ending) {
      this.#ending = true;
      this.#bell.ring();
    }
    await this.#end;
  }

  #next(): void {
    const wait = Math.max(0, Math.ceil(this.#lastLook + PROBE_INTERVAL - performance.now()));
    this.#poll([addressOf(this.#entries), 3, wait], () => this.#woken());
  }

  #woken(): void {
    let goOn = !this.#ending;
    const events = this.#view.getInt16(6, true);
    this.#view.setInt16(6, 0, true);
    const news = this.#view.getInt16(2 * POLL_ENTRY + 6, true) !== 0;
    if (news) this.#news?.drain();
    // A packet shows that the link is up before any news of that.
    const early = (events & POLLIN) !== 0 && this.#watcher.isDown();
    const due = early || news || performance.now() - this.#lastLook >= PROBE_INTERVAL || (events & ~POLLIN) !== 0;
    if (goOn && due) {
      this.#lastLook = performance.now();
      goOn = this.#watcher.look();
    }
    if (goOn && (events & POLLIN) !== 0) this.#watcher.readable();
    if (goOn && !this.#ending) {
      this.#next();
      return;
    }
    this.#ending = true;
    this.#bell.close();
    this.#news?.close();
    this.#ended();
  }
}
