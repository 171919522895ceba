import type { Prefix } from '@sealane/protocol';
import { formatAddress, maskPrefix, parseAddress, type PeerConfig, type TunnelConfig } from '@sealane/tunnel';
import { badInput } from '../errors.ts';
import { covers } from '../system/routes.ts';

export interface PingTarget {
  readonly address: Uint8Array;
  /** The peer that owns the address by the longest prefix. */
  readonly peer: PeerConfig;
}

/** What is wider is a default route, or a part of one. */
const SHORTEST_NETWORK = 8;

/**
 * The inner address to ping: the given one, else the peer's own (`Gateway`), else the first host of the first allowed network,
 * else the first host of our own network that a peer has. CliError when there is none, or when nothing could come back.
 */
export function chooseTarget(config: TunnelConfig, path: string, given: string | undefined): PingTarget {
  const { addresses } = config.interface;
  if (addresses.length === 0) throw badInput(`${path}: Address is missing: a ping needs an inner address of its own`);
  if (config.peers.every((peer) => peer.endpoints.length === 0)) {
    throw badInput(`${path}: Endpoint is missing: no peer can be reached, so there is nobody to ping`);
  }
  const address = given === undefined ? defaultTarget(config) : parseAddress(given);
  if (given !== undefined && address === undefined) throw badInput(`--target '${given}' is no IP address`);
  if (address === undefined) {
    throw badInput(`${path}: AllowedIPs name no host to ping: say which by --target ADDRESS`);
  }
  const text = formatAddress(address);
  if (!addresses.some((own) => own.address.length === address.length)) {
    throw badInput(`${path}: ${text} cannot be pinged: no Address of that family is given`);
  }
  const peer = ownerOf(config, address);
  if (peer === undefined) throw badInput(`${path}: ${text} belongs to no peer: it is in no AllowedIPs`);
  if (peer.endpoints.length === 0) throw badInput(`${path}: the peer that owns ${text} has no Endpoint to begin with`);
  return { address, peer };
}

function defaultTarget(config: TunnelConfig): Uint8Array | undefined {
  const own = config.interface.addresses;
  const usable = (prefix: Prefix): boolean => own.some((address) => address.address.length === prefix.address.length);
  const gateway = config.peers
    .filter((peer) => peer.endpoints.length > 0)
    .flatMap((peer) => peer.gateways ?? [])
    .find((address) => usable({ address, length: address.length * 8 }));
  if (gateway !== undefined) return gateway;
  const allowed = config.peers
    .filter((peer) => peer.endpoints.length > 0)
    .flatMap((peer) => peer.allowedIps)
    .filter((prefix) => prefix.length >= SHORTEST_NETWORK && usable(prefix));
  for (const prefix of [...allowed, ...own.filter(({ address, length }) => length < address.length * 8)]) {
    const host = firstHost(prefix, own);
    if (host !== undefined && ownerOf(config, host) !== undefined) return host;
  }
  return undefined;
}

/** The first address of a network that a host may have and that is not ours. */
function firstHost(prefix: Prefix, own: readonly Prefix[]): Uint8Array | undefined {
  const bits = prefix.address.length * 8;
  const network = maskPrefix(prefix).address;
  const isOurs = (address: Uint8Array): boolean =>
    own.some((entry) =>
      covers({ address: entry.address, length: entry.address.length * 8 }, { address, length: bits }),
    );
  if (prefix.length >= bits - 1) return isOurs(network) ? undefined : network;
  for (const last of [1, 2]) {
    const host = Uint8Array.from(network);
    host[host.length - 1]! += last;
    if (!isOurs(host)) return host;
  }
  return undefined;
}

function ownerOf(config: TunnelConfig, address: Uint8Array): PeerConfig | undefined {
  const host: Prefix = { address, length: address.length * 8 };
  let best: { readonly peer: PeerConfig; readonly length: number } | undefined;
  for (const peer of config.peers) {
    for (const prefix of peer.allowedIps) {
      if (covers(prefix, host) && (best === undefined || prefix.length > best.length))
        best = { peer, length: prefix.length };
    }
  }
  return best?.peer;
}
