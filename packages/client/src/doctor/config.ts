/** What a configuration asks for, and what here stands in its way. Nothing is sent. */
import { readFileSync } from 'node:fs';
import {
  formatAddress,
  formatPrefix,
  peerEndpoints,
  peerLabel,
  type ResolvedEndpoints,
  type TunnelConfig,
} from '@sealane/tunnel';
import { dnsProgram } from '../system/dns.ts';
import { mainRoutes, type Route } from '../system/main-routes.ts';
import { hasProgram } from '../system/program.ts';
import { covers, hostPrefix, markInUse } from '../system/routes.ts';
import { fittingMtu } from '../up/layout.ts';
import { endpointsOf, findLoops } from '../up/loops.ts';
import { bad, good, hint, type Finding } from './finding.ts';
import { examineNat } from './nat.ts';

/** `name` is the interface that the configuration is for: what it has is no conflict. */
export async function examineConfig(
  config: TunnelConfig,
  resolved: ResolvedEndpoints,
  name: string,
): Promise<readonly Finding[]> {
  const hasIp = process.platform === 'linux' && hasProgram('ip');
  const routes = hasIp ? await mainRoutes(name) : [];
  // What leads to an endpoint may depend on it; beside a default route of ours it always does.
  const mark = config.interface.fwmark || (hasIp ? await markInUse(name) : 0);
  return [
    ...examineEndpoints(config, resolved),
    ...examineLoop(config, resolved, routes),
    ...examineRoutes(config, resolved, routes),
    ...examineIpv6(config),
    ...(hasIp ? await examineMtu(config, resolved, name, mark) : []),
    ...examineDns(config),
    ...(hasIp ? await examineNat(config, resolved, mark) : []),
  ];
}

function examineEndpoints(config: TunnelConfig, resolved: ResolvedEndpoints): readonly Finding[] {
  return config.peers.flatMap((peer) => {
    if (peer.endpoints.length === 0) return [];
    const found = peerEndpoints(peer, resolved).map(({ address }) => formatAddress(address));
    const missing = peer.endpoints.filter((text) => !resolved.has(text));
    return [
      good('endpoint', `${peerLabel(peer)} is looked for at ${found.join(', ')}`),
      ...missing.map((text) => hint('endpoint', `${text} has no address`, 'correct the name, or remove it')),
    ];
  });
}

function examineLoop(config: TunnelConfig, resolved: ResolvedEndpoints, routes: readonly Route[]): readonly Finding[] {
  return findLoops(config, resolved, routes).map(({ what, remedy }) => bad('endpoint', what, remedy));
}

function examineRoutes(
  config: TunnelConfig,
  resolved: ResolvedEndpoints,
  routes: readonly Route[],
): readonly Finding[] {
  const findings: Finding[] = [];
  for (const own of config.interface.addresses) {
    const other = routes.find(({ prefix }) => prefix.length > 0 && covers(prefix, hostPrefix(own)));
    if (other === undefined) continue;
    const what = `${formatAddress(own.address)} lies in ${formatPrefix(other.prefix)}, which ${other.to} has`;
    findings.push(bad('routes', what, 'ask for an address in another network, or change the local one'));
  }
  const allowed = config.peers.flatMap((peer) => peer.allowedIps);
  const outer = endpointsOf(config.peers, resolved);
  // Beside a default route, whole or in halves, the networks of the links stay; what is as wide as a half takes it away.
  const competing = routes.filter(
    ({ prefix }) =>
      allowed.some((wide) => covers(wide, prefix) && (wide.length > 1 || prefix.length === 1)) &&
      !outer.some((endpoint) => covers(prefix, endpoint)),
  );
  for (const { prefix, to } of competing) {
    const what = `${formatPrefix(prefix)} goes to ${to} although the tunnel is to have it`;
    findings.push(bad('routes', what, `remove that route, or take the network out of AllowedIPs`));
  }
  return findings.length > 0 ? findings : [good('routes', 'nothing here competes with AllowedIPs')];
}

async function examineMtu(
  config: TunnelConfig,
  resolved: ResolvedEndpoints,
  name: string,
  mark: number,
): Promise<readonly Finding[]> {
  const { mtu } = config.interface;
  const { usual, most } = await fittingMtu(name, config, resolved, mark);
  if (mtu === undefined || mtu <= most) return [good('MTU', `${mtu ?? usual} fits the way to the endpoint`)];
  return [
    hint('MTU', `${mtu} is more than fits into one datagram (${most})`, `write MTU = ${most}, or remove the line`),
  ];
}

function examineDns({ interface: { dns } }: TunnelConfig): readonly Finding[] {
  if (dns.servers.length + dns.search.length === 0 || dnsProgram() !== undefined) return [];
  return [
    bad('DNS', "'sealane up' will refuse the DNS line", 'install openresolv or systemd-resolved, or add --no-dns'),
  ];
}

/** A new interface takes over what `default` says. */
function examineIpv6({ interface: { addresses } }: TunnelConfig): readonly Finding[] {
  const own = addresses.find(({ address }) => address.length === 16);
  if (process.platform !== 'linux' || own === undefined || switchOf('default') === '0') return [];
  const what = `${formatPrefix(own)} cannot be set: IPv6 is switched off for new interfaces`;
  const remedy = "run 'sysctl -w net.ipv6.conf.default.disable_ipv6=0', or take the IPv6 addresses out of Address";
  return [bad('IPv6', what, remedy)];
}

function switchOf(link: string): string | undefined {
  try {
    return readFileSync(`/proc/sys/net/ipv6/conf/${link}/disable_ipv6`, 'ascii').trim();
  } catch {
    // A kernel without IPv6.
    return undefined;
  }
}
