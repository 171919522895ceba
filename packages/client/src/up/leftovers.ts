/** Undoes what a killed `sealane up` left behind. */
import { CliError, errorLine, EXIT } from '../errors.ts';
import { isAlive, type JournalRecord, removeJournal, writeJournal } from '../system/journal.ts';
import { canRepeat, describeStep, undoStep, type UndoStep } from '../system/steps.ts';

/**
 * Undoes the steps of a record, the latest first, but those to `keep`; resolves to what was undone, what failed, and
 * the steps that are left: the record keeps them. CliError, and nothing undone, when its process lives.
 */
export async function undoLeftovers(
  record: JournalRecord,
  keep: (step: UndoStep) => boolean = () => false,
): Promise<{
  readonly undone: readonly string[];
  readonly failed: readonly string[];
  readonly left: readonly UndoStep[];
}> {
  if (isAlive(record)) {
    throw new CliError(EXIT.failure, `${record.name} is in use: process ${record.pid} is at work on it`);
  }
  const undone: string[] = [];
  const failed: string[] = [...record.failed];
  const left: UndoStep[] = [];
  for (const step of record.steps.toReversed()) {
    if (keep(step)) {
      left.unshift(step);
      continue;
    }
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
