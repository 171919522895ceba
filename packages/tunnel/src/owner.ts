import { fchownSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { errorCode } from './os-error.ts';

/**
 * Gives a file that root has just made to whom its folder belongs to: the program of that user has to read and replace it,
 * whoever looks after it. For new files only: what was there before may be a link to anybody's.
 */
export function giveToFolderOwner(fd: number, path: string): void {
  if (process.geteuid?.() !== 0) return;
  const { uid, gid } = statSync(dirname(path));
  if (uid === 0) return;
  try {
    fchownSync(fd, uid, gid);
  } catch (error) {
    // Root without CAP_CHOWN, or in a user namespace that does not know the owner: the file is of use to us at least.
    if (errorCode(error) !== 'EPERM' && errorCode(error) !== 'EINVAL') throw error;
  }
}
