/** Undoes what a killed `sealane up` left behind. */
import { CliError, errorLine, EXIT } from '../errors.ts';
import { isAlive, removeJournal, type JournalRecord } from '../system/journal.ts';
import { describeStep, undoStep, type UndoStep } from '../system/steps.ts';

/**
 * Undoes the steps of a record, the latest first, but those to `keep`; resolves to what was undone and what failed.
 * CliError, and nothing undone, when its process lives.
 */
export async function undoLeftovers(
  record: JournalRecord,
  keep: (step: UndoStep) => boolean = () => false,
): Promise<{ readonly undone: readonly string[]; readonly failed: readonly string[] }> {
  if (isAlive(record)) {
    throw new CliError(EXIT.failure, `${record.name} is in use: process ${record.pid} is at work on it`);
  }
  const undone: string[] = [];
  const failed: string[] = [];
  for (const step of record.steps.toReversed()) {
    if (keep(step)) continue;
    try {
      await undoStep(step);
      undone.push(describeStep(step));
    } catch (error) {
      failed.push(`${describeStep(step)}: ${errorLine(error)}`);
    }
  }
  removeJournal(record.name);
  return { undone, failed };
}
