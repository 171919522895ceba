import { removeDeadPath } from '@sealane/tunnel';
import { RefusedError } from '../errors.ts';
import { undoKilled } from '../hosting/leftovers.ts';
import { print } from '../output/print.ts';
import { requireFolder, stateFolder } from '../state/folder.ts';

/**
 * Undoes what a killed server left on this host.
 * @throws RefusedError while a server runs on the folder, when the system refuses, or for what cannot be undone from here.
 */
export async function down(options: { readonly state: string }): Promise<void> {
  const folder = stateFolder(options.state);
  requireFolder(folder);
  const { changes, notes } = await undoKilled(folder);
  await removeDeadPath(folder.controlSocket);
  if (changes.length > 0) await print(`undone: ${changes.join(', ')}`);
  else if (notes.length === 0) await print('nothing to undo');
  if (notes.length > 0) throw new RefusedError(notes.join('; '));
}
