import { removeDeadPath } from '@sealane/tunnel';
import { undoKilled } from '../hosting/leftovers.ts';
import { print } from '../output/print.ts';
import { requireFolder, stateFolder } from '../state/folder.ts';

/**
 * Undoes what a killed server left on this host.
 * @throws RefusedError while a server runs on the folder, or when the system refuses.
 */
export async function down(options: { readonly state: string }): Promise<void> {
  const folder = stateFolder(options.state);
  requireFolder(folder);
  const undone = await undoKilled(folder);
  await removeDeadPath(folder.controlSocket);
  await print(undone.length === 0 ? 'nothing to undo' : `undone: ${undone.join(', ')}`);
}
