import { closeSync, constants, fstatSync, openSync, rmSync, statSync } from 'node:fs';
import { errorCode } from '../os-error.ts';
import { giveToFolderOwner } from '../owner.ts';
import { errno, errnoName, errnoOf, foreign } from './foreign.ts';

const LOCK_EX = 2;
const LOCK_NB = 4;

export interface FileLock {
  /** Gives the lock up; the file stays. */
  release(): void;
  /** Gives the lock up and takes the file away; it stays when that is not permitted. */
  remove(): void;
}

/**
 * Takes the exclusive lock (flock(2)) of a file, made with mode 0600 and for the owner of its folder
 * when missing; undefined when another process holds it.
 * The system releases it when this process ends, however it ends. Throws when the file cannot be opened or locked.
 */
export function lockFile(path: string): FileLock | undefined {
  const flock = foreign('int flock(int, int)');
  for (;;) {
    const fd = openOrCreate(path);
    if (fd === undefined) continue;
    if (flock(fd, LOCK_EX | LOCK_NB) === 0) {
      // The holder before may have removed the file that was opened here: another one would lock another file.
      if (isFileAt(path, fd)) return { release: () => closeSync(fd), remove: () => remove(path, fd) };
      closeSync(fd);
      continue;
    }
    const code = errno();
    closeSync(fd);
    if (code === errnoOf('EWOULDBLOCK') || code === errnoOf('EAGAIN')) return undefined;
    throw new Error(`cannot lock ${path}: ${errnoName(code)}`);
  }
}

/** Undefined when the file went away meanwhile. */
function openOrCreate(path: string): number | undefined {
  const flags = constants.O_RDWR | constants.O_NOFOLLOW;
  try {
    const fd = openSync(path, flags | constants.O_CREAT | constants.O_EXCL, 0o600);
    giveToFolderOwner(fd, path);
    return fd;
  } catch (error) {
    if (errorCode(error) !== 'EEXIST') throw error;
  }
  try {
    return openSync(path, flags);
  } catch (error) {
    if (errorCode(error) !== 'ENOENT') throw error;
    return undefined;
  }
}

function isFileAt(path: string, fd: number): boolean {
  return statSync(path, { throwIfNoEntry: false })?.ino === fstatSync(fd).ino;
}

function remove(path: string, fd: number): void {
  try {
    rmSync(path, { force: true });
  } catch {
    // An ordinary user in root's folder: the lock is what counts.
  }
  closeSync(fd);
}
