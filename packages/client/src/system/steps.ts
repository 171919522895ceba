/** Undoing as data: what one process did, another can undo after it was killed. */
import type { HookCommand } from '@sealane/tunnel';
import { CliError, EXIT } from '../errors.ts';
import { unsetResolvconf } from './dns.ts';
import { runHooks } from './hooks.ts';
import { ip } from './ip.ts';
import { deleteTable } from './nft.ts';
import { type DefaultRules, deleteRules, wordsOf } from './rules.ts';
import { SRC_VALID_MARK, writeSetting } from './sysctl.ts';

/** How to undo one thing that outlives the process. */
export type UndoStep =
  | ({ readonly kind: 'rules' } & DefaultRules)
  /** The value that net.ipv4.conf.all.src_valid_mark had before the first tunnel that is up. */
  | { readonly kind: 'src-valid-mark'; readonly value: string }
  | { readonly kind: 'resolvconf'; readonly record: string }
  | { readonly kind: 'table'; readonly table: string }
  | {
      readonly kind: 'commands';
      readonly hook: 'PreDown' | 'PostDown';
      readonly name: string;
      /** Of the file that they come from. */
      readonly path: string;
      readonly commands: readonly HookCommand[];
    };

/**
 * Undoes a step that was done, or that was only noted: it is noted before it is done. `failed` are later ones that still stand, and that
 * it may have to wait for.
 */
export async function undoStep(step: UndoStep, failed: readonly UndoStep[] = []): Promise<void> {
  switch (step.kind) {
    case 'rules':
      await deleteRules(step);
      break;
    case 'src-valid-mark':
      if (failed.some(({ kind }) => kind === 'rules'))
        throw new CliError(EXIT.failure, 'rules that need it are still there');
      await restoreMarkedSources(step.value);
      break;
    case 'resolvconf':
      await unsetResolvconf(step.record);
      break;
    case 'table':
      await deleteTable(step.table);
      break;
    case 'commands':
      await runHooks(step.hook, step.commands, step);
      break;
  }
}

/** True for what is tried again when it failed; commands are run once, as wg-quick does. */
export function canRepeat(step: UndoStep): boolean {
  return step.kind !== 'commands';
}

export function describeStep(step: UndoStep): string {
  switch (step.kind) {
    case 'rules':
      return wordsOf(step)
        .map((words) => `IPv${step.family} rule ${words.join(' ')}`)
        .join(', ');
    case 'src-valid-mark':
      return SRC_VALID_MARK;
    case 'resolvconf':
      return `name servers of ${step.record}`;
    case 'table':
      return `nftables table ${step.table}`;
    case 'commands':
      break;
  }
  return step.hook;
}

/** Whoever has a rule for marked packets needs the setting, be it wg-quick. The caller's own rule is gone. */
async function restoreMarkedSources(value: string): Promise<void> {
  const isNeeded = async (): Promise<boolean> => /not from all fwmark/.test(await ip(['-4', 'rule', 'show']));
  if (await isNeeded()) return;
  writeSetting(SRC_VALID_MARK, value);
  // Another one may have come meanwhile and have found it set.
  if (await isNeeded()) writeSetting(SRC_VALID_MARK, '1');
}
