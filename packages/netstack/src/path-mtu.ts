/** What is known about the size of packets to each destination (RFC 1191, RFC 8201). */
import type { IpAddress } from './address.ts';
import { IPV6_MINIMUM_MTU } from './ip.ts';

/** Smaller claims are refused, as forged ones would cost more than they give; RFC 1191's own floor is 68. */
export const IPV4_MINIMUM_MTU = 552;
/** RFC 1191 §6.3, RFC 8201 §4: try a larger size again after 10 minutes. */
const FORGET_AFTER_MS = 600_000;
const MAX_ENTRIES = 1024;
/** RFC 1191 §7.1: sizes to try when an old router does not say which would fit. */
const PLATEAUS = [32000, 17914, 8166, 4352, 2002, 1492, 1006, IPV4_MINIMUM_MTU];

export class PathMtu {
  readonly #mtu: number;
  readonly #entries = new Map<string, { readonly mtu: number; readonly until: number }>();

  constructor(mtu: number) {
    this.#mtu = mtu;
  }

  /** The largest packet to `destination`, in bytes. */
  of(destination: IpAddress, now: number): number {
    if (this.#entries.size === 0) return this.#mtu;
    const key = destination.toString();
    const entry = this.#entries.get(key);
    if (entry === undefined) return this.#mtu;
    if (entry.until > now) return entry.mtu;
    this.#entries.delete(key);
    return this.#mtu;
  }

  /** Takes a claim that `mtu` is the limit, for a packet of `packetLength`; 0 asks for the next plateau. Returns the size in force. */
  lower(destination: IpAddress, mtu: number, packetLength: number, now: number): number {
    const current = this.of(destination, now);
    const claimed = mtu === 0 ? (PLATEAUS.find((size) => size < packetLength) ?? IPV4_MINIMUM_MTU) : mtu;
    const floor = destination.family === 4 ? IPV4_MINIMUM_MTU : IPV6_MINIMUM_MTU;
    const next = Math.max(claimed, Math.min(floor, this.#mtu));
    if (next >= current) return current;
    const key = destination.toString();
    this.#entries.delete(key);
    if (this.#entries.size >= MAX_ENTRIES) {
      for (const oldest of this.#entries.keys()) {
        this.#entries.delete(oldest);
        break;
      }
    }
    this.#entries.set(key, { mtu: next, until: now + FORGET_AFTER_MS });
    return next;
  }
}
