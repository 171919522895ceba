/**
 * What `sealane up` asks of nftables, each tunnel in tables of its own. Everything in a script is a number, an address
 * or an interface name of letters and digits; nothing of it passes a shell.
 */
import type { Prefix } from '@sealane/protocol';
import { formatAddress, formatPrefix, interfaceOfTable, maskPrefix, tableName } from '@sealane/tunnel';
import { listTable, listTables, replaceTable } from './nft.ts';

const GUARD = 'sealane-guard-';
const KILL_SWITCH = 'sealane-kill-';

/** Goes with the tunnel. */
export function guardTable(name: string): string {
  return tableName(GUARD, name);
}

/** Stays when the tunnel is killed. */
export function killSwitchTable(name: string): string {
  return tableName(KILL_SWITCH, name);
}

/**
 * What a default route through the tunnel needs, as wg-quick sets it: nobody on another link may speak to our tunnel
 * addresses (CVE-2019-14899), and answers to marked datagrams are marked too, so that a strict reverse path filter
 * finds the way they came.
 */
export function guardScript(name: string, addresses: readonly Prefix[], mark: number): string {
  const drops = addresses.map(({ address }) => {
    const family = address.length === 4 ? 'ip' : 'ip6';
    return `    iifname != "${name}" ${family} daddr ${formatAddress(address)} fib saddr type != local drop\n`;
  });
  return replaceTable(
    guardTable(name),
    `  chain preraw {
    type filter hook prerouting priority raw; policy accept;
${drops.join('')}  }
  chain premangle {
    type filter hook prerouting priority mangle; policy accept;
    meta l4proto udp meta mark set ct mark
  }
  chain postmangle {
    type filter hook postrouting priority mangle; policy accept;
    meta l4proto udp meta mark ${mark} ct mark set meta mark
  }
`,
  );
}

/**
 * Lets nothing out in the clear: only into the tunnel, to this host itself, the tunnel's own marked datagrams, and what
 * a link needs to work at all (neighbour discovery, DHCP). With a default route among `allowedIps` everything else is
 * refused, of the other address family too, and so with prefixes that together are all of a family, such as the halves of it;
 * without, what is meant for those prefixes.
 */
export function killSwitchScript(name: string, allowedIps: readonly Prefix[], mark: number): string {
  const everything = takesEverything(allowedIps);
  const sets = everything ? [] : ([4, 16] as const).map((size) => prefixSet(size, allowedIps));
  const refusals = everything
    ? ['counter reject with icmpx admin-prohibited']
    : sets.filter((set) => set.text !== '').map(({ rule }) => rule);
  const chain = (hook: 'output' | 'forward', allowed: readonly string[]): string =>
    `  chain ${hook} {
    type filter hook ${hook} priority filter; policy accept;
${[`oifname "${name}" accept`, ...allowed, ...refusals].map((rule) => `    ${rule}\n`).join('')}  }
`;
  const output = [
    'oifname "lo" accept',
    `meta l4proto udp meta mark ${mark} accept`,
    'icmpv6 type { nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert } ip6 hoplimit 255 accept',
    'udp sport 68 udp dport 67 accept',
    'udp sport 546 udp dport 547 accept',
  ];
  return replaceTable(
    killSwitchTable(name),
    sets.map(({ text }) => text).join('') + chain('output', output) + chain('forward', [`iifname "${name}" accept`]),
  );
}

/** True when every address of a family is in one of the prefixes. */
export function takesEverything(prefixes: readonly Prefix[]): boolean {
  return ([4, 16] as const).some((size) => {
    const all = 1n << BigInt(8 * size);
    const ranges = prefixes
      .filter(({ address }) => address.length === size)
      .map((prefix) => ({ first: toNumber(maskPrefix(prefix).address), count: all >> BigInt(prefix.length) }))
      .toSorted((a, b) => (a.first < b.first ? -1 : 1));
    let next = 0n;
    for (const { first, count } of ranges) {
      if (first > next) return false;
      if (first + count > next) next = first + count;
    }
    return next === all;
  });
}

function toNumber(address: Uint8Array): bigint {
  return address.reduce((number, byte) => (number << 8n) | BigInt(byte), 0n);
}

/**
 * Names the tunnel whose kill switch lets out nothing but its own: ours would do the same, and neither could send.
 * Undefined when there is none.
 */
export async function otherKillSwitch(name: string): Promise<string | undefined> {
  for (const table of await listTables()) {
    const other = interfaceOfTable(KILL_SWITCH, table);
    if (other === undefined || other === name) continue;
    const text = await listTable(table);
    // It may be gone meanwhile.
    if (text?.includes('hook forward') === true && !text.includes('set tunnelled')) return other;
  }
  return undefined;
}

function prefixSet(size: 4 | 16, prefixes: readonly Prefix[]): { readonly text: string; readonly rule: string } {
  const [set, type, family] = size === 4 ? ['tunnelled4', 'ipv4_addr', 'ip'] : ['tunnelled6', 'ipv6_addr', 'ip6'];
  const elements = prefixes.filter(({ address }) => address.length === size).map(formatPrefix);
  const text =
    elements.length === 0
      ? ''
      : `  set ${set} {\n    type ${type}\n    flags interval\n    auto-merge\n    elements = { ${elements.join(', ')} }\n  }\n`;
  return { text, rule: `${family} daddr @${set} counter reject with icmpx admin-prohibited` };
}
