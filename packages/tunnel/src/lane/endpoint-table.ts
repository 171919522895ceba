import { networkInterfaces } from 'node:os';
import type { Endpoint } from '@sealane/protocol';
import { formatAddress, parseAddress } from '../ip-text.ts';

/** Remembered sources; a flood of spoofed ones costs a new start, never memory. */
const MOST_ENDPOINTS = 4096;

/**
 * Between the addresses of node:dgram (text) and the endpoints of the core. The same source gets the same object, so
 * that the core sees by reference that a peer did not move.
 */
export class EndpointTable {
  readonly #known = new Map<string, Endpoint>();
  #texts = new WeakMap<Endpoint, string>();
  /** Every `address port` that was sent to, for `wasSentTo`. */
  readonly #targets = new Set<string>();
  #lastAddress = '';
  #lastPort = -1;
  #last: Endpoint | undefined;

  /** The endpoint of a source address as dgram writes it (`fe80::1%eth0` has its zone); undefined if it is no address. */
  intern(address: string, port: number): Endpoint | undefined {
    if (port === this.#lastPort && address === this.#lastAddress) return this.#last;
    const key = keyOf(address, port);
    let endpoint = this.#known.get(key);
    if (endpoint === undefined) {
      endpoint = parse(address, port);
      if (endpoint === undefined) return undefined;
      if (this.#known.size >= MOST_ENDPOINTS) this.#known.clear();
      this.#known.set(key, endpoint);
    }
    this.#lastAddress = address;
    this.#lastPort = port;
    this.#last = endpoint;
    return endpoint;
  }

  /** The address text that dgram sends to. */
  target(endpoint: Endpoint): string {
    let text = this.#texts.get(endpoint);
    if (text === undefined) {
      if (this.#targets.size >= MOST_ENDPOINTS) {
        // Both start anew, so that endpoints still in use come back into the set.
        this.#targets.clear();
        this.#texts = new WeakMap();
      }
      const address = formatAddress(endpoint.address);
      text = endpoint.scopeId === 0 ? address : `${address}%${zoneOf(endpoint.scopeId)}`;
      this.#texts.set(endpoint, text);
      this.#targets.add(keyOf(address, endpoint.port));
    }
    return text;
  }

  /** True when a datagram went to this address (4 or 16 bytes) and port. */
  wasSentTo(address: Uint8Array, port: number): boolean {
    return this.#targets.has(keyOf(formatAddress(address), port));
  }
}

function keyOf(address: string, port: number): string {
  return `${address} ${port}`;
}

function parse(text: string, port: number): Endpoint | undefined {
  const percent = text.indexOf('%');
  const address = parseAddress(percent < 0 ? text : text.slice(0, percent));
  if (address === undefined) return undefined;
  return { address, port, scopeId: percent < 0 ? 0 : scopeOf(text.slice(percent + 1)) };
}

function scopeOf(zone: string): number {
  if (/^\d+$/.test(zone)) return Number(zone);
  return networkInterfaces()[zone]?.find((entry) => entry.family === 'IPv6' && entry.scopeid > 0)?.scopeid ?? 0;
}

function zoneOf(scopeId: number): string {
  for (const [name, entries] of Object.entries(networkInterfaces())) {
    if (entries?.some((entry) => entry.family === 'IPv6' && entry.scopeid === scopeId) === true) return name;
  }
  return String(scopeId);
}
