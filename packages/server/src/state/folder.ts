import { chmodSync, lchownSync, lstatSync, mkdirSync, readdirSync, readFileSync, statSync, type Stats } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, isAbsolute, join, resolve } from 'node:path';
import { errorCode, InputError, RefusedError } from '../errors.ts';

/** Where one server keeps everything: a folder of mode 0700 that is its own. */
export interface StateFolder {
  readonly path: string;
  /** The server's private key, in a file of its own. */
  readonly privateKey: string;
  readonly registry: string;
  /** Held for the length of one change of the registry. */
  readonly changeLock: string;
  /** Held for as long as a server runs. */
  readonly runLock: string;
  readonly controlSocket: string;
  /** The newest handshake timestamp used, so that a restart never goes back behind it. */
  readonly timestamp: string;
  /** Where the peers were last. */
  readonly endpoints: string;
  /** What to undo on this host when a server was killed. */
  readonly hosting: string;
}

/** /var/lib/sealane for root, the XDG state folder otherwise. */
export function defaultStatePath(): string {
  if (process.getuid?.() === 0) return '/var/lib/sealane';
  const xdg = process.env['XDG_STATE_HOME'];
  const base = xdg !== undefined && isAbsolute(xdg) ? xdg : join(homedir(), '.local', 'state');
  return join(base, 'sealane');
}

/** Names the files of a state folder; touches nothing. */
export function stateFolder(path: string): StateFolder {
  const root = resolve(path);
  return {
    path: root,
    privateKey: join(root, 'private.key'),
    registry: join(root, 'registry.json'),
    changeLock: join(root, 'change.lock'),
    runLock: join(root, 'run.lock'),
    controlSocket: join(root, 'control.sock'),
    timestamp: join(root, 'timestamp'),
    endpoints: join(root, 'endpoints.json'),
    hosting: join(root, 'hosting.json'),
  };
}

/**
 * Makes the folder, or takes one that is there already.
 * @throws InputError when it may not be used because others can enter it.
 */
export function createFolder(folder: StateFolder): void {
  try {
    const made = mkdirSync(folder.path, { recursive: true, mode: 0o700 });
    if (made !== undefined) chmodSync(folder.path, 0o700);
  } catch (error) {
    throw new RefusedError(`${folder.path} cannot be made: ${errorCode(error) ?? String(error)}`, { cause: error });
  }
  checkMode(folder.path, 'directory', '0700');
}

/**
 * Checks that the folder of a server is there and that nobody else can look into it.
 * @throws InputError with the remedy.
 */
export function requireFolder(folder: StateFolder): void {
  checkMode(folder.path, 'directory', '0700');
}

/** Gives what is in the folder to its new owner. */
export function giveAway(folder: StateFolder, { uid, gid }: { readonly uid: number; readonly gid: number }): void {
  for (const name of readdirSync(folder.path)) lchownSync(join(folder.path, name), uid, gid);
}

/**
 * Reads a private file of the folder.
 * @throws InputError with the remedy when it is missing or others may read it.
 */
export function readPrivate(folder: StateFolder, path: string): Uint8Array {
  requireFolder(folder);
  checkMode(path, 'file', '0600');
  try {
    return readFileSync(path);
  } catch (error) {
    throw new InputError(`${path} cannot be read: ${errorCode(error) ?? String(error)}`, { cause: error });
  }
}

function checkMode(path: string, kind: 'directory' | 'file', mode: '0700' | '0600'): void {
  const stat = statOf(path, kind);
  if (stat === undefined) throw new InputError(`${path} does not exist: make a server with 'sealaned init' first`);
  if (stat.isSymbolicLink()) throw new InputError(`${path} is a symbolic link: put the file itself there`);
  if (kind === 'directory' ? !stat.isDirectory() : !stat.isFile()) throw new InputError(`${path} is not a ${kind}`);
  if (kind === 'file') checkOwner(path, stat);
  if ((stat.mode & 0o077) === 0) return;
  const found = (stat.mode & 0o7777).toString(8).padStart(4, '0');
  throw new InputError(`${path} is open to others (mode ${found}): close it with 'chmod ${mode} ${path}'`);
}

/** Ours, root's, or that of whom the folder belongs to, as with `--user`. */
function checkOwner(path: string, { uid }: Stats): void {
  const folder = statOf(dirname(path), 'directory');
  if (uid === 0 || uid === process.geteuid?.() || uid === folder?.uid) return;
  throw new InputError(`${path} belongs to another user (uid ${uid}): make it yours with 'chown'`);
}

/** Of a file itself, and of where a folder leads to. */
function statOf(path: string, kind: 'directory' | 'file'): Stats | undefined {
  try {
    const options = { throwIfNoEntry: false } as const;
    return kind === 'directory' ? statSync(path, options) : lstatSync(path, options);
  } catch (error) {
    throw new InputError(`${path} cannot be used: ${errorCode(error) ?? String(error)}`, { cause: error });
  }
}
