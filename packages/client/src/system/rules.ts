/**
 * The policy rules of a default route: one sends packets without the mark to the tunnel's table, the other, set after it and so asked
 * before it, lets the main table answer for everything but default routes. The second one reads the same for every tunnel.
 */
import { CliError } from '../errors.ts';
import { ip, ipBatch, type IpCommand } from './ip.ts';

export interface DefaultRules {
  readonly family: 4 | 6;
  readonly mark: number;
  readonly table: number;
  /** That the kernel gave them; absent until it is known that they are set. */
  readonly priorities?: Priorities;
}

type Priorities = readonly [number, number];

/** As ip(8) is told them. */
export function wordsOf({ mark, table }: DefaultRules): readonly [IpCommand, IpCommand] {
  return [
    ['not', 'fwmark', String(mark), 'table', String(table)],
    ['table', 'main', 'suppress_prefixlength', '0'],
  ];
}

/** Both at once: where the first is, the second is right before it. */
export async function setRules(rules: DefaultRules): Promise<void> {
  await ipBatch(
    wordsOf(rules).map((words) => ['rule', 'add', ...words]),
    `-${rules.family}`,
  );
}

/** Where they stand, the newest if others have the same mark; undefined when they do not. */
export async function findPriorities({ family, mark }: DefaultRules): Promise<Priorities | undefined> {
  const lines = (await ip([`-${family}`, 'rule', 'show'])).split('\n');
  const at = lines.findIndex((line) => Number(/^\d+:\s+not from all fwmark (\w+) /.exec(line)?.[1]) === mark);
  if (at < 0) return undefined;
  const second = lines
    .slice(0, at)
    .findLast((line) => /^\d+:\s+from all lookup main suppress_prefixlength 0/.test(line));
  const first = Number.parseInt(lines[at]!, 10);
  return [first, second === undefined ? first - 1 : Number.parseInt(second, 10)];
}

/** Deletes what is there of them, and none of another tunnel's that reads the same; nothing when they were never set. */
export async function deleteRules(rules: DefaultRules): Promise<void> {
  const priorities = rules.priorities ?? (await findPriorities(rules));
  if (priorities === undefined) return;
  for (const [i, words] of wordsOf(rules).entries()) {
    await deleteRule(rules.family, ['priority', String(priorities[i]), ...words]);
  }
}

/** True when no two tunnels can have both at a time; of rules that were perhaps never set the mark alone is known. */
export function areSame(one: DefaultRules, other: DefaultRules): boolean {
  if (one.family !== other.family || one.mark !== other.mark) return false;
  const [a] = one.priorities ?? [];
  const [b] = other.priorities ?? [];
  return a === undefined || b === undefined || a === b;
}

async function deleteRule(family: 4 | 6, words: readonly string[]): Promise<void> {
  try {
    await ip([`-${family}`, 'rule', 'delete', ...words]);
  } catch (error) {
    if (!(error instanceof CliError) || !error.message.includes('No such file or directory')) throw error;
  }
}
