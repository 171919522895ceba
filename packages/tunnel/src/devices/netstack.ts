/**
 * A TCP/IP stack as a packet device. The lane sets the pace: each `read` lets the stack write its packets straight into
 * the lane's batch; only what the stack says outside of a `read` waits in a queue of its own. One timer follows the
 * stack's next deadline.
 */
import { IpAddress, type PacketSink, Stack, type StackOptions } from '@sealane/netstack';
import { HEADROOM, PacketBatch, TAILROOM } from '@sealane/protocol';
import { DeviceClosedError, type PacketDevice, type PacketDeviceNotices } from '../model.ts';

export interface StackDeviceOptions extends Omit<StackOptions, 'output' | 'random' | 'onPending' | 'addresses'> {
  /** For status. */
  readonly name: string;
  /** The stack's own addresses, 4 or 16 bytes each. */
  readonly addresses: readonly Uint8Array[];
}

/** What a socket does once the stack has finished its turn. */
export interface Deliverable {
  deliver(): void;
}

/** Rounds of events and answers within one read, so that a busy socket cannot hold the lane. */
const MAX_ROUNDS = 4;
const QUEUED_PACKETS = 512;
/** What sealing adds behind the padded packet. */
const TAG = 16;
const LONGEST_TIMEOUT = 2 ** 31 - 1;

export class StackDevice implements PacketDevice {
  readonly kind = 'netstack';
  readonly name: string;
  readonly mtu: number;
  readonly stack: Stack;
  /** The stack's own. */
  readonly addresses: readonly IpAddress[];
  readonly #sink: BatchSink;
  #deliverables: Deliverable[] = [];
  #notices: PacketDeviceNotices | undefined;
  #noticePending = false;
  /** Something waits for a flush. */
  #isPending = false;
  #isReading = false;
  #timer: NodeJS.Timeout | undefined;
  #timerAt = Infinity;
  #closed = false;

  constructor(options: StackDeviceOptions) {
    const { name, mtu, addresses, ...rest } = options;
    this.name = name;
    this.mtu = mtu;
    this.addresses = addresses.map(toIpAddress);
    this.#sink = new BatchSink(mtu);
    this.stack = new Stack({
      ...rest,
      mtu,
      addresses: this.addresses,
      output: this.#sink,
      random: (length) => crypto.getRandomValues(new Uint8Array(length)),
      onPending: () => this.#pend(),
    });
  }

  get isClosed(): boolean {
    return this.#closed;
  }

