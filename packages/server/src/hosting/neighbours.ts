/** Other servers with a TUN interface in this network namespace: known by their nftables tables, which also carry what was before them. */
import { interfaceOfTable } from '@sealane/tunnel';
import { tableOf, TABLE_PREFIX } from './firewall.ts';
import { type Family, forwardingSettings, isSettings, type Settings, wereOff } from './forwarding.ts';
import { runNft, unlessGone } from './nft.ts';

/** The chain of a table that nothing passes: its comments are settings as they were before the first server. */
const BEFORE = 'before';

/** The lines of that chain. Interfaces of unusual names follow the one switch alone. */
export function beforeLines(settings: Settings): readonly string[] {
  return settings
    .map((setting) => setting.join(' '))
    .filter((text) => /^[\w./-]+ \d+$/.test(text))
    .map((text) => `return comment "${text}"`);
}

/** The interfaces of the others. */
export async function neighbours(own: string): Promise<readonly string[]> {
  const listed = await list('tables', 'inet');
  return listed
    .flatMap(({ table }) => (table === undefined ? [] : [interfaceOfTable(TABLE_PREFIX, table.name) ?? '']))
    .filter((name) => /^[^\s"\\/:]{1,15}$/.test(name) && name !== own)
    .toSorted();
}

/** What the others are to put back: whoever ends before them leaves it to them. */
export async function carriedSettings(own: string): Promise<Settings> {
  const carried = new Map<string, string>();
  for (const name of await neighbours(own)) {
    for (const [path, value] of await settingsIn(name)) carried.set(path, value);
  }
  return [...carried];
}

/**
 * What forwarding was before the first server; of a killed one whose table has our name and is about to be replaced, for every family.
 * Whoever turns forwarding on has a table before, and keeps it until it is off again: one that ends meanwhile is in the first listing, one
 * that begins in the second.
 */
export async function settingsBefore(own: string, families: readonly Family[]): Promise<Settings> {
  const killed = await settingsIn(own);
  const carried = new Map([...killed, ...(await carriedSettings(own))]);
  const all = new Set([...families, ...wereOff(killed)]);
  const now = [...all].map((family) => [family, forwardingSettings(family)] as const);
  for (const [path, value] of await carriedSettings(own)) carried.set(path, value);
  return now.flatMap(([family, settings]) => {
    const noted = [...carried].filter(([path]) => path.startsWith(family));
    return noted.length > 0 ? noted : settings;
  });
}

/** What the table of that interface says; nothing when there is none, or none any more. */
async function settingsIn(interfaceName: string): Promise<Settings> {
  const listed = await unlessGone(list('table', 'inet', tableOf(interfaceName)));
  return (listed ?? []).flatMap(({ rule }) => {
    const setting = rule?.chain === BEFORE ? [(rule.comment ?? '').split(' ')] : [];
    return isSettings(setting) ? setting : [];
  });
}

interface Listed {
  readonly table?: { readonly name: string };
  readonly rule?: { readonly chain: string; readonly comment?: string };
}

async function list(...what: readonly string[]): Promise<readonly Listed[]> {
  const { nftables } = JSON.parse(await runNft(['-j', 'list', ...what])) as { nftables: readonly Listed[] };
  return nftables;
}
