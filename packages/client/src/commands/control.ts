import { formatKey, parseKey } from '@sealane/protocol';
import {
  ControlError,
  type FileLock,
  formatMilliseconds,
  isServed,
  type PeerReport,
  readStatus,
  removeDeadPath,
  requestRekey,
  requestShutdown,
} from '@sealane/tunnel';
import { interfaceNameOf } from '../config-path.ts';
import { badInput, CliError, errorCode, EXIT, type ExitCode } from '../errors.ts';
import { interfacePath } from '../hosting.ts';
import { note, print, printJson } from '../output/terminal.ts';
import { type JournalRecord, readJournal } from '../system/journal.ts';
import { tryName, withName, worksOn } from '../system/name-lock.ts';
import { Stop } from '../system/stop.ts';
import { logOf, removeLog } from '../up/background-log.ts';
import { type Killed, killedTunnel } from '../up/killed.ts';
import { undoLeftovers } from '../up/leftovers.ts';

const POLL_INTERVAL = 50;
const END_TIMEOUT = 15_000;

/** Renews the sessions of one peer or of all and waits until they stand. */
export async function rekey(
  name: string,
  peer: string | undefined,
  options: { readonly timeout: number; readonly json?: boolean },
): Promise<ExitCode> {
  const path = interfacePath(name);
  const publicKey = peer === undefined ? undefined : parseKey(peer);
  if (peer !== undefined && publicKey === undefined) throw badInput('PEER is no public key: 32 bytes in base64');
  const chosen = publicKey === undefined ? undefined : formatKey(publicKey);

  const before = await reach(name, () => readStatus(path));
  if (chosen !== undefined && !before.peers.some((entry) => entry.publicKey === chosen)) {
    throw badInput(`${name} has no peer of that key`);
  }
  const wanted = before.peers.filter(
    (entry) => entry.endpoint !== undefined && (chosen === undefined || entry.publicKey === chosen),
  );
  if (wanted.length === 0) throw new CliError(EXIT.failure, `${name} has no peer with a known endpoint`);
  await reach(name, () => requestRekey(path, publicKey));

  const renewed = await untilRenewed(name, path, wanted, options.timeout * 1_000);
  const missing = wanted.filter((entry) => !renewed.has(entry.publicKey));
  if (options.json === true) await printJson([...renewed.values()]);
  else for (const entry of renewed.values()) await print(renewedLine(entry));
  if (missing.length === 0) return EXIT.ok;
  throw new CliError(EXIT.noAnswer, `no answer from ${missing.map((entry) => entry.endpoint).join(', ')}`);
}

/**
 * Ends a running tunnel, or one that is on its way up, and waits until everything is undone; undoes itself what the tunnel
 * could not, or all when it was killed. `given` is a name, or a file that stands for one.
 */
export async function down(given: string): Promise<ExitCode> {
  const name = /\/|\.conf$/.test(given) ? interfaceNameOf(given) : given;
  const path = interfacePath(name);
  const asked = readJournal(name);
  try {
    await reach(name, () => requestShutdown(path));
  } catch (error) {
    if (!(error instanceof CliError) || !isAbsent(error.cause)) throw error;
    if (asked !== undefined && worksOn(asked.pid, name)) {
      // It is on its way up and has no control socket yet.
      process.kill(asked.pid, 'SIGTERM');
      return finish(name, path, asked.pid);
    }
    return withName(name, async () => {
      await removeDeadPath(path);
      const left = readJournal(name);
      if (left === undefined) throw error;
      await clean(left);
      const log = logOf(name);
      if (log !== undefined) note(`sealane: what it said is in ${log}`);
      return EXIT.ok;
    });
  }
  return finish(name, path, asked?.pid);
}

/** Waits for the end that was asked for, and undoes what the tunnel left, its log as well. */
async function finish(name: string, path: string, pid: number | undefined): Promise<ExitCode> {
  const lock = await untilEnded(name, path, pid);
  try {
    if (lock === undefined) return EXIT.ok;
    const left = readJournal(name);
    if (left !== undefined) {
      await removeDeadPath(path);
      await clean({ ...left, ended: true });
    }
    // It ended as it was asked to: nothing is left to find out.
    removeLog(name);
    return EXIT.ok;
  } finally {
    lock?.remove();
  }
}

