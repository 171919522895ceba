import type { PacketDevice } from '../model.ts';
import { icmpUnreachable } from './icmp.ts';
import { PacketMemory } from './offload/memory.ts';

/** No answer repeats more of a packet. */
const MOST_QUOTED = 1280;
const PACKET = 64;
const ANSWER = 2048;
const ROOM = 4096;
const ANSWERS_PER_SECOND = 100;

/** Tells senders behind the packet device that no peer takes their packets, at a bounded rate (RFC 1812 section 4.3.2.8). */
export class UnreachableAnswers {
  readonly #device: PacketDevice;
  readonly #memory = new PacketMemory(ROOM);
  #second = -1;
  #left = 0;

  constructor(device: PacketDevice) {
    this.#device = device;
  }

  /** Answers the packet of `length` bytes at `offset`; `now` is monotonic milliseconds. */
  answer(buffer: Uint8Array, offset: number, length: number, now: number): void {
    const second = Math.floor(now / 1000);
    if (second !== this.#second) {
      this.#second = second;
      this.#left = ANSWERS_PER_SECOND;
    }
    if (this.#left === 0) return;
    const quoted = Math.min(length, MOST_QUOTED);
    this.#memory.bytes.set(buffer.subarray(offset, offset + quoted), PACKET);
    const size = icmpUnreachable(this.#memory, PACKET, quoted, ANSWER);
    if (size === 0) return;
    this.#left -= 1;
    this.#device.write(this.#memory.bytes, ANSWER, size);
  }
}
