/** From a configuration to what a running tunnel takes. */
import { lookup } from 'node:dns/promises';
import { type Endpoint, formatKey, type PeerUpdate, REKEY_AFTER_TIME } from '@sealane/protocol';
import { parseAddress, parseEndpoint, parsePort } from '../ip-text.ts';
import type { TunnelUpdate } from '../model.ts';
import type { PeerConfig, TunnelConfig } from './model.ts';
import { errorCode, errorMessage } from '../os-error.ts';

/** Endpoint texts of a configuration with the addresses that they stand for, in the system's order of preference. */
export type ResolvedEndpoints = ReadonlyMap<string, readonly Endpoint[]>;

/** A name that has no address now; it may have one later. */
export class ResolveError extends Error {
  override readonly name = 'ResolveError';
}

/**
 * Looks up every endpoint of the configuration. A name that fails is left out as long as its peer has another
 * endpoint; otherwise a ResolveError says which name and why.
 */
export async function resolveEndpoints(config: TunnelConfig): Promise<ResolvedEndpoints> {
  const texts = [...new Set(config.peers.flatMap((peer) => peer.endpoints))];
  const results = await Promise.allSettled(texts.map(resolveEndpoint));
  const resolved = new Map<string, readonly Endpoint[]>();
  const failures = new Map<string, unknown>();
  results.forEach((result, i) => {
    if (result.status === 'fulfilled') resolved.set(texts[i]!, result.value);
    else failures.set(texts[i]!, result.reason);
  });
  for (const peer of config.peers) {
    if (peer.endpoints.length > 0 && !peer.endpoints.some((text) => resolved.has(text))) {
      throw failures.get(peer.endpoints[0]!);
    }
  }
  return resolved;
}

/** Looks up one endpoint, `host:port` or a literal; ResolveError when the name has no address. */
export async function resolveEndpoint(text: string): Promise<readonly Endpoint[]> {
  const literal = parseEndpoint(text);
  if (literal !== undefined) return [literal];
  if (text.includes('%')) throw new ResolveError(`cannot resolve endpoint ${text}: there is no such interface`);
  const colon = text.lastIndexOf(':');
  const host = text.slice(0, colon);
  const port = parsePort(text.slice(colon + 1));
  if (colon <= 0 || port === undefined) throw new TypeError(`endpoint: '${text}' is not of the form host:port`);
  try {
    const found = await lookup(host, { all: true });
    return found.flatMap(({ address }) => {
      const bytes = parseAddress(address);
      return bytes === undefined ? [] : [{ address: bytes, port, scopeId: 0 }];
    });
  } catch (cause) {
    const code = errorCode(cause) ?? errorMessage(cause);
    const why =
      code === 'ENOTFOUND'
        ? 'the name has no address; check its spelling'
        : code === 'EAI_AGAIN'
          ? 'no name server answers; check the network'
          : code;
    throw new ResolveError(`cannot resolve endpoint ${text}: ${why}`, { cause });
  }
}

/** Every address that a peer may be reached at, the preferred one first. */
export function peerEndpoints(peer: PeerConfig, resolved: ResolvedEndpoints): readonly Endpoint[] {
  return peer.endpoints.flatMap((text) => resolved.get(text) ?? []);
}

/**
 * The whole configuration as one change: peers that it does not name go, what it does not set returns to its default.
 * Sessions of peers that stay are not touched. The interface's own settings (addresses, MTU, routes) are not in it.
 */
export function toUpdate(config: TunnelConfig, resolved: ResolvedEndpoints): TunnelUpdate {
  const { privateKey, listenPort, fwmark, rekeyInterval } = config.interface;
  return {
    privateKey,
    ...(listenPort === undefined ? {} : { listenPort }),
    fwmark: fwmark ?? 0,
    replacePeers: true,
    peers: config.peers.map((peer) => toPeerUpdate(peer, rekeyInterval, resolved)),
  };
}

function toPeerUpdate(peer: PeerConfig, defaultInterval: number | undefined, resolved: ResolvedEndpoints): PeerUpdate {
  const endpoint = peerEndpoints(peer, resolved)[0];
  const seconds = peer.rekeyInterval ?? defaultInterval;
  return {
    publicKey: peer.publicKey,
    presharedKey: peer.presharedKey ?? new Uint8Array(32),
    ...(endpoint === undefined ? {} : { endpoint }),
    persistentKeepalive: peer.persistentKeepalive ?? 0,
    replaceAllowedIps: true,
    allowedIps: peer.allowedIps,
    rekeyInterval: seconds === undefined ? REKEY_AFTER_TIME : seconds * 1_000,
    cipherSuite: peer.cipher ?? 'chacha20poly1305',
    postQuantum: (peer.postQuantum ?? 0) * 1_000,
  };
}

/** What a message calls a peer: its name, else the beginning of its public key. */
export function peerLabel(peer: PeerConfig): string {
  return peer.name ?? `${formatKey(peer.publicKey).slice(0, 8)}...`;
}
