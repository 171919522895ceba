import { closeSync, constants, openSync } from 'node:fs';
import { errno, errnoName, errnoOf, foreign } from './foreign.ts';

const LOCK_EX = 2;
const LOCK_NB = 4;

export interface FileLock {
  /** Gives the lock up; the file stays. */
  release(): void;
}

/**
 * Takes the exclusive lock (flock(2)) of a file, made with mode 0600 when missing; undefined when another process holds it.
 * The system releases it when this process ends, however it ends. Throws when the file cannot be opened or locked.
 */
export function lockFile(path: string): FileLock | undefined {
  const flock = foreign('int flock(int, int)');
  const fd = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
  if (flock(fd, LOCK_EX | LOCK_NB) === 0) return { release: () => closeSync(fd) };
  const code = errno();
  closeSync(fd);
  if (code === errnoOf('EWOULDBLOCK') || code === errnoOf('EAGAIN')) return undefined;
  throw new Error(`cannot lock ${path}: ${errnoName(code)}`);
}
