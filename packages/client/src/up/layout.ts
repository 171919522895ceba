/** What a configuration asks of the system, reckoned before anything is touched. */
import { peerEndpoints, type ResolvedEndpoints, type TunnelConfig } from '@sealane/tunnel';
import { type Mtu, mtuFor } from '../system/mtu.ts';
import { planRoutes, type RoutePlan } from '../system/routes.ts';

export interface Layout {
  readonly mtu: number;
  readonly routes: RoutePlan;
  /** Of outer datagrams, and the number of the table with our default routes; 0 is none. */
  readonly mark: number;
}

/** `marked`: the datagrams need a mark although no default route asks for one. `takeMark`: which one, when the file gives none. */
export async function planLayout(
  name: string,
  config: TunnelConfig,
  resolved: ResolvedEndpoints,
  marked: boolean,
  takeMark: () => Promise<number>,
): Promise<Layout> {
  const { addresses, table, fwmark = 0 } = config.interface;
  const routes = planRoutes(name, table, addresses, allowedIpsOf(config));
  const needsMark = marked || routes.defaults.length > 0;
  const chosen = fwmark !== 0 || !needsMark ? fwmark : await takeMark();
  const mtu = config.interface.mtu ?? (await fittingMtu(name, config, resolved, chosen)).usual;
  return { mtu, routes, mark: chosen };
}

/** Which MTU the ways to the endpoints ask for. */
export function fittingMtu(
  name: string,
  config: TunnelConfig,
  resolved: ResolvedEndpoints,
  mark: number,
): Promise<Mtu> {
  const inside = [...config.interface.addresses, ...allowedIpsOf(config)];
  const ipv6 = inside.some(({ address }) => address.length === 16);
  const endpoints = config.peers.flatMap((peer) => peerEndpoints(peer, resolved));
  return mtuFor(endpoints, { name, mark, ipv6 });
}

export function allowedIpsOf(config: TunnelConfig): TunnelConfig['peers'][number]['allowedIps'] {
  return config.peers.flatMap((peer) => peer.allowedIps);
}

export function isFullTunnel({ routes }: Layout): boolean {
  return routes.defaults.length > 0;
}