  read(batch: PacketBatch): number {
    if (this.#closed) throw new DeviceClosedError(`the device ${this.name} is closed`);
    this.#isReading = true;
    const sink = this.#sink;
    sink.begin(batch);
    for (let round = 0; round < MAX_ROUNDS; round++) {
      this.#isPending = false;
      const now = performance.now();
      const fits = this.stack.nextDeadline() <= now ? this.stack.tick(now) : this.stack.flush(now);
      if (!fits) this.#isPending = true;
      this.#deliver();
      if (!fits || !this.#isPending) break;
    }
    sink.end();
    this.#isReading = false;
    this.#arm();
    // The lane reads on until there is nothing: only a read without packets may leave something for a later turn.
    if (batch.count === 0 && this.#isPending && !this.#closed) this.#notify();
    return batch.count;
  }

  write(buffer: Uint8Array, offset: number, length: number): boolean {
    if (this.#closed) return false;
    this.stack.receive(buffer, offset, length, performance.now());
    // Acknowledgments and events wait for the packets that arrive with this one.
    this.#pend();
    return true;
  }

  start(notices: PacketDeviceNotices): void {
    this.#notices = notices;
    notices.link({ up: true, mtu: this.mtu });
    if (this.#isPending) this.#notify();
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#timer);
    const notices = this.#notices;
    this.#notices = undefined;
    if (notices !== undefined) setImmediate(() => notices.closed());
    this.#onClose?.();
  }

  /** Called once, when the device is closed. */
  set onClose(listener: () => void) {
    this.#onClose = listener;
  }
  #onClose: (() => void) | undefined;

  /** Has something delivered once the stack has finished its turn: user code never runs inside the stack. */
  schedule(deliverable: Deliverable): void {
    this.#deliverables.push(deliverable);
    if (!this.#isReading) this.#pend();
  }

  #deliver(): void {
    const deliverables = this.#deliverables;
    if (deliverables.length === 0) return;
    this.#deliverables = [];
    for (const deliverable of deliverables) {
      try {
        deliverable.deliver();
      } catch (error) {
        // As with node:net, what a listener throws is the process's uncaught exception.
        process.nextTick(() => {
          throw error;
        });
      }
    }
  }

  #pend(): void {
    this.#isPending = true;
    if (!this.#isReading) this.#notify();
  }

  #notify(): void {
    if (this.#noticePending || this.#notices === undefined) return;
    this.#noticePending = true;
    setImmediate(() => {
      this.#noticePending = false;
      this.#notices?.readable();
    });
  }

  /** A deadline that moved back leaves the timer as it is: waking for nothing is cheaper than arming per packet. */
  #arm(): void {
    const at = this.stack.nextDeadline();
    if (at >= this.#timerAt || this.#closed) return;
    clearTimeout(this.#timer);
    this.#timerAt = at;
    const delay = Math.min(LONGEST_TIMEOUT, Math.max(1, Math.ceil(at - performance.now())));
    this.#timer = setTimeout(() => {
      this.#timerAt = Infinity;
      if (this.stack.nextDeadline() <= performance.now()) this.#pend();
      else this.#arm();
    }, delay);
  }
}

export function toIpAddress(bytes: Uint8Array): IpAddress {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return bytes.length === 4
    ? new IpAddress(0, 0, 0xffff, view.getInt32(0))
    : new IpAddress(view.getInt32(0), view.getInt32(4), view.getInt32(8), view.getInt32(12));
}

/** Writes into the lane's batch while there is one, else into a bounded queue that the next batch begins with. */
class BatchSink implements PacketSink {
  buffer: Uint8Array;
  readonly #mtu: number;
  #batch: PacketBatch;
  #end = 0;
  readonly #queue: PacketBatch;
  #queueEnd = 0;
  /** Packets of the queue that went out already. */
  #taken = 0;

  constructor(mtu: number) {
    this.#mtu = mtu;
    this.#queue = new PacketBatch(new Uint8Array(QUEUED_PACKETS * (HEADROOM + mtu + TAILROOM)), QUEUED_PACKETS);
    this.#batch = this.#queue;
    this.buffer = this.#queue.buffer;
  }

  begin(batch: PacketBatch): void {
    const queue = this.#queue;
    let end = 0;
    while (this.#taken < queue.count && batch.count < batch.capacity) {
      const from = queue.offsets[this.#taken]!;
      const length = queue.lengths[this.#taken]!;
      const offset = end + HEADROOM;
      if (offset + length + TAILROOM > batch.buffer.length) break;
      batch.buffer.set(queue.buffer.subarray(from, from + length), offset);
      batch.push(offset, length);
      end = this.#sealedEnd(offset, length);
      this.#taken++;
    }
    if (this.#taken === queue.count) {
      queue.clear();
      this.#taken = 0;
      this.#queueEnd = 0;
    }
    this.#batch = batch;
    this.buffer = batch.buffer;
    this.#end = end;
  }

  end(): void {
    this.#batch = this.#queue;
    this.buffer = this.#queue.buffer;
    this.#end = this.#queueEnd;
  }

  reserve(maxLength: number): number {
    const offset = this.#end + HEADROOM;
    const isFull =
      this.#batch.count === this.#batch.capacity || offset + maxLength + TAILROOM > this.#batch.buffer.length;
    return isFull ? -1 : offset;
  }

  commit(offset: number, length: number): void {
    this.#batch.push(offset, length);
    this.#end = this.#sealedEnd(offset, length);
    if (this.#batch === this.#queue) this.#queueEnd = this.#end;
  }

  /** Sealed, full packets then lie without a gap: a row of them can leave in one call. */
  #sealedEnd(offset: number, length: number): number {
    const padded = Math.max(length, Math.min(this.#mtu, (length + 15) & ~15));
    return offset + padded + TAG;
  }
}
