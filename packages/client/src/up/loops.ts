/** Endpoints that our own routes would lead back into the tunnel. */
import type { Prefix } from '@sealane/protocol';
import { formatAddress, formatPrefix, peerEndpoints, type ResolvedEndpoints, type TunnelConfig } from '@sealane/tunnel';
import { mainRoutes, type Route } from '../system/main-routes.ts';
import { covers, hostPrefix } from '../system/routes.ts';
import { allowedIpsOf } from './layout.ts';

export interface RoutingLoop {
  readonly what: string;
  readonly remedy: string;
}

/**
 * Only `0.0.0.0/0` and `::/0` get rules that let the tunnel's own datagrams past: a narrower prefix takes them in, unless one of
 * `routes`, which the system has without us, is narrower still.
 */
export function findLoops(
  config: TunnelConfig,
  resolved: ResolvedEndpoints,
  routes: readonly Route[],
): readonly RoutingLoop[] {
  return takenIn(config, resolved).flatMap(({ endpoint, ours }) => {
    const theirs = longestFor(
      endpoint,
      routes.map(({ prefix }) => prefix),
    );
    if (theirs !== undefined && theirs.length > ours.length) return [];
    const address = formatAddress(endpoint.address);
    const what = `${address} lies in ${formatPrefix(ours)} of AllowedIPs: the tunnel's own datagrams would go into it`;
    const all = endpoint.length === 32 ? '0.0.0.0/0' : '::/0';
    return [{ what, remedy: `write ${all}, which leaves them out, or add a route to ${address} itself` }];
  });
}

/** The same for `name` and the routes of this moment, which are only asked for when they matter. */
export async function loopsNow(
  name: string,
  config: TunnelConfig,
  resolved: ResolvedEndpoints,
): Promise<readonly RoutingLoop[]> {
  return takenIn(config, resolved).length === 0 ? [] : findLoops(config, resolved, await mainRoutes(name));
}

export function endpointsOf(peers: TunnelConfig['peers'], resolved: ResolvedEndpoints): readonly Prefix[] {
  return peers.flatMap((peer) => peerEndpoints(peer, resolved)).map(hostPrefix);
}

interface TakenIn {
  readonly endpoint: Prefix;
  readonly ours: Prefix;
}

function takenIn(config: TunnelConfig, resolved: ResolvedEndpoints): readonly TakenIn[] {
  if (config.interface.table !== 'auto') return [];
  const allowed = allowedIpsOf(config).filter(({ length }) => length > 0);
  return endpointsOf(config.peers, resolved).flatMap((endpoint) => {
    const ours = longestFor(endpoint, allowed);
    return ours === undefined ? [] : [{ endpoint, ours }];
  });
}

function longestFor(host: Prefix, prefixes: readonly Prefix[]): Prefix | undefined {
  return prefixes.filter((prefix) => covers(prefix, host)).toSorted((a, b) => b.length - a.length)[0];
}
