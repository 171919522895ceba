/** Undoes what a killed `sealane up` left behind. */
import { errorLine } from '../errors.ts';
import { killSwitchTable } from '../system/firewall.ts';
import { type JournalRecord, journalNames, readJournal, removeJournal, saveLeftovers } from '../system/journal.ts';
import { listTable } from '../system/nft.ts';
import { areSame } from '../system/rules.ts';
import { canRepeat, describeStep, undoStep, type UndoStep } from '../system/steps.ts';

/**
 * Undoes the steps of a record, the latest first, but those to `keep`; resolves to what was undone, what failed, and
 * the steps that are left: the record keeps them. Call it with the name's lock.
 */
export async function undoLeftovers(
  record: JournalRecord,
  keep: (step: UndoStep) => boolean = () => false,
): Promise<{
  readonly undone: readonly string[];
  readonly failed: readonly string[];
  readonly left: readonly UndoStep[];
}> {
  const undone: string[] = [];
  const failed: string[] = [...record.failed];
  const left: UndoStep[] = [];
  const ahead = [...record.steps];
  for (let step = ahead.pop(); step !== undefined; step = ahead.pop()) {
    if (keep(step)) {
      left.unshift(step);
      continue;
    }
    // A command that has begun has been run.
    if (!canRepeat(step)) tryToSave(record, [...ahead, ...left]);
    try {
      if (isAnothersNow(record.name, step)) continue;
      await undoStep(step, left);
      undone.push(describeStep(step));
      if (canRepeat(step)) tryToSave(record, [...ahead, ...left]);
    } catch (error) {
      failed.push(`${describeStep(step)}: ${errorLine(error)}`);
      if (canRepeat(step)) left.unshift(step);
    }
  }
  if (left.length > 0) saveLeftovers({ ...record, failed: [] }, left);
  else removeJournal(record.name);
  return { undone, failed, left };
}

/** What has been undone must not be undone again by the next one, when this process is killed; a full disk keeps it from nothing. */
function tryToSave(record: JournalRecord, steps: readonly UndoStep[]): void {
  try {
    saveLeftovers(record, steps);
  } catch {
    // The end says so, when it cannot be written either.
  }
}

/**
 * A process may be killed between deleting its rules and noting that, and the kernel gives their places again: what another tunnel
 * has noted as its own since then is its own.
 */
function isAnothersNow(name: string, step: UndoStep): boolean {
  if (step.kind !== 'rules') return false;
  return journalNames()
    .filter((other) => other !== name)
    .flatMap(stepsOf)
    .some((other) => other.kind === 'rules' && areSame(other, step));
}

function stepsOf(name: string): readonly UndoStep[] {
  try {
    return readJournal(name)?.steps ?? [];
  } catch {
    // A record that cannot be trusted keeps nobody's rules in place.
    return [];
  }
}

/** True while the kill switch of a tunnel whose record this is stands, and where nobody can tell. */
export async function killSwitchStands({ name, steps }: JournalRecord): Promise<boolean> {
  if (!steps.some((step) => isKillSwitch(name, step))) return false;
  try {
    return (await listTable(killSwitchTable(name))) !== undefined;
  } catch {
    // Without nft, or when it may not look.
    return true;
  }
}

/** True for the step that takes the kill switch of this tunnel away. */
export function isKillSwitch(name: string, step: UndoStep): boolean {
  return step.kind === 'table' && step.table === killSwitchTable(name);
}
