/** A hash table from four-tuples to whatever serves them. */
import type { IpAddress } from './address.ts';

/** What identifies a flow, seen from this stack. */
export interface FlowKey {
  readonly local: IpAddress;
  readonly localPort: number;
  readonly remote: IpAddress;
  readonly remotePort: number;
}

/** Something filed in a table; the last two fields are the table's own. */
export interface FlowEntry extends FlowKey {
  flowHash: number;
  nextInSlot: FlowEntry | undefined;
}

const INITIAL_SLOTS = 64;

export class FlowTable<T extends FlowEntry> {
  readonly #seed: number;
  #slots: (T | undefined)[] = Array.from({ length: INITIAL_SLOTS }, () => undefined);
  #size = 0;

  /** `seed` is 32 random bits, so that a peer cannot aim for one slot. */
  constructor(seed: number) {
    this.#seed = seed;
  }

  get size(): number {
    return this.#size;
  }

  /** The entry for a local address and port and a remote one, addresses as words. */
  find(
    l0: number,
    l1: number,
    l2: number,
    l3: number,
    localPort: number,
    r0: number,
    r1: number,
    r2: number,
    r3: number,
    remotePort: number,
  ): T | undefined {
    const hash = flowHash(this.#seed, l0, l1, l2, l3, localPort, r0, r1, r2, r3, remotePort);
    let entry = this.#slots[hash & (this.#slots.length - 1)];
    while (entry !== undefined) {
      if (entry.flowHash === hash && entry.localPort === localPort && entry.remotePort === remotePort) {
        const { local, remote } = entry;
        if (
          remote.d === r3 &&
          local.d === l3 &&
          remote.c === r2 &&
          local.c === l2 &&
          remote.b === r1 &&
          local.b === l1 &&
          remote.a === r0 &&
          local.a === l0
        ) {
          return entry;
        }
      }
      entry = entry.nextInSlot as T | undefined;
    }
    return undefined;
  }

  findKey(key: FlowKey): T | undefined {
    const { local, remote } = key;
    return this.find(
      local.a,
      local.b,
      local.c,
      local.d,
      key.localPort,
      remote.a,
      remote.b,
      remote.c,
      remote.d,
      key.remotePort,
    );
  }

  /** Files `entry`; its tuple must not be in the table. */
  add(entry: T): void {
    const { local, remote } = entry;
    entry.flowHash = flowHash(
      this.#seed,
      local.a,
      local.b,
      local.c,
      local.d,
      entry.localPort,
      remote.a,
      remote.b,
      remote.c,
      remote.d,
      entry.remotePort,
    );
    this.#size++;
    if (this.#size > this.#slots.length) this.#grow();
    const slot = entry.flowHash & (this.#slots.length - 1);
    entry.nextInSlot = this.#slots[slot];
    this.#slots[slot] = entry;
  }

  /** Takes `entry` out, if it is in. */
  delete(entry: T): void {
    const slot = entry.flowHash & (this.#slots.length - 1);
    let previous: FlowEntry | undefined;
    for (let other: FlowEntry | undefined = this.#slots[slot]; other !== undefined; other = other.nextInSlot) {
      if (other === entry) {
        if (previous === undefined) this.#slots[slot] = entry.nextInSlot as T | undefined;
        else previous.nextInSlot = entry.nextInSlot;
        entry.nextInSlot = undefined;
        this.#size--;
        return;
      }
      previous = other;
    }
  }

  #grow(): void {
    const old = this.#slots;
    const slots: (T | undefined)[] = Array.from({ length: old.length * 2 }, () => undefined);
    for (const first of old) {
      for (let entry = first; entry !== undefined;) {
        const next = entry.nextInSlot as T | undefined;
        const slot = entry.flowHash & (slots.length - 1);
        entry.nextInSlot = slots[slot];
        slots[slot] = entry;
        entry = next;
      }
    }
    this.#slots = slots;
  }
}

/** The mixing steps of MurmurHash3 (public domain) over the tuple's words. */
function flowHash(
  seed: number,
  l0: number,
  l1: number,
  l2: number,
  l3: number,
  localPort: number,
  r0: number,
  r1: number,
  r2: number,
  r3: number,
  remotePort: number,
): number {
  let h = mix(seed, (localPort << 16) | remotePort);
  h = mix(h, r3);
  h = mix(h, l3);
  if (r2 !== 0xffff || l2 !== 0xffff || r1 !== 0 || r0 !== 0) {
    h = mix(mix(mix(h, r2), r1), r0);
    h = mix(mix(mix(h, l2), l1), l0);
  }
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}

function mix(hash: number, word: number): number {
  let k = Math.imul(word, 0xcc9e2d51);
  k = (k << 15) | (k >>> 17);
  const h = hash ^ Math.imul(k, 0x1b873593);
  return (Math.imul((h << 13) | (h >>> 19), 5) + 0xe6546b64) | 0;
}
