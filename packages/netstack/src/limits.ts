/** Bounds on what remote hosts can make a stack hold. */
import type { IpAddress } from './address.ts';

/** What is kept of a request's packet, for an ICMP error to quote. */
export const QUOTE_LENGTH = 120;

export interface StackLimits {
  /** TCP connections of all kinds but TIME_WAIT. */
  readonly maxConnections: number;
  readonly maxConnectionsPerSource: number;
  /** Connections that others opened and that are not established yet, those waiting for `accept` included. */
  readonly maxHalfOpen: number;
  readonly maxHalfOpenPerSource: number;
  /** TIME_WAIT entries; the oldest give way. */
  readonly maxTimeWait: number;
  /** Flows accepted from the transparent UDP listener. */
  readonly maxUdpFlows: number;
  readonly maxUdpFlowsPerSource: number;
  /** Bytes of TCP stream buffers of all connections together. */
  readonly maxBufferBytes: number;
  /** The same of all connections that one source opened; below `maxBufferBytes`, a source also leaves room for others. */
  readonly maxBufferBytesPerSource: number;
}

export const DEFAULT_LIMITS: StackLimits = {
  maxConnections: 32_768,
  maxConnectionsPerSource: 16_384,
  maxHalfOpen: 4096,
  maxHalfOpenPerSource: 1024,
  maxTimeWait: 16_384,
  maxUdpFlows: 16_384,
  maxUdpFlowsPerSource: 4096,
  maxBufferBytes: 512 << 20,
  maxBufferBytesPerSource: 512 << 20,
};

/** What a remote address counts as: an IPv4 address, or an IPv6 /64, which one host commonly owns whole. */
export function defaultSourceKey(address: IpAddress): string | number {
  return address.family === 4 ? address.d : `${address.a}:${address.b}`;
}

/** Counts per source, holding only sources that count for something. */
export class SourceCounter {
  readonly #counts = new Map<string | number, number>();

  get size(): number {
    return this.#counts.size;
  }

  count(source: string | number): number {
    return this.#counts.get(source) ?? 0;
  }

  add(source: string | number): void {
    this.#counts.set(source, this.count(source) + 1);
  }

  remove(source: string | number): void {
    const left = this.count(source) - 1;
    if (left > 0) this.#counts.set(source, left);
    else this.#counts.delete(source);
  }
}
