import { HEADROOM, TAILROOM } from '@sealane/protocol';
import type { PacketBatch } from '@sealane/protocol';
import { DeviceClosedError } from '../model.ts';
import type { PacketDevice, PacketDeviceNotices } from '../model.ts';

export interface MemoryPairOptions {
  /** Bytes of the largest IP packet, 1 to 65535; 1420 by default. */
  readonly mtu?: number;
  /** For status. */
  readonly name?: string;
}

/** Bytes that one direction may hold; a pair never allocates more than twice this and one packet each. */
const QUEUE_BYTES = 2 ** 21;
const MOST_PACKETS = 1024;
const FEWEST_PACKETS = 16;

/**
 * Two packet devices of this process: what one writes the other reads, in order and without loss.
 * A full queue refuses the write, so that the writer can wait; closing either end closes both.
 */
export function memoryPair(options: MemoryPairOptions = {}): [PacketDevice, PacketDevice] {
  const { mtu = 1420, name = 'memory' } = options;
  if (!Number.isInteger(mtu) || mtu < 1 || mtu > 65_535) throw new RangeError(`mtu must be 1 to 65535, got ${mtu}`);
  const there = new PacketQueue(mtu);
  const back = new PacketQueue(mtu);
  const first = new MemoryDevice(name, mtu, back, there);
  const second = new MemoryDevice(name, mtu, there, back);
  first.join(second);
  second.join(first);
  return [first, second];
}

class MemoryDevice implements PacketDevice {
  readonly kind = 'memory';
  readonly name: string;
  readonly mtu: number;
  readonly #inbox: PacketQueue;
  readonly #outbox: PacketQueue;
  #other: MemoryDevice | undefined;
  #notices: PacketDeviceNotices | undefined;
  #noticePending = false;
  #closed = false;

  constructor(name: string, mtu: number, inbox: PacketQueue, outbox: PacketQueue) {
    this.name = name;
    this.mtu = mtu;
    this.#inbox = inbox;
    this.#outbox = outbox;
  }

  join(other: MemoryDevice): void {
    this.#other = other;
  }

  read(batch: PacketBatch): number {
    if (this.#closed) throw new DeviceClosedError(`the device ${this.name} is closed`);
    return this.#inbox.moveInto(batch);
  }

  write(buffer: Uint8Array, offset: number, length: number): boolean {
    if (this.#closed || !this.#outbox.push(buffer, offset, length)) return false;
    this.#other?.notify();
    return true;
  }

  start(notices: PacketDeviceNotices): void {
    this.#notices = notices;
    notices.link({ up: true, mtu: this.mtu });
    if (!this.#inbox.empty) this.notify();
  }

  async close(): Promise<void> {
    this.shut();
    this.#other?.shut();
  }

  /** Tells the reader once for all packets that arrive before it gets its turn. */
  notify(): void {
    if (this.#noticePending || this.#notices === undefined) return;
    this.#noticePending = true;
    setImmediate(() => {
      this.#noticePending = false;
      if (!this.#closed) this.#notices?.readable();
    });
  }

  /** Ends this end only. */
  shut(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#inbox.clear();
    const notices = this.#notices;
    this.#notices = undefined;
    if (notices !== undefined) setImmediate(() => notices.closed());
  }
}

/** A bounded first-in first-out queue of packets in one allocation. */
class PacketQueue {
  readonly #slotLength: number;
  readonly #slots: number;
  readonly #lengths: Uint32Array;
  #bytes: Uint8Array | undefined;
  #head = 0;
  #count = 0;

  constructor(mtu: number) {
    this.#slotLength = mtu;
    this.#slots = Math.max(FEWEST_PACKETS, Math.min(MOST_PACKETS, Math.floor(QUEUE_BYTES / mtu)));
    this.#lengths = new Uint32Array(this.#slots);
  }

  get empty(): boolean {
    return this.#count === 0;
  }

  push(buffer: Uint8Array, offset: number, length: number): boolean {
    if (this.#count === this.#slots || length > this.#slotLength) return false;
    this.#bytes ??= new Uint8Array(this.#slots * this.#slotLength);
    const slot = (this.#head + this.#count) % this.#slots;
    this.#bytes.set(buffer.subarray(offset, offset + length), slot * this.#slotLength);
    this.#lengths[slot] = length;
    this.#count++;
    return true;
  }

  moveInto(batch: PacketBatch): number {
    const bytes = this.#bytes;
    let end = 0;
    while (bytes !== undefined && this.#count > 0 && batch.count < batch.capacity) {
      const length = this.#lengths[this.#head]!;
      const offset = end + HEADROOM;
      end = offset + length + TAILROOM;
      if (end > batch.buffer.length) break;
      const from = this.#head * this.#slotLength;
      batch.buffer.set(bytes.subarray(from, from + length), offset);
      batch.push(offset, length);
      this.#head = (this.#head + 1) % this.#slots;
      this.#count--;
    }
    return batch.count;
  }

  clear(): void {
    this.#bytes?.fill(0);
    this.#bytes = undefined;
    this.#count = 0;
  }
}
