/** What a configuration asks of the system, reckoned before anything is touched. */
import { peerEndpoints, type ResolvedEndpoints, type TunnelConfig } from '@sealane/tunnel';
import { mtuFor } from '../system/mtu.ts';
import { freeTable, planRoutes, type RoutePlan } from '../system/routes.ts';

export interface Layout {
  readonly mtu: number;
  readonly routes: RoutePlan;
  /** Of outer datagrams, and the number of the table with our default routes; 0 is none. */
  readonly mark: number;
}

/** `marked`: the datagrams need a mark although no default route asks for one. */
export async function planLayout(
  name: string,
  config: TunnelConfig,
  resolved: ResolvedEndpoints,
  marked: boolean,
): Promise<Layout> {
  const { addresses, table, mtu, fwmark = 0 } = config.interface;
  const routes = planRoutes(name, table, addresses, allowedIpsOf(config));
  const needsMark = marked || routes.defaults.length > 0;
  return {
    mtu: mtu ?? (await mtuFor(config.peers.flatMap((peer) => peerEndpoints(peer, resolved)))),
    routes,
    mark: fwmark !== 0 || !needsMark ? fwmark : await freeTable(),
  };
}

export function allowedIpsOf(config: TunnelConfig): TunnelConfig['peers'][number]['allowedIps'] {
  return config.peers.flatMap((peer) => peer.allowedIps);
}

export function isFullTunnel({ routes }: Layout): boolean {
  return routes.defaults.length > 0;
}
