/** Undoes what a killed `sealane up` left behind. */
import { errorLine } from '../errors.ts';
import { killSwitchTable } from '../system/firewall.ts';
import { type JournalRecord, removeJournal, writeJournal } from '../system/journal.ts';
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
    if (!canRepeat(step)) tryToWrite({ ...record, steps: [...ahead, ...left] });
    try {
      await undoStep(step);
      undone.push(describeStep(step));
    } catch (error) {
      failed.push(`${describeStep(step)}: ${errorLine(error)}`);
      if (canRepeat(step)) left.unshift(step);
    }
  }
  if (left.length > 0) writeJournal({ ...record, steps: left, failed: [] });
  else removeJournal(record.name);
  return { undone, failed, left };
}

/** Before a command, which a process that is killed meanwhile must not leave to be run again; a full disk keeps it from nothing. */
function tryToWrite(record: JournalRecord): void {
  try {
    writeJournal(record);
  } catch {
    // The end says so, when it cannot be written either.
  }
}

/** True for the step that takes the kill switch of this tunnel away. */
export function isKillSwitch(name: string, step: UndoStep): boolean {
  return step.kind === 'table' && step.table === killSwitchTable(name);
}
