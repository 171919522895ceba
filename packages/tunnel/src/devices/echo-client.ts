import { randomBytes } from 'node:crypto';
import { PacketBatch } from '@sealane/protocol';
import { DeviceClosedError } from '../model.ts';
import type { PacketDevice } from '../model.ts';
import { echoOverhead, parseEcho, writeEchoRequest } from './echo-packet.ts';
import type { Echo } from './echo-packet.ts';

export interface EchoClientOptions {
  /** The far end of a memory pair; the client owns it from here on. */
  readonly device: PacketDevice;
  /** Our addresses, 4 or 16 bytes each: one family is enough to ping targets of that family. */
  readonly addresses: readonly Uint8Array[];
}

export interface PingOptions {
  readonly target: Uint8Array;
  /** Payload bytes; 56 by default. */
  readonly size?: number;
  /** Milliseconds to wait for the reply; 5000 by default. */
  readonly timeoutMs?: number;
}

export interface BulkOptions extends PingOptions {
  /** Payload bytes to send in all; the last packet may be short. */
  readonly bytes: number;
  /** Requests that may be unanswered at a time; 64 by default. */
  readonly window?: number;
  /** Called now and then with the payload bytes that came back right. */
  readonly onProgress?: (bytes: number) => void;
}

export interface BulkResult {
  /** Payload bytes that came back as they were sent; every one crossed the tunnel twice. */
  readonly bytes: number;
  readonly packets: number;
  readonly lost: number;
  /** Replies whose content differs from what was sent, or that nobody waited for (duplicates). */
  readonly wrong: number;
  readonly elapsedMs: number;
}

interface Outstanding {
  readonly sentAt: number;
  readonly payload: Uint8Array;
  readonly deadline: number;
  readonly settle: (rttMs: number | undefined) => void;
}

const BATCH_PACKETS = 64;
const BATCH_BYTES = 2 ** 18;
const SEQUENCES = 2 ** 16;
const EXPIRY_INTERVAL = 50;
const PROGRESS_INTERVAL = 50;

/** Sends ICMP and ICMPv6 echo requests into a packet device and checks every reply byte for byte. */
export class EchoClient {
  readonly #device: PacketDevice;
  readonly #addresses: readonly Uint8Array[];
  readonly #inbound = new PacketBatch(new Uint8Array(BATCH_BYTES), BATCH_PACKETS);
  readonly #outbound = new DataView(new ArrayBuffer(65_536));
  readonly #id = randomBytes(2).readUInt16BE();
  readonly #outstanding = new Map<number, Outstanding>();
  readonly #expiry: NodeJS.Timeout;
  #sequence = 0;
  #wrong = 0;
  #closed = false;

