import { requestControl } from '../running/control.ts';
import type { LiveStatus } from '../running/live.ts';
import type { StateFolder } from '../state/folder.ts';

/** What the running server says, or undefined when none runs. */
export async function liveStatus(folder: StateFolder): Promise<LiveStatus | undefined> {
  return (await requestControl(folder.controlSocket, 'status')) as LiveStatus | undefined;
}
