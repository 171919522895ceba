/** What a killed server left on this host: found by its record, undone by that too. */
import { errorLine } from '../errors.ts';
import type { StateFolder } from '../state/folder.ts';
import { lockRun, runs } from '../state/lock.ts';
import { describeRecord, undoRecord } from './host.ts';
import { readRecords } from './record.ts';

export interface Leftovers {
  /** In this network namespace. */
  readonly changes: readonly string[];
  /** What cannot be undone from here, with what to do. */
  readonly notes: readonly string[];
}

/** What still stands although no server runs. */
export async function leftBehind(folder: StateFolder): Promise<Leftovers> {
  const left = await leftovers(folder).catch((error: unknown) => ({ changes: [], notes: [errorLine(error)] }));
  const isNothing = left.changes.length === 0 && left.notes.length === 0;
  return isNothing || !runs(folder) ? left : { changes: [], notes: [] };
}

/**
 * Undoes what stands in this network namespace; resolves to what that was.
 * @throws RefusedError while a server runs on the folder, when its record cannot be understood, or when the system refuses.
 */
export async function undoKilled(folder: StateFolder): Promise<Leftovers> {
  const lock = await lockRun(folder);
  try {
    const left = await leftovers(folder);
    await undoRecord(folder.hosting);
    return left;
  } finally {
    lock.release();
  }
}

async function leftovers({ hosting }: StateFolder): Promise<Leftovers> {
  const { here, elsewhere } = readRecords(hosting);
  const names = elsewhere.map(({ interfaceName }) => interfaceName).join(', ');
  const note = `what a server with ${names} changed was made in another network namespace: 'sealaned down' there undoes it; when that is gone, stop the server here first, then remove ${hosting}`;
  return { changes: here === undefined ? [] : await describeRecord(here), notes: names === '' ? [] : [note] };
}
