/** Where control sockets lie, and how one path gets exactly one owner. */
import { randomBytes } from 'node:crypto';
import type { Stats } from 'node:fs';
import { link, lstat, mkdir, readdir, stat, unlink, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { homedir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { errorCode } from '../os-error.ts';

/** Where `wg` looks; only root may use it. */
export const SYSTEM_FOLDER = '/var/run/wireguard';

/** The room that a socket address has for a path, without its final zero. */
const MAX_PATH_BYTES = 107;
const SUFFIX = '.sock';
const PROBE_TIMEOUT = 2_000;
/** More than a claim takes: a probe and a few calls of the file system. */
const STALE_LOCK = 5_000;
const LOCK_RETRY = 10;

export interface ControlSocket {
  readonly name: string;
  readonly path: string;
}

/** The control socket of a tunnel; RangeError for what is no interface name. */
export function controlPath(name: string): string {
  if (!/^[a-zA-Z0-9_=+.-]{1,15}$/.test(name) || name === '.' || name === '..') {
    throw new RangeError(`name: '${name.slice(0, 40)}' is no interface name; 1 to 15 letters, digits or any of _=+.-`);
  }
  return join(ownFolder(), name + SUFFIX);
}

/** Every control socket within reach that something answers on, of other WireGuard programs too. */
export async function listControls(): Promise<ControlSocket[]> {
  const folders = [...new Set([SYSTEM_FOLDER, ownFolder()])];
  const found: ControlSocket[] = [];
  for (const folder of folders) {
    for (const file of await readdir(folder).catch(() => [])) {
      if (file.endsWith(SUFFIX)) found.push({ name: file.slice(0, -SUFFIX.length), path: join(folder, file) });
    }
  }
  const live = await Promise.all(found.map(({ path }) => isServed(path)));
  return found.filter((_, i) => live[i]);
}

/** Makes the folder of a socket, mode 0700, or checks that nobody else can put a socket of his own there. */
export async function prepareFolder(path: string): Promise<void> {
  if (Buffer.byteLength(path) > MAX_PATH_BYTES) {
    throw new RangeError(`path: '${path}' has more than ${MAX_PATH_BYTES} bytes; use a shorter folder`);
  }
  const folder = dirname(path);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const { mode, uid } = await stat(folder);
  const own = process.geteuid?.();
  if (own !== undefined && uid !== own && uid !== 0) {
    const remedy = `run as that user, or give it to yourself with 'chown ${own} ${folder}'`;
    throw new Error(`cannot open control socket ${path}: ${folder} belongs to another user (uid ${uid}); ${remedy}`);
  }
  if ((mode & 0o022) !== 0) {
    throw new Error(`cannot open control socket ${path}: others may write ${folder}; run 'chmod 700 ${folder}'`);
  }
}

/** A name in the same folder that nobody uses and that no program takes for a control socket. */
export function temporaryPath(path: string): string {
  return join(dirname(path), `.${randomBytes(6).toString('hex')}`);
}

/**
 * Gives the listening socket at `temporary` its real name. A name whose owner died is taken over; of several that try
 * at once one wins. Throws when the name is in use.
 */
export async function claimPath(temporary: string, path: string): Promise<void> {
  try {
    await locked(path, async () => {
      const before = await entryAt(path);
      if (before !== undefined) {
        if (!before.isSocket()) {
          throw new Error(`cannot open control socket ${path}: there is something that is no socket`);
        }
        if (await isServed(path)) throw inUse(path);
        await unlink(path);
      }
      await link(temporary, path);
    });
  } catch (error) {
    throw errorCode(error) === 'EEXIST' ? inUse(path) : error;
  } finally {
    await unlink(temporary);
  }
}

/** Removes the name if it still is ours. */
export async function releasePath(path: string, inode: number): Promise<void> {
  const entry = await entryAt(path);
  if (entry?.ino === inode) await unlink(path);
}

/** Removes the name that a killed program left; does nothing when one answers there or when it is no socket. */
export async function removeDeadPath(path: string): Promise<void> {
  if (!(await entryAt(path))?.isSocket()) return;
  await locked(path, async () => {
    if ((await entryAt(path))?.isSocket() && !(await isServed(path))) await unlink(path);
  });
}

/** True when a program listens at this control socket. */
export function isServed(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    const done = (live: boolean): void => {
      socket.destroy();
      resolve(live);
    };
    // A listener whose queue is full refuses with EAGAIN: it lives.
    socket.once('connect', () => done(true));
    socket.once('error', (error) => done(errorCode(error) === 'EAGAIN'));
    socket.setTimeout(PROBE_TIMEOUT, () => done(true));
  });
}

function ownFolder(): string {
  if (process.geteuid?.() === 0) return SYSTEM_FOLDER;
  const runtime = process.env['XDG_RUNTIME_DIR'];
  return runtime !== undefined && runtime.startsWith('/')
    ? join(runtime, 'sealane')
    : join(homedir(), '.local', 'state', 'sealane');
}

/**
 * Runs `action` while no other program claims the same path: between finding a stale socket and replacing it, the path
 * could become somebody else's. A lock that a killed program left is broken once it is older than any claim lasts.
 */
async function locked(path: string, action: () => Promise<void>): Promise<void> {
  const lock = join(dirname(path), `.${basename(path)}.lock`);
  while (!(await createLock(lock))) {
    // A clock that was set back makes a lock look as if it came from the future: that one is left over too.
    const age = Math.abs(Date.now() - ((await entryAt(lock))?.mtimeMs ?? Date.now()));
    if (age > STALE_LOCK) await unlink(lock).catch(() => undefined);
    else await sleep(LOCK_RETRY);
  }
  try {
    await action();
  } finally {
    await unlink(lock);
  }
}

async function createLock(lock: string): Promise<boolean> {
  try {
    await writeFile(lock, '', { flag: 'wx', mode: 0o600 });
    return true;
  } catch (error) {
    if (errorCode(error) === 'EEXIST') return false;
    throw error;
  }
}

async function entryAt(path: string): Promise<Stats | undefined> {
  try {
    return await lstat(path);
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}

function inUse(path: string): Error {
  return Object.assign(new Error(`control socket ${path} is in use: a tunnel of this name is running`), {
    code: 'EADDRINUSE',
  });
}
