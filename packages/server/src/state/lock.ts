import { setTimeout as sleep } from 'node:timers/promises';
import { lockFile, type FileLock } from '@sealane/tunnel';
import { RefusedError } from '../errors.ts';
import { requireFolder, type StateFolder } from './folder.ts';

const RETRY_MS = 10;
const PATIENCE_MS = 30_000;
const RUN_ATTEMPTS = 20;

/**
 * Runs one change of the registry while nobody else changes it; waits for its turn.
 * The kernel gives the lock back when the process dies.
 */
export async function whileChanging<T>(folder: StateFolder, change: () => T): Promise<T> {
  requireFolder(folder);
  const until = performance.now() + PATIENCE_MS;
  for (;;) {
    const lock = lockFile(folder.changeLock);
    if (lock !== undefined) {
      try {
        return change();
      } finally {
        lock.release();
      }
    }
    if (performance.now() > until) {
      throw new RefusedError(
        `${folder.path} is being changed by another process for ${PATIENCE_MS / 1_000} s: try again`,
      );
    }
    await sleep(RETRY_MS);
  }
}

/**
 * Takes the folder for one running server.
 * @throws RefusedError when another one runs.
 */
export async function lockRun(folder: StateFolder): Promise<FileLock> {
  // `runs` holds the lock for a moment: one attempt could meet it.
  for (let attempt = 0; attempt < RUN_ATTEMPTS; attempt++) {
    const lock = lockFile(folder.runLock);
    if (lock !== undefined) return lock;
    await sleep(RETRY_MS);
  }
  throw new RefusedError(`another sealaned runs on ${folder.path}: stop it first, or use another --state`);
}

/** True while a server runs on the folder, whether it can be reached or not. */
export function runs(folder: StateFolder): boolean {
  const lock = lockFile(folder.runLock);
  lock?.release();
  return lock === undefined;
}
