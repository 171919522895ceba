/** Other servers with a TUN interface in this network namespace: known by their nftables tables, which also carry what was before them. */
import { interfaceOfTable } from '@sealane/tunnel';
import { tableOf, TABLE_PREFIX } from './firewall.ts';
import { isSettings, type Settings } from './forwarding.ts';
import { runNft } from './nft.ts';

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
    // It may have ended meanwhile.
    const listed = await list('table', 'inet', tableOf(name)).catch(() => []);
    for (const { rule } of listed) {
      const setting = rule?.chain === BEFORE ? (rule.comment ?? '').split(' ') : [];
      if (isSettings([setting])) carried.set(setting[0]!, setting[1]!);
    }
  }
  return [...carried];
}

interface Listed {
  readonly table?: { readonly name: string };
  readonly rule?: { readonly chain: string; readonly comment?: string };
}

async function list(...what: readonly string[]): Promise<readonly Listed[]> {
  const { nftables } = JSON.parse(await runNft(['-j', 'list', ...what])) as { nftables: readonly Listed[] };
  return nftables;
}
