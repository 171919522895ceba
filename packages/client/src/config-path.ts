import { statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { badInput, errorCode } from './errors.ts';

/** Where a bare name is looked for, as wg-quick does. */
const FOLDERS = ['/etc/sealane', '/etc/wireguard'];
const SUFFIX = '.conf';

/**
 * `wg0` stands for /etc/sealane/wg0.conf or /etc/wireguard/wg0.conf unless a file of that name is here. CliError that names all of them
 * when none is there.
 */
export function configPath(given: string): string {
  if (given.includes('/') || given.endsWith(SUFFIX) || given === '-') return given;
  const places = FOLDERS.map((folder) => join(folder, given + SUFFIX));
  const found = [given, ...places].find(mayBeFile);
  if (found !== undefined) return found;
  const here = statSync(given, { throwIfNoEntry: false }) === undefined ? 'is no file here' : 'is a directory here';
  throw badInput(`${given}: ${here}, and none was found at ${places.join(' or ')}; give the path of the file`);
}

function mayBeFile(path: string): boolean {
  try {
    return statSync(path, { throwIfNoEntry: false })?.isDirectory() === false;
  } catch (error) {
    // Whoever may not look is told so when it is read.
    return errorCode(error) === 'EACCES';
  }
}

/** The interface that a file is for: its name without `.conf`. */
export function interfaceNameOf(path: string): string {
  const name = basename(path, SUFFIX);
  if (path === '-' || !/^[a-zA-Z0-9_=+.-]{1,15}$/.test(name)) {
    throw badInput(`${path}: the file name gives no interface name of 1 to 15 letters or digits: add --name NAME`);
  }
  return name;
}

/** CliError for a configuration that can be read once only, and what it would have to be read for. */
export function refusePipe(path: string, why: string): void {
  if (isPipe(path)) throw badInput(`${path === '-' ? 'standard input' : path}: is a pipe: ${why}`);
}

/** Whether the configuration can be read once only: standard input, a FIFO. */
export function isPipe(path: string): boolean {
  return path === '-' || statSync(path, { throwIfNoEntry: false })?.isFIFO() === true;
}