/** Resolves to the lock of the name, or to undefined when it was started again meanwhile. */
async function untilEnded(name: string, path: string, pid: number | undefined): Promise<FileLock | undefined> {
  const stop = new Stop();
  const deadline = performance.now() + END_TIMEOUT;
  try {
    for (;;) {
      const lock = (await isServed(path)) ? undefined : tryName(name);
      if (lock !== undefined) return lock;
      const now = readJournal(name)?.pid;
      if (pid !== undefined && now !== undefined && now !== pid) return undefined;
      if (performance.now() > deadline) throw new CliError(EXIT.failure, `${name} agreed to end and has not yet ended`);
      await stop.sleep(POLL_INTERVAL);
      stop.check();
    }
  } finally {
    stop.dispose();
  }
}

async function clean(left: JournalRecord): Promise<void> {
  const { undone, failed } = await undoLeftovers(left);
  const isNothing = left.ended && undone.length + failed.length === 0;
  const how = left.ended ? 'left something behind' : 'had been killed';
  const what = isNothing ? 'had ended; its record is removed' : `${how}; undone: ${undone.join(', ') || 'nothing'}`;
  note(`sealane: ${left.name} ${what}`);
  if (failed.length > 0) throw new CliError(EXIT.failure, `cannot undo ${failed.join('; ')}`);
}

/** Asks a control socket; CliError in words for people when it cannot be asked. */
export async function reach<T>(name: string, ask: () => Promise<T>): Promise<T> {
  try {
    return await ask();
  } catch (error) {
    if (!(error instanceof ControlError)) throw error;
    const code = errorCode(error.cause);
    if (isAbsent(error)) {
      throw new CliError(EXIT.failure, absence(name), { cause: error });
    }
    if (code === 'EACCES' || code === 'EPERM') {
      throw new CliError(EXIT.noPermission, error.message, { cause: error });
    }
    throw new CliError(EXIT.failure, error.message, { cause: error });
  }
}

function absence(name: string): string {
  const killed = killedTunnel(name);
  if (killed !== undefined) return killedText(killed);
  const others = process.geteuid?.() === 0 ? '' : ": of other users' tunnels only root is told";
  const log = logOf(name);
  const last = log === undefined ? '' : `; what the last one in the background said is in ${log}`;
  return `no tunnel ${name} is running here${others}${last}`;
}

export function killedText({ name, what, remedy }: Killed): string {
  return `${name} ${what}: '${remedy}' cleans up after it`;
}

/** True when no program serves the control socket. */
function isAbsent(error: unknown): boolean {
  const code = error instanceof ControlError ? errorCode(error.cause) : undefined;
  return code === 'ENOENT' || code === 'ECONNREFUSED';
}

async function untilRenewed(
  name: string,
  path: string,
  wanted: readonly PeerReport[],
  timeoutMs: number,
): Promise<ReadonlyMap<string, PeerReport>> {
  const sessionsBefore = new Map(wanted.map((entry) => [entry.publicKey, entry.sessions]));
  const renewed = new Map<string, PeerReport>();
  const stop = new Stop();
  const deadline = performance.now() + timeoutMs;
  try {
    for (;;) {
      const { peers } = await reach(name, () => readStatus(path));
      for (const entry of peers) {
        const before = sessionsBefore.get(entry.publicKey);
        if (before !== undefined && entry.sessions > before) renewed.set(entry.publicKey, entry);
      }
      if (renewed.size === wanted.length || performance.now() >= deadline) return renewed;
      await stop.sleep(POLL_INTERVAL);
      stop.check();
    }
  } finally {
    stop.dispose();
  }
}

function renewedLine({ publicKey, sessions, handshakeMs, session }: PeerReport): string {
  const took =
    session?.role === 'initiator' && handshakeMs !== undefined ? ` in ${formatMilliseconds(handshakeMs)}` : '';
  return `${publicKey}: session ${sessions}${took}`;
}
