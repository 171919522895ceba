/** What is different between two states of a running tunnel, and what cannot be. */
import { formatKey } from '@sealane/protocol';
import { formatPrefix, type ResolvedEndpoints, type TunnelConfig, type TunnelUpdate } from '@sealane/tunnel';
import { badInput, type CliError } from '../errors.ts';
import { hooksOf } from '../system/hooks.ts';
import type { IpChange } from '../system/ip.ts';
import type { Layout } from './layout.ts';

export interface State {
  readonly path: string;
  readonly config: TunnelConfig;
  readonly resolved: ResolvedEndpoints;
  readonly layout: Layout;
}

/** What is part of how the tunnel came up cannot change under it. */
export function checkChange(before: TunnelConfig, after: TunnelConfig, path: string): void {
  const fixed = ({ interface: own }: TunnelConfig): Readonly<Record<string, string>> => ({
    Table: String(own.table),
    FwMark: String(own.fwmark ?? 0),
    ...Object.fromEntries(
      Object.entries(hooksOf(own)).map(([hook, commands]) => [hook, commands.map(({ command }) => command).join('\n')]),
    ),
  });
  const [was, is] = [fixed(before), fixed(after)];
  const changed = Object.keys(was).find((key) => was[key] !== is[key]);
  if (changed !== undefined) throw needsRestart(path, `${changed} cannot change`);
}

export function checkLayout(before: Layout, after: Layout, path: string): void {
  if (before.routes.defaults.join() === after.routes.defaults.join()) return;
  throw needsRestart(path, 'AllowedIPs: a default route cannot come or go');
}

function needsRestart(path: string, what: string): CliError {
  return badInput(`${path}: ${what} while the tunnel is up: take it down and up again`);
}

/** Setting the endpoint again would take a peer away from where it answers. */
export function withoutOldEndpoints(update: TunnelUpdate, before: TunnelConfig, after: TunnelConfig): TunnelUpdate {
  const texts = (config: TunnelConfig): ReadonlyMap<string, string> =>
    new Map(config.peers.map((peer) => [formatKey(peer.publicKey), peer.endpoints.join()]));
  const [was, is] = [texts(before), texts(after)];
  const peers = (update.peers ?? []).map((peer) => {
    const key = formatKey(peer.publicKey);
    if (was.get(key) !== is.get(key)) return peer;
    const { endpoint: _same, ...rest } = peer;
    return rest;
  });
  return { ...update, peers };
}

/** Others of its network would go with it, unless the kernel is told to keep them, and with the last one every route. */
export function losesIpv4Address(before: State, after: State): boolean {
  const kept = after.config.interface.addresses.map(formatPrefix);
  return before.config.interface.addresses.some((own) => own.address.length === 4 && !kept.includes(formatPrefix(own)));
}

/** What leads from the addresses, the routes and the MTU of one state to those of another. */
export function ipChanges(name: string, before: State, after: State): readonly IpChange[] {
  const addresses = ({ config }: State): readonly string[] => config.interface.addresses.map(formatPrefix);
  const routes = ({ layout }: State): readonly string[] => layout.routes.commands.map((words) => words.join(' '));
  const only = (of: readonly string[], others: readonly string[]): readonly string[] =>
    of.filter((text) => !others.includes(text));
  const mtu = ({ layout }: State): readonly string[] => ['link', 'set', 'mtu', String(layout.mtu), 'dev', name];
  const route = (text: string): IpChange => ({
    command: text.split(' '),
    back: text.replace('route add', 'route delete').split(' '),
  });
  const address = (text: string): IpChange => ({
    command: ['address', 'add', text, 'dev', name],
    back: ['address', 'delete', text, 'dev', name],
  });
  return [
    ...only(routes(before), routes(after)).map(route).map(reversed),
    ...only(addresses(after), addresses(before)).map(address),
    ...only(addresses(before), addresses(after)).map(address).map(reversed),
    ...(before.layout.mtu === after.layout.mtu ? [] : [{ command: mtu(after), back: mtu(before) }]),
    ...only(routes(after), routes(before)).map(route),
  ];
}

function reversed({ command, back }: IpChange): IpChange {
  return { command: back, back: command };
}
