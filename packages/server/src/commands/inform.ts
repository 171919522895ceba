import { errorLine, RefusedError } from '../errors.ts';
import { requestControl } from '../running/control.ts';
import type { StateFolder } from '../state/folder.ts';
import { runs } from '../state/lock.ts';

/**
 * Makes the running server, if there is one, apply what was written; true when it did, false when none runs.
 * @throws RefusedError when one runs and could not be told: `done` says what is on disk all the same.
 */
export async function informServer(folder: StateFolder, done: string): Promise<boolean> {
  let reason: string;
  try {
    if ((await requestControl(folder.controlSocket, 'reload')) !== undefined) return true;
    if (!runs(folder)) return false;
    reason = 'it does not listen on its control socket';
  } catch (error) {
    reason = errorLine(error);
  }
  throw new RefusedError(`${done}, but the running server does not know yet (${reason}): restart it`);
}
