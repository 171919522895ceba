/**
 * The nftables table of a server with a TUN interface: where peers may go, and that they go out under the server's
 * address. A table of our own can only refuse more: what another table drops stays dropped.
 */
import type { Prefix } from '@sealane/protocol';
import { formatPrefix, tableName } from '@sealane/tunnel';
import { Policy, type Rule } from '../userspace/policy.ts';
import type { Family } from './forwarding.ts';
import { nftProgram, runNft } from './nft.ts';

export interface FirewallOptions {
  readonly interfaceName: string;
  /** The peers' address blocks. */
  readonly networks: readonly Prefix[];
  readonly allow: readonly Rule[];
  readonly deny: readonly Rule[];
  /** Peers may reach each other. */
  readonly peerToPeer: boolean;
  /** Peers go out under the server's address; without it they keep their own and may be reached from outside. */
  readonly nat: boolean;
  /** Families whose forwarding was off before: what has nothing to do with the peers stays unforwarded. */
  readonly onlyPeers: readonly Family[];
  /** Interfaces of other servers: their tables say what passes there. */
  readonly neighbours: readonly string[];
  /** Lines of a chain that nothing passes, for other servers to read. */
  readonly before: readonly string[];
}

/** Of the table of every server. */
export const TABLE_PREFIX = 'sealaned-';

export function tableOf(interfaceName: string): string {
  return tableName(TABLE_PREFIX, interfaceName);
}

/** The script that makes the table, in place of one that a killed server left. */
export function firewallScript(options: FirewallOptions): string {
  const { interfaceName, networks, allow, deny, peerToPeer, nat, onlyPeers, neighbours } = options;
  const own = `"${interfaceName}"`;
  const policy = new Policy({ allow, deny, peerNetworks: peerToPeer ? [] : networks });
  const ours = new Policy({ allow, deny });
  const forward = [
    `iifname ${own} jump from-peers`,
    `oifname ${own} ct state established,related accept`,
    ...(nat ? [`oifname ${own} counter drop`] : [`oifname ${own} accept`]),
    ...neighbours.flatMap((name) => [`iifname "${name}" accept`, `oifname "${name}" accept`]),
    ...onlyPeers.map((name) => `meta nfproto ${name} counter drop`),
  ];
  const fromPeers = [
    'ct state established,related accept',
    `oifname ${own} ${peerToPeer ? 'accept' : 'counter reject with icmpx admin-prohibited'}`,
    ...policy.rules.flatMap(ruleLines),
    policy.allowsOthers ? 'accept' : 'counter reject with icmpx admin-prohibited',
  ];
  // What this host itself offers is its own firewall's concern, but for what was named, or unless naming shut the rest.
  const input = [
    ...ours.rules.filter(({ isBuiltIn }) => !isBuiltIn).flatMap(ruleLines),
    ...(ours.allowsOthers ? [] : ['counter reject with icmpx admin-prohibited']),
  ];
  const masquerade = networks.map(
    (prefix) => `${family(prefix)} saddr ${formatPrefix(prefix)} oifname != { ${own}, "lo" } masquerade`,
  );
  const chain = (name: string, hook: string, lines: readonly string[]): string =>
    `  chain ${name} {\n${[hook, ...lines].map((line) => (line === '' ? '' : `    ${line}\n`)).join('')}  }\n`;
  return [
    removalScript(interfaceName),
    `table inet ${tableOf(interfaceName)} {\n`,
    chain('before', '', options.before),
    chain('from-peers', '', fromPeers),
    chain('forward', 'type filter hook forward priority filter; policy accept;', forward),
    chain('input', 'type filter hook input priority filter; policy accept;', [
      `iifname != ${own} accept`,
      'ct state established,related accept',
      'meta l4proto { icmp, ipv6-icmp } accept',
      ...input,
    ]),
    nat ? chain('postrouting', 'type nat hook postrouting priority srcnat; policy accept;', masquerade) : '',
    '}\n',
  ].join('');
}

/** The script that removes the table, whether it is there or not. */
export function removalScript(interfaceName: string): string {
  const table = tableOf(interfaceName);
  return `table inet ${table} {}\ndelete table inet ${table}\n`;
}

/** True when the table is there; undefined when this process cannot tell. */
export function tableStands(interfaceName: string): Promise<boolean | undefined> {
  return nftProgram.list(tableOf(interfaceName)).then(
    (text) => text !== undefined,
    () => undefined,
  );
}

/** Chains of others that drop forwarded packets unless told otherwise, as `family table chain`. */
export async function droppingChains(): Promise<readonly string[]> {
  const { nftables } = JSON.parse(await runNft(['-j', 'list', 'ruleset'])) as { nftables: readonly Listed[] };
  const lastRules = new Map<string, readonly object[]>();
  for (const { rule } of nftables) {
    if (rule !== undefined) lastRules.set(`${rule.family} ${rule.table} ${rule.chain}`, rule.expr);
  }
  return nftables.flatMap(({ chain }) => {
    if (chain?.hook !== 'forward') return [];
    const name = `${chain.family} ${chain.table} ${chain.name}`;
    return chain.policy === 'drop' || refusesAll(lastRules.get(name)) ? [name] : [];
  });
}

/** True for a rule that matches every packet: a policy in other words. */
function refusesAll(rule: readonly object[] = []): boolean {
  const words = rule
    .flatMap((expression) => Object.keys(expression))
    .filter((word) => !['counter', 'log'].includes(word));
  return words.length === 1 && ['drop', 'reject'].includes(words[0]!);
}

interface Listed {
  readonly chain?: {
    readonly family: string;
    readonly table: string;
    readonly name: string;
    readonly hook?: string;
    readonly policy?: string;
  };
  readonly rule?: {
    readonly family: string;
    readonly table: string;
    readonly chain: string;
    readonly expr: readonly object[];
  };
}

function ruleLines({ prefix, ports, isAllowed }: Rule & { readonly isAllowed: boolean }): readonly string[] {
  const verdict = isAllowed ? 'accept' : 'counter reject with icmpx admin-prohibited';
  const to = `${family(prefix)} daddr ${formatPrefix(prefix)}`;
  if (ports.length === 0) return [`${to} ${verdict}`];
  const list = ports.map(({ from, to: last }) => (from === last ? String(from) : `${from}-${last}`)).join(', ');
  return [`${to} meta l4proto { tcp, udp } th dport { ${list} } ${verdict}`];
}

function family({ address }: Prefix): 'ip' | 'ip6' {
  return address.length === 4 ? 'ip' : 'ip6';
}