  constructor(options: EchoClientOptions) {
    this.#device = options.device;
    this.#addresses = options.addresses;
    this.#expiry = setInterval(() => this.#expire(), EXPIRY_INTERVAL).unref();
    this.#device.start({
      readable: () => this.#receive(),
      link: () => undefined,
      closed: () => this.#abandon(),
    });
  }

  /** The largest payload that fits the device for this target, in bytes. */
  largestPayload(target: Uint8Array): number {
    return this.#device.mtu - echoOverhead(target.length === 4 ? 4 : 6);
  }

  /** Round trip time in milliseconds, or undefined when no right reply came in time. */
  ping(options: PingOptions): Promise<number | undefined> {
    const { target, size = 56, timeoutMs = 5000 } = options;
    this.#check(target, size);
    const payload = new Uint8Array(randomBytes(size));
    return new Promise((resolve) => {
      if (!this.#send(target, payload, timeoutMs, resolve)) resolve(undefined);
    });
  }

  /** Sends `bytes` as echo requests, never twice, with at most `window` unanswered at a time. */
  async bulk(options: BulkOptions): Promise<BulkResult> {
    const { target, bytes, size = this.largestPayload(target), window = 64, timeoutMs = 2000, onProgress } = options;
    this.#check(target, size);
    if (!Number.isInteger(window) || window < 1 || window > SEQUENCES / 2) {
      throw new RangeError(`window must be 1 to ${SEQUENCES / 2}, got ${window}`);
    }
    const pool = new Uint8Array(randomBytes(size + SEQUENCES));
    const began = performance.now();
    const wrongBefore = this.#wrong;
    let [packets, left, right, lost, reportedAt] = [0, bytes, 0, 0, 0];

    await new Promise<void>((resolve) => {
      let unanswered = 0;
      const settled = (length: number, rttMs: number | undefined): void => {
        unanswered--;
        if (rttMs === undefined) lost++;
        else right += length;
        const now = performance.now();
        if (onProgress !== undefined && now - reportedAt >= PROGRESS_INTERVAL) {
          reportedAt = now;
          onProgress(right);
        }
        fill();
      };
      const fill = (): void => {
        while (left > 0 && unanswered < window && !this.#closed) {
          const length = Math.min(size, left);
          const from = packets % SEQUENCES;
          const payload = pool.subarray(from, from + length);
          if (!this.#send(target, payload, timeoutMs, (rttMs) => settled(length, rttMs))) break;
          unanswered++;
          packets++;
          left -= length;
        }
        if (unanswered > 0) return;
        if (left > 0 && !this.#closed) setImmediate(fill);
        else resolve();
      };
      fill();
    });

    onProgress?.(right);
    return { bytes: right, packets, lost, wrong: this.#wrong - wrongBefore, elapsedMs: performance.now() - began };
  }

  async close(): Promise<void> {
    this.#abandon();
    await this.#device.close();
  }

  #check(target: Uint8Array, size: number): void {
    if (this.#sourceFor(target) === undefined) {
      throw new RangeError(`target is an IPv${target.length === 4 ? 4 : 6} address, and we have none of that family`);
    }
    const largest = this.largestPayload(target);
    if (!Number.isInteger(size) || size < 0 || size > largest) {
      throw new RangeError(`size must be 0 to ${largest} bytes, got ${size}`);
    }
  }

  #sourceFor(target: Uint8Array): Uint8Array | undefined {
    return this.#addresses.find((address) => address.length === target.length);
  }

  #send(
    target: Uint8Array,
    payload: Uint8Array,
    timeoutMs: number,
    settle: (rttMs: number | undefined) => void,
  ): boolean {
    const source = this.#sourceFor(target);
    const sequence = this.#sequence;
    if (this.#closed || source === undefined || this.#outstanding.has(sequence)) return false;
    const length = writeEchoRequest(this.#outbound, 0, source, target, this.#id, sequence, payload);
    const sentAt = performance.now();
    if (!this.#device.write(new Uint8Array(this.#outbound.buffer), 0, length)) return false;
    this.#sequence = (sequence + 1) % SEQUENCES;
    this.#outstanding.set(sequence, { sentAt, payload, deadline: sentAt + timeoutMs, settle });
    return true;
  }

  #receive(): void {
    const batch = this.#inbound;
    try {
      for (;;) {
        batch.clear();
        if (this.#device.read(batch) === 0) return;
        for (let i = 0; i < batch.count; i++) {
          const echo = parseEcho(batch.view, batch.offsets[i]!, batch.lengths[i]!);
          if (echo?.kind === 'reply' && echo.id === this.#id) this.#settle(echo);
        }
      }
    } catch (error) {
      if (!(error instanceof DeviceClosedError)) throw error;
    }
  }

  #settle(echo: Echo): void {
    const waiting = this.#outstanding.get(echo.sequence);
    const content = this.#inbound.buffer.subarray(echo.payloadOffset, echo.payloadOffset + echo.payloadLength);
    if (waiting === undefined || Buffer.compare(content, waiting.payload) !== 0) {
      this.#wrong++;
      return;
    }
    this.#outstanding.delete(echo.sequence);
    waiting.settle(performance.now() - waiting.sentAt);
  }

  #expire(): void {
    const now = performance.now();
    for (const [sequence, waiting] of this.#outstanding) {
      if (waiting.deadline > now) continue;
      this.#outstanding.delete(sequence);
      waiting.settle(undefined);
    }
  }

  #abandon(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearInterval(this.#expiry);
    for (const waiting of this.#outstanding.values()) waiting.settle(undefined);
    this.#outstanding.clear();
  }
}
