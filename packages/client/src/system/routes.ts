/**
 * Routes of a tunnel as wg-quick sets them. A default route does not replace the system's own: it stands in a table
 * of its own, which a rule asks for every packet without our mark; a second rule lets the main table answer first for
 * everything but default routes. The outer datagrams bear the mark and leave by the system's default route.
 */
import type { Prefix } from '@sealane/protocol';
import { formatPrefix, maskPrefix } from '@sealane/tunnel';
import { alone, claim } from './claim.ts';
import { ip, type IpCommand } from './ip.ts';
import { journalNames, readJournal } from './journal.ts';
import { runProgram } from './program.ts';
import { type DefaultRules, findPriorities, setRules } from './rules.ts';
import type { UndoStep } from './steps.ts';
import { readSetting, SRC_VALID_MARK, writeSetting } from './sysctl.ts';
import type { UndoStack } from './undo.ts';

export type Family = 4 | 6;

/** Milliseconds for which another tunnel may be setting its rules. */
const RULES_PATIENCE = 5_000;

/** wg-quick looks for a free table, which is also the mark, from this number on. */
const FIRST_TABLE = 51_820;

export interface RoutePlan {
  /** Commands that go with the interface: no undoing is needed. */
  readonly commands: readonly IpCommand[];
  /** Families whose default route goes into the tunnel by rules. */
  readonly defaults: readonly Family[];
}

/** Which routes lead into the tunnel; prefixes that the interface's own networks cover have theirs already. */
export function planRoutes(
  name: string,
  table: 'auto' | 'off' | number,
  addresses: readonly Prefix[],
  allowedIps: readonly Prefix[],
): RoutePlan {
  if (table === 'off') return { commands: [], defaults: [] };
  const byRule = (prefix: Prefix): boolean => table === 'auto' && prefix.length === 0;
  const routes = allowedIps
    .filter((prefix) => !byRule(prefix) && (table !== 'auto' || !addresses.some((own) => covers(own, prefix))))
    .toSorted((a, b) => b.length - a.length);
  const where = table === 'auto' ? [] : ['table', String(table)];
  const defaults = new Set(allowedIps.filter(byRule).map(familyOf));
  return {
    commands: routes.map((prefix) => ['route', 'add', formatPrefix(prefix), 'dev', name, ...where]),
    defaults: [...defaults].toSorted((a, b) => a - b),
  };
}

/** True when every address of `inner` is one of `outer`. */
export function covers(outer: Prefix, inner: Prefix): boolean {
  if (outer.address.length !== inner.address.length || outer.length > inner.length) return false;
  const network = maskPrefix(outer).address;
  return maskPrefix({ address: inner.address, length: outer.length }).address.every((byte, i) => byte === network[i]);
}

export function hostPrefix({ address }: { readonly address: Uint8Array }): Prefix {
  return { address, length: address.length * 8 };
}

/**
 * A number that no routing table of either family has, nor a rule as its table or mark: a tunnel that was killed leaves its rules,
 * while its routes go with the interface. It is this process's from here on, also while it runs PreUp and has no rule yet.
 */
export async function takeTable(): Promise<number> {
  for (let table = FIRST_TABLE; ; table++) {
    const release = await claim(`table ${table}`);
    if (release === undefined) continue;
    if (await isFree(table)) return table;
    release();
  }
}

async function isFree(table: number): Promise<boolean> {
  const families = ['-4', '-6'] as const;
  const rules = await Promise.all(families.map((family) => runProgram('ip', [family, 'rule', 'show'])));
  const named = rules.flatMap(({ stdout }) =>
    [...stdout.matchAll(/ (?:fwmark|lookup) (\w+)/g)].map(([, n]) => Number(n)),
  );
  if (named.includes(table)) return false;
  const routes = await Promise.all(families.map((family) => routesOf(family, table)));
  return routes.every((text) => text === '');
}

/** Sends the default routes of these families into the tunnel, in `table`, for packets without `mark`. */
export async function addDefaultRoutes(
  name: string,
  families: readonly Family[],
  table: number,
  mark: number,
  undo: UndoStack,
): Promise<void> {
  // Before the rules, so that it is put back after them: they tell who needs it.
  if (families.includes(4)) noteMarkedSources(name, undo);
  for (const family of families) {
    await addRules({ kind: 'rules', family, mark, table }, undo);
    const all = family === 4 ? '0.0.0.0/0' : '::/0';
    await ip([`-${family}`, 'route', 'add', all, 'dev', name, 'table', String(table)]);
  }
  if (families.includes(4)) writeSetting(SRC_VALID_MARK, '1');
}

/** One tunnel at a time: where the rules stand is known as long as those of another do not come between them. */
async function addRules(step: Extract<UndoStep, { readonly kind: 'rules' }>, undo: UndoStack): Promise<void> {
  undo.pushStep(step);
  const set = async (): Promise<DefaultRules['priorities']> => {
    await setRules(step);
    return findPriorities(step);
  };
  const priorities = await alone('policy rules', RULES_PATIENCE, set);
  if (priorities !== undefined) undo.confirm(step, { ...step, priorities });
}

/** What another tunnel changed is what it was before that one. */
function noteMarkedSources(name: string, undo: UndoStack): void {
  const noted = journalNames()
    .filter((other) => other !== name)
    .flatMap((other) => readJournal(other)?.steps ?? [])
    .find((step) => step.kind === 'src-valid-mark');
  const value = noted?.value ?? readSetting(SRC_VALID_MARK);
  if (value !== '1') undo.pushStep({ kind: 'src-valid-mark', value });
}

/** The mark of the datagrams of a tunnel whose default route is in place, as we or wg-quick set it; 0 when there is none. */
export async function markInUse(name: string): Promise<number> {
  for (const family of ['-4', '-6'] as const) {
    const { stdout: rules } = await runProgram('ip', [family, 'rule', 'show']);
    for (const [, mark, table] of rules.matchAll(/\bnot from all fwmark (\w+) lookup (\S+)/g)) {
      const links = (await routesOf(family, table!)).matchAll(/^default dev (\S+)/gm);
      if ([...links].some(([, link]) => link === name)) return Number(mark);
    }
  }
  return 0;
}

async function routesOf(family: '-4' | '-6', table: number | string): Promise<string> {
  try {
    return (await ip([family, 'route', 'show', 'table', String(table)])).trim();
  } catch {
    // ip(8) fails for a table that was never used.
    return '';
  }
}

function familyOf(prefix: Prefix): Family {
  return prefix.address.length === 4 ? 4 : 6;
}
