import { STAGED_PACKETS } from './constants.ts';

/** Packets that wait for a session: copies, at most STAGED_PACKETS, the oldest goes first when one too many comes. */
export class StagingQueue {
  #packets: Uint8Array[] = [];

  get length(): number {
    return this.#packets.length;
  }

  /** Returns true when an older packet had to go. */
  push(packet: Uint8Array): boolean {
    const full = this.#packets.length >= STAGED_PACKETS;
    if (full) this.#packets.shift()?.fill(0);
    this.#packets.push(packet);
    return full;
  }

  /** Takes all packets out. */
  drain(): Uint8Array[] {
    const packets = this.#packets;
    this.#packets = [];
    return packets;
  }

  /** Erases the packets; returns how many there were. */
  clear(): number {
    const packets = this.drain();
    for (const packet of packets) packet.fill(0);
    return packets.length;
  }
}
