/** What a packet thread waits for, by poll(2): its bell, its queue of the interface, its sockets, and news of links where it follows them. */
import { addressOf, foreign, type ForeignFunction } from '../linux/foreign.ts';
import { lowBuffer } from '../linux/low-memory.ts';
import type { LinuxUdp } from '../linux/udp.ts';

/** Milliseconds: the pause after a turn of nothing but faults. */
const FAULT_PAUSE = 10;
const POLLIN = 1;
/** struct pollfd: descriptor, events that are asked for, events that there are. */
const ENTRY = 8;
const REQUESTED = 4;
const RETURNED = 6;
const BELL_BYTES = 8;

/** Where the descriptors stand. */
export const WAITED = { bell: 0, interface: 1, udp4: 2, udp6: 3, news: 4 } as const;
const ENTRIES = 5;

export class LanePoll {
  readonly #bell: number;
  readonly #poll: ForeignFunction = foreign('int poll(uintptr_t, unsigned long, int)');
  readonly #read: ForeignFunction = foreign('long read(int, uintptr_t, size_t)');
  /** The entries; what the bell is read into stands behind. */
  readonly #entries: DataView = new DataView(lowBuffer(ENTRIES * ENTRY + BELL_BYTES));
  readonly #at: number = addressOf(new Uint8Array(this.#entries.buffer));

  constructor(descriptors: { readonly bell: number; readonly tun: number; readonly news?: number }) {
    this.#bell = descriptors.bell;
    this.#watch(WAITED.bell, descriptors.bell);
    this.#watch(WAITED.interface, descriptors.tun);
    this.#watch(WAITED.news, descriptors.news);
    for (let i = 0; i < ENTRIES; i++) this.#entries.setUint32(i * ENTRY + REQUESTED, POLLIN, true);
  }

  /** Waits for all of it and these sockets, for ever when `milliseconds` is -1; returns how many have something. */
  wait(udp4: LinuxUdp | undefined, udp6: LinuxUdp | undefined, milliseconds: number): number {
    this.#watch(WAITED.udp4, udp4?.fd);
    this.#watch(WAITED.udp6, udp6?.fd);
    return this.#poll(this.#at, ENTRIES, milliseconds);
  }

  /** Whether the last wait found something there. */
  has(entry: number): boolean {
    return this.#entries.getUint16(entry * ENTRY + RETURNED, true) !== 0;
  }

  /** Takes the rings that there were. */
  silenceBell(): void {
    this.#read(this.#bell, this.#at + ENTRIES * ENTRY, BELL_BYTES);
  }

  /** A fault that lasts must not keep a core busy: waits a moment for the bell alone. */
  rest(): void {
    this.#poll(this.#at, 1, FAULT_PAUSE);
  }

  /** The interface is gone, which would always be news. */
  ignoreInterface(): void {
    this.#watch(WAITED.interface, undefined);
  }

  #watch(entry: number, fd = -1): void {
    this.#entries.setInt32(entry * ENTRY, fd, true);
  }
}
