import { setTimeout as sleep } from 'node:timers/promises';
import { ControlError, readStatus, requestReload, type StatusReport } from '@sealane/tunnel';
import { errorCode, errorLine, RefusedError } from '../errors.ts';
import type { StateFolder } from '../state/folder.ts';
import { runs } from '../state/lock.ts';

const RETRY_MS = 50;
/** A server that starts or stops holds its folder for longer than its socket. */
const PATIENCE_MS = 5_000;

/**
 * What the server that runs on the folder says of itself; undefined when none runs.
 * @throws RefusedError when one runs and does not answer.
 */
export async function liveStatus(folder: StateFolder): Promise<StatusReport | undefined> {
  try {
    return await readStatus(folder.controlSocket);
  } catch (error) {
    if (isAbsent(error)) return undefined;
    throw new RefusedError(`the running server does not answer: ${errorLine(error)}`, { cause: error });
  }
}

/**
 * Makes the server that runs on the folder, if there is one, apply what was written; false when none runs.
 * @throws RefusedError when one runs and could not be told: `done` says what is on disk all the same.
 */
export async function informServer(folder: StateFolder, done: string): Promise<boolean> {
  const until = performance.now() + PATIENCE_MS;
  for (;;) {
    try {
      await requestReload(folder.controlSocket);
      return true;
    } catch (error) {
      const absent = isAbsent(error);
      if (absent && !runs(folder)) return false;
      if (!absent || performance.now() > until) {
        throw new RefusedError(`${done}, but the running server does not know yet (${errorLine(error)}): restart it`, {
          cause: error,
        });
      }
    }
    await sleep(RETRY_MS);
  }
}

function isAbsent(error: unknown): boolean {
  const code = error instanceof ControlError ? errorCode(error.cause) : undefined;
  return code === 'ENOENT' || code === 'ECONNREFUSED';
}
