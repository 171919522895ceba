import { createSocket, type Socket } from 'node:dgram';
import { networkInterfaces } from 'node:os';
import type { Endpoint } from '@sealane/protocol';
import { formatAddress } from '@sealane/tunnel';
import { errorCode } from '../errors.ts';

const PROBE_INTERVAL = 1_000;

/** What the network itself says about an endpoint. */
export type Refusal = 'refused' | 'network-unreachable' | 'host-unreachable' | 'forbidden';

const REFUSALS: ReadonlyMap<string, Refusal> = new Map([
  ['ECONNREFUSED', 'refused'],
  ['ENETUNREACH', 'network-unreachable'],
  ['EADDRNOTAVAIL', 'network-unreachable'],
  ['EHOSTUNREACH', 'host-unreachable'],
  ['EACCES', 'forbidden'],
  ['EPERM', 'forbidden'],
]);

/**
 * Listens for ICMP errors: only a connected UDP socket is told of them. It sends one byte a second, which a WireGuard
 * peer drops as malformed. Calls back once at most.
 */
export class ReachabilityProbe {
  readonly #socket: Socket;
  readonly #onRefusal: (refusal: Refusal) => void;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(endpoint: Endpoint, onRefusal: (refusal: Refusal) => void) {
    this.#onRefusal = onRefusal;
    this.#socket = createSocket(endpoint.address.length === 4 ? 'udp4' : 'udp6');
    this.#socket.on('error', (error) => this.#failed(error));
    this.#socket.connect(endpoint.port, hostOf(endpoint), (error?: Error) => {
      if (error !== undefined && error !== null) this.#failed(error);
      else if (!this.#closed) this.#begin();
    });
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearInterval(this.#timer);
    this.#socket.close();
  }

  #begin(): void {
    const probe = (): void => this.#socket.send(Uint8Array.of(0), (error) => (error ? this.#failed(error) : undefined));
    probe();
    this.#timer = setInterval(probe, PROBE_INTERVAL);
  }

  #failed(error: Error): void {
    const refusal = REFUSALS.get(errorCode(error) ?? '');
    if (this.#closed || refusal === undefined) return;
    this.close();
    this.#onRefusal(refusal);
  }
}

function hostOf({ address, scopeId }: Endpoint): string {
  const host = formatAddress(address);
  if (scopeId === 0) return host;
  const scope = Object.entries(networkInterfaces()).find(([, entries]) =>
    entries?.some((entry) => entry.family === 'IPv6' && entry.scopeid === scopeId),
  );
  return `${host}%${scope?.[0] ?? scopeId}`;
}
