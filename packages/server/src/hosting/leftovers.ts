/** What a killed server left on this host: found by its record, undone by that too. */
import type { StateFolder } from '../state/folder.ts';
import { lockRun, runs } from '../state/lock.ts';
import { recordedChanges, undoRecord } from './host.ts';

/** What still stands although no server runs; nothing when it left nothing or in another network namespace. */
export function leftBehind(folder: StateFolder): readonly string[] {
  const changes = recordedChanges(folder.hosting);
  return changes.length === 0 || runs(folder) ? [] : changes;
}

/**
 * Undoes it; resolves to what that was.
 * @throws RefusedError while a server runs on the folder, or when the system refuses.
 */
export async function undoKilled(folder: StateFolder): Promise<readonly string[]> {
  const lock = await lockRun(folder);
  try {
    const changes = recordedChanges(folder.hosting);
    await undoRecord(folder.hosting);
    return changes;
  } finally {
    lock.release();
  }
}
