/** Reads configuration files that hold keys and commands: only those that nobody else can read or exchange. */
import type { Stats } from 'node:fs';
import { lstat, open, realpath, stat, type FileHandle } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { ConfigError, problemAt, type ConfigProblem } from './error.ts';
import type { TunnelConfig } from './model.ts';
import { parseConfig } from './parse.ts';
import { readRouteTables } from './route-tables.ts';
import { errorCode, errorMessage } from '../os-error.ts';

/** Room for some 300,000 allowed IPs. */
export const MAX_CONFIG_BYTES: number = 16 * 1024 * 1024;

/** In a folder with this bit only the owner of a file may exchange it. */
const STICKY = 0o1000;

export interface ReadConfigOptions {
  /**
   * Takes symbolic links and files that others may read, write or own; never the default, for systems whose permissions mean
   * nothing. Commands still have to come from a file that nobody else can write.
   */
  readonly anyPermissions?: boolean;
}

export interface LoadConfigOptions extends ReadConfigOptions {
  /** Hears of what is taken and is most likely a mistake. */
  readonly warn?: (warning: ConfigProblem) => void;
}

/** Reads and parses a file; `-` is standard input. Throws a ConfigError. */
export async function loadConfig(path: string, options: LoadConfigOptions = {}): Promise<TunnelConfig> {
  // Comments may be in any encoding; the parser refuses all else.
  const text = decode(path, await readBytes(path, options), false);
  const config = parseConfig(text, shownName(path), options.warn, readRouteTables);
  const { preUp, postUp, preDown, postDown } = config.interface;
  if (options.anyPermissions === true && path !== '-' && [preUp, postUp, preDown, postDown].flat().length > 0) {
    await checkCommands(path);
  }
  return config;
}

/**
 * The text of a file that is a regular file or a pipe and no symbolic link, belongs to us or to root, lets nobody else in and has at most
 * MAX_CONFIG_BYTES; `-` is standard input. Throws a ConfigError.
 */
export async function readConfigFile(path: string, options: ReadConfigOptions = {}): Promise<string> {
  return decode(path, await readBytes(path, options), true);
}

async function readBytes(path: string, options: ReadConfigOptions): Promise<Uint8Array> {
  if (path === '-') return readBounded(path, process.stdin as AsyncIterable<Uint8Array>);
  let handle: FileHandle | undefined;
  try {
    if (options.anyPermissions !== true) {
      await checkPath(path);
      // Before it is opened: root without its capabilities may not open what it has to refuse.
      checkFile(path, await stat(path));
    }
    handle = await open(path, 'r');
    const stats = await handle.stat();
    if (!stats.isFile() && !stats.isFIFO()) refuse(path, 'is not a file');
    if (options.anyPermissions !== true) checkFile(path, stats);
    return await readBounded(path, handle.createReadStream({ autoClose: false }) as AsyncIterable<Uint8Array>);
  } catch (error) {
    throw error instanceof ConfigError ? error : unreadable(path, error);
  } finally {
    await handle?.close();
  }
}

async function readBounded(path: string, stream: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of stream) {
    length += chunk.length;
    if (length > MAX_CONFIG_BYTES) refuse(path, `is larger than ${MAX_CONFIG_BYTES} bytes`);
    chunks.push(chunk);
  }
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, at);
    at += chunk.length;
    chunk.fill(0);
  }
  return bytes;
}

/** Bytes that are not UTF-8 become U+FFFD unless that is `fatal`. */
function decode(path: string, bytes: Uint8Array, fatal: boolean): string {
  try {
    return new TextDecoder('utf-8', { fatal }).decode(bytes);
  } catch {
    return refuse(path, 'is not text in UTF-8');
  } finally {
    bytes.fill(0);
  }
}

/** Who may exchange the file behind this name may choose our keys and commands. */
async function checkPath(path: string): Promise<void> {
  const link = await lstat(path);
  if (link.isSymbolicLink()) {
    if (isForeign(link.uid)) refuse(path, `is a symbolic link of another user (uid ${link.uid}); name the file itself`);
    // What a shell calls /dev/fd/63 is a link to a pipe.
    if ((await stat(path)).isFile()) refuse(path, `is a symbolic link; name the file itself, ${await realpath(path)}`);
  }
  await checkFolder(path);
}

/** Who may write the file, or exchange it or what it is a link to, may choose the commands. */
async function checkCommands(path: string): Promise<void> {
  const file = await realpath(path);
  const { mode, uid } = await stat(file);
  if ((mode & 0o022) !== 0 || isForeign(uid) || isForeign((await lstat(path)).uid)) {
    refuse(path, `has commands, and may be written by other users; run 'chmod go-w ${file}', or remove them`);
  }
  await checkFolder(path);
  await checkFolder(file);
}

async function checkFolder(path: string): Promise<void> {
  const folder = dirname(resolve(path));
  const { mode, uid, gid } = await stat(folder);
  // Where every user has a group of his own, that is what folders are given.
  const others = gid === 0 || gid === process.getegid?.() ? 0o002 : 0o022;
  if ((mode & others) !== 0 && (mode & STICKY) === 0) {
    refuse(path, `lies in a folder that others may write; run 'chmod go-w ${folder}' or move the file`);
  }
  if (isForeign(uid)) refuse(path, `lies in a folder of another user (uid ${uid}); move it to one of your own`);
}

function checkFile(path: string, stats: Stats): void {
  if (isForeign(stats.uid)) {
    refuse(path, `belongs to another user (uid ${stats.uid}); copy it, or give it to yourself with 'chown'`);
  }
  if (stats.isFile() && (stats.mode & 0o077) !== 0) {
    const what = (stats.mode & 0o022) !== 0 ? 'written' : 'read';
    refuse(path, `may be ${what} by other users; run 'chmod 600 ${path}'`);
  }
}

/** Root may do everything anyway, so its files are as good as ours. Systems without user ids have nothing to compare. */
function isForeign(uid: number): boolean {
  const own = process.geteuid?.();
  return own !== undefined && uid !== own && uid !== 0;
}

function refuse(path: string, what: string, cause?: unknown): never {
  throw new ConfigError([problemAt(shownName(path), 0, '', what)], { cause });
}

function unreadable(path: string, cause: unknown): ConfigError {
  const code = errorCode(cause);
  const what =
    code === 'ENOENT'
      ? 'does not exist'
      : code === 'EACCES'
        ? 'may not be read by this user; run as its owner'
        : `cannot be read (${code ?? errorMessage(cause)})`;
  return new ConfigError([problemAt(shownName(path), 0, '', what)], { cause });
}

function shownName(path: string): string {
  return path === '-' ? 'standard input' : path;
}
