/**
 * One process at a time works on the name of a tunnel, from before it reads what another left until everything is undone.
 * The system knows of it, and that it is over, however the process ended.
 */
import { readdirSync, readlinkSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { type FileLock, lockFile } from '@sealane/tunnel';
import { CliError, EXIT } from '../errors.ts';
import { runtimePath } from './journal.ts';

const ATTEMPTS = 20;
const RETRY_MS = 10;

/** The lock of a name in this network namespace; undefined while another process works on it. */
export function tryName(name: string): FileLock | undefined {
  return lockFile(runtimePath(name, 'lock'));
}

/** Does the work while nobody else works on the name; CliError, and nothing done, when somebody does. */
export async function withName<T>(name: string, work: () => Promise<T>): Promise<T> {
  const lock = await takeName(name);
  try {
    return await work();
  } finally {
    lock.remove();
  }
}

/** True when it is this process that works on the name. */
export function worksOn(pid: number, name: string): boolean {
  const [folder, path] = [`/proc/${pid}/fd`, runtimePath(name, 'lock')];
  try {
    return readdirSync(folder).some((fd) => readlinkSync(`${folder}/${fd}`) === path);
  } catch {
    // It has just ended, or closed the file that was looked at.
    return false;
  }
}

async function takeName(name: string): Promise<FileLock> {
  // `isTaken` holds the lock for a moment: one attempt could meet it.
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const lock = tryName(name);
    if (lock !== undefined) return lock;
    await sleep(RETRY_MS);
  }
  throw new CliError(EXIT.failure, `${name} is in use: another process is at work on it`);
}

/** True while a process works on the name, whatever it is doing. */
export function isTaken(name: string): boolean {
  const lock = tryName(name);
  lock?.remove();
  return lock === undefined;
}
