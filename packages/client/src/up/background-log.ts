/**
 * What a tunnel or a device in the background says: a file for each name in each network namespace, beside the journals. Their
 * folder is in memory and nobody rotates what is in it, so that the file is bounded, and gone when `sealane down` ends the tunnel.
 */
import { randomBytes } from 'node:crypto';
import { existsSync, fstatSync, ftruncateSync, openSync, readSync, renameSync, rmSync, writeSync } from 'node:fs';
import { runtimePath } from '../system/journal.ts';

const STANDARD_ERROR = 2;
const MOST_BYTES = 2 ** 20;
const CHECK_INTERVAL = 5_000;

/** The log of a start that may fail yet: its own, until `keepLog` makes it the log of the name. */
export function openLog(name: string): { readonly path: string; readonly fd: number } {
  const path = `${runtimePath(name, 'log')}.${randomBytes(6).toString('hex')}`;
  return { path, fd: openSync(path, 'ax+', 0o600) };
}

/** In place of that of one before. Returns where it lies. */
export function keepLog(name: string, path: string): string {
  const kept = runtimePath(name, 'log');
  renameSync(path, kept);
  return kept;
}

/** The log of the last one in the background, unless it was ended by `sealane down`. */
export function logOf(name: string): string | undefined {
  const path = runtimePath(name, 'log');
  return existsSync(path) ? path : undefined;
}

export function removeLog(name: string): void {
  rmSync(runtimePath(name, 'log'), { force: true });
}

/** For the process in the background, whose standard error it is: of what is too long the newer part stays. */
export function boundLog(): void {
  setInterval(() => {
    const { size } = fstatSync(STANDARD_ERROR);
    if (size <= MOST_BYTES) return;
    const text = new Uint8Array(MOST_BYTES / 2);
    const length = readSync(STANDARD_ERROR, text, 0, text.length, size - text.length);
    ftruncateSync(STANDARD_ERROR);
    writeSync(STANDARD_ERROR, text.subarray(text.indexOf(0x0a) + 1, length));
  }, CHECK_INTERVAL).unref();
}
