/** What a configuration asks for, and what here stands in its way. Nothing is sent. */
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
import { covers } from '../system/routes.ts';
import { fittingMtu } from '../up/layout.ts';
import { bad, good, hint, type Finding } from './finding.ts';
import { examineNat } from './nat.ts';

interface Route {
  readonly prefix: Prefix;
  readonly link: string;
}

/** `name` is the interface that the configuration is for: what it has is no conflict. */
export async function examineConfig(
  config: TunnelConfig,
  resolved: ResolvedEndpoints,
  name: string,
): Promise<readonly Finding[]> {
  const routes = process.platform === 'linux' && hasProgram('ip') ? await mainRoutes(name) : [];
  return [
    ...examineEndpoints(config, resolved),
    ...examineRoutes(config, routes),
    ...(await examineMtu(config, resolved, name)),
    ...examineDns(config),
    ...(await examineNat(config, resolved)),
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

function examineRoutes(config: TunnelConfig, routes: readonly Route[]): readonly Finding[] {
  const findings: Finding[] = [];
  for (const own of config.interface.addresses) {
    const other = routes.find(({ prefix }) => prefix.length > 0 && covers(prefix, hostPrefix(own)));
    if (other === undefined) continue;
    const what = `${formatAddress(own.address)} lies in ${formatPrefix(other.prefix)}, which ${other.link} has`;
    findings.push(bad('routes', what, 'ask for an address in another network, or change the local one'));
  }
  const allowed = config.peers.flatMap((peer) => peer.allowedIps);
  const narrower = routes.filter(({ prefix }) =>
    allowed.some((wide) => wide.length > 0 && covers(wide, prefix) && prefix.length >= wide.length),
  );
  for (const { prefix, link } of narrower) {
    const what = `${formatPrefix(prefix)} goes to ${link} although the tunnel is to have it`;
    findings.push(bad('routes', what, `remove that route, or take the network out of AllowedIPs`));
  }
  return findings.length > 0 ? findings : [good('routes', 'nothing here competes with AllowedIPs')];
}

async function examineMtu(
  config: TunnelConfig,
  resolved: ResolvedEndpoints,
  name: string,
): Promise<readonly Finding[]> {
  const { mtu, fwmark = 0 } = config.interface;
  if (process.platform !== 'linux' || !hasProgram('ip')) return [];
  const { usual, most } = await fittingMtu(name, config, resolved, fwmark);
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

async function mainRoutes(ownLink: string): Promise<readonly Route[]> {
  const texts = await Promise.all(
    ['-4', '-6'].map((family) => runProgram('ip', [family, 'route', 'show', 'table', 'main'])),
  );
  return texts.flatMap(({ stdout }, i) =>
    stdout.split('\n').flatMap((line) => {
      const [destination = ''] = line.split(' ');
      const link = /\bdev (\S+)/.exec(line)?.[1];
      const prefix = parsePrefix(destination === 'default' ? ['0.0.0.0/0', '::/0'][i]! : destination);
      const isOurs = link === undefined || link === ownLink || prefix === undefined;
      // Every link has this one.
      return isOurs || destination === 'fe80::/64' ? [] : [{ prefix, link }];
    }),
  );
}

function hostPrefix({ address }: Prefix): Prefix {
  return { address, length: address.length * 8 };
}
