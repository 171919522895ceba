import { closeSync, constants, openSync } from 'node:fs';
import { errorCode } from '../os-error.ts';
import { giveToFolderOwner } from '../owner.ts';
import { errno, errnoName, errnoOf, foreign } from './foreign.ts';

const LOCK_EX = 2;
const LOCK_NB = 4;

export interface FileLock {
  /** Gives the lock up; the file stays. */
  release(): void;
}

/**
 * Takes the exclusive lock (flock(2)) of a file, made with mode 0600 and for the owner of its folder
 * when missing; undefined when another process holds it.
 * The system releases it when this process ends, however it ends. Throws when the file cannot be opened or locked.
 */
export function lockFile(path: string): FileLock | undefined {
  const flock = foreign('int flock(int, int)');
  const fd = openOrCreate(path);
  if (flock(fd, LOCK_EX | LOCK_NB) === 0) return { release: () => closeSync(fd) };
  const code = errno();
  closeSync(fd);
  if (code === errnoOf('EWOULDBLOCK') || code === errnoOf('EAGAIN')) return undefined;
  throw new Error(`cannot lock ${path}: ${errnoName(code)}`);
}

function openOrCreate(path: string): number {
  const flags = constants.O_RDWR | constants.O_NOFOLLOW;
  try {
    const fd = openSync(path, flags | constants.O_CREAT | constants.O_EXCL, 0o600);
    giveToFolderOwner(fd, path);
    return fd;
  } catch (error) {
    if (errorCode(error) !== 'EEXIST') throw error;
    return openSync(path, flags);
  }
}
