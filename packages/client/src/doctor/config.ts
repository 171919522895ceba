/** What a configuration asks for, and what here stands in its way. Nothing is sent. */
import { readFileSync } from 'node:fs';
import type { Prefix } from '@sealane/protocol';
import {
  formatAddress,
  formatPrefix,
  parsePrefix,
  peerEndpoints,
  peerLabel,
  type ResolvedEndpoints,
  type TunnelConfig,
} from '@sealane/tunnel';
import { dnsProgram } from '../system/dns.ts';
import { hasProgram, runProgram } from '../system/program.ts';
import { covers, markInUse } from '../system/routes.ts';
import { fittingMtu } from '../up/layout.ts';
import { bad, good, hint, type Finding } from './finding.ts';
import { examineNat } from './nat.ts';

interface Route {
  readonly prefix: Prefix;
  /** Where it leads, for people: a link, or what the system does instead. */
  readonly to: string;
}

/** `ip route` begins those that lead nowhere with the way in which they refuse. */
const NOWHERE = /^(blackhole|unreachable|prohibit|throw) /;

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

/** Only `0.0.0.0/0` and `::/0` get rules that let the tunnel's own datagrams past: a narrower prefix takes them in. */
function examineLoop(
  { interface: { table }, peers }: TunnelConfig,
  resolved: ResolvedEndpoints,
  routes: readonly Route[],
): readonly Finding[] {
  if (table !== 'auto') return [];
  const allowed = peers.flatMap(({ allowedIps }) => allowedIps).filter(({ length }) => length > 0);
  return endpointsOf(peers, resolved).flatMap((endpoint) => {
    const ours = longestFor(endpoint, allowed);
    const theirs = longestFor(
      endpoint,
      routes.map(({ prefix }) => prefix),
    );
    if (ours === undefined || (theirs !== undefined && theirs.length > ours.length)) return [];
    const address = formatAddress(endpoint.address);
    const what = `${address} lies in ${formatPrefix(ours)} of AllowedIPs: the tunnel's own datagrams would go into it`;
    const all = endpoint.length === 32 ? '0.0.0.0/0' : '::/0';
    return [bad('endpoint', what, `write ${all}, which leaves them out, or add a route to ${address} itself`)];
  });
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

function endpointsOf(peers: TunnelConfig['peers'], resolved: ResolvedEndpoints): readonly Prefix[] {
  return peers.flatMap((peer) => peerEndpoints(peer, resolved)).map(hostPrefix);
}

function longestFor(host: Prefix, prefixes: readonly Prefix[]): Prefix | undefined {
  return prefixes.filter((prefix) => covers(prefix, host)).toSorted((a, b) => b.length - a.length)[0];
}

async function mainRoutes(ownLink: string): Promise<readonly Route[]> {
  const texts = await Promise.all(
    ['-4', '-6'].map((family) => runProgram('ip', [family, 'route', 'show', 'table', 'main'])),
  );
  return texts.flatMap(({ stdout }, i) =>
    stdout.split('\n').flatMap((line) => {
      const nowhere = NOWHERE.exec(line)?.[1];
      const [destination = ''] = line.slice(nowhere === undefined ? 0 : nowhere.length + 1).split(' ');
      const to = nowhere ?? /\bdev (\S+)/.exec(line)?.[1];
      const prefix = parsePrefix(destination === 'default' ? ['0.0.0.0/0', '::/0'][i]! : destination);
      // Every link has a route for its own addresses.
      const isOther = to !== undefined && to !== ownLink && prefix !== undefined && destination !== 'fe80::/64';
      return isOther ? [{ prefix, to }] : [];
    }),
  );
}

function hostPrefix({ address }: { readonly address: Uint8Array }): Prefix {
  return { address, length: address.length * 8 };
}
