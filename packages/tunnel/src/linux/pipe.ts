/** A pipe whose ends a program can hand on, which Node has no call for (pipe(2)). */
import { addressOf, errno, errnoName, foreign } from './foreign.ts';

const O_CLOEXEC = 0o2000000;
const O_NONBLOCK = 0o4000;
const F_SETFD = 2;
const F_GETFL = 3;
const F_SETFL = 4;
const FD_CLOEXEC = 1;

export interface Pipe {
  readonly read: number;
  readonly write: number;
}

/** Both descriptors are the caller's to close; programs that are started get neither unless they are given it. */
export function openPipe(): Pipe {
  const ends = new Int32Array(new ArrayBuffer(8));
  if (foreign('int pipe2(uintptr_t, int)')(addressOf(new Uint8Array(ends.buffer)), O_CLOEXEC) !== 0) {
    throw new Error(`no pipe: ${errnoName(errno())}`);
  }
  return { read: ends[0]!, write: ends[1]! };
}

/** Programs that are started from here on do not get this descriptor. */
export function keepToOurselves(descriptor: number): void {
  foreign('int fcntl(int, int, int)')(descriptor, F_SETFD, FD_CLOEXEC);
}

/**
 * Whoever writes to this descriptor, or to another one of the same open file, waits while it is full. Returns how to put back what
 * was before.
 */
export function letWait(descriptor: number): () => void {
  const fcntl = foreign('int fcntl(int, int, int)');
  const flags = fcntl(descriptor, F_GETFL, 0);
  fcntl(descriptor, F_SETFL, flags & ~O_NONBLOCK);
  return () => void fcntl(descriptor, F_SETFL, flags);
}
