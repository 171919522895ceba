import { existsSync, statSync } from 'node:fs';
import {
  BECOMES_USER,
  CAPABILITY,
  confine,
  createLog,
  defaultLanes,
  findUser,
  forbidCoreDumps,
  keepHeapSmall,
  type LaneKind,
  type Log,
  type LogFormat,
  type LogLevel,
  notifyServiceManager,
  type UserIds,
} from '@sealane/tunnel';
import { errorLine, InputError, RefusedError } from '../errors.ts';
import { undoKilled } from '../hosting/leftovers.ts';
import { readRecords } from '../hosting/record.ts';
import { startServer, type ServerFacts } from '../running/server.ts';
import { requireFolder, type StateFolder, stateFolder } from '../state/folder.ts';
import { runs } from '../state/lock.ts';
import type { GatewayLimits } from '../userspace/gateway.ts';
import type { Rule } from '../userspace/policy.ts';

export interface RunOptions {
  readonly state: string;
  readonly userspace: boolean;
  /** Set when it was asked for: then the server does without nothing less than a TUN interface. */
  readonly interface?: string;
  readonly lane: LaneKind | 'auto';
  readonly lanes?: number;
  readonly listen?: number;
  /** Where peers may and may not go. */
  readonly allow: readonly Rule[];
  readonly deny: readonly Rule[];
  /** What a peer may hold, in userspace. */
  readonly limit: Partial<GatewayLimits>;
  readonly peerToPeer: boolean;
  /** False with `--no-nat`. */
  readonly nat: boolean;
  /** False with `--no-forwarding`. */
  readonly forwarding: boolean;
  /** Whose the process is to be once it serves. */
  readonly user?: string;
  readonly json: boolean;
  readonly logFormat: LogFormat;
  readonly logLevel: LogLevel;
}

const DEFAULT_INTERFACE = 'sealane0';

/** Runs the server in the foreground until SIGTERM, SIGINT or the end of its interface. */
export async function run(options: RunOptions): Promise<void> {
  process.umask(0o077);
  const user = options.user === undefined ? undefined : ordinaryUser(options.user, options.state);
  if (user === undefined) refuseForeign(options.state);
  // The server outlives whoever reads its log.
  process.stdout.on('error', () => undefined);
  const log = createLog({
    format: options.json ? 'json' : options.logFormat,
    level: options.logLevel,
    write: (line) => process.stdout.write(`${line}\n`),
  });
  const folder = stateFolder(options.state);
  await undoFirst(folder, log);
  giveUpPrivileges(options, user !== undefined);
  const stopped = signalled('SIGTERM', 'SIGINT');
  const server = await startServer({
    folder,
    mode: options.userspace ? 'userspace' : options.interface === undefined ? 'auto' : 'tun',
    interfaceName: options.interface ?? DEFAULT_INTERFACE,
    lane: options.lane,
    lanes: options.lane === 'portable' ? 1 : (options.lanes ?? defaultLanes()),
    allow: options.allow,
    deny: options.deny,
    limits: options.limit,
    ...(options.forwarding ? { forwarding: { peerToPeer: options.peerToPeer, nat: options.nat } } : {}),
    ...(user === undefined ? {} : { user: { ...user, capabilities: capabilitiesFor(options) } }),
    ...(options.listen === undefined ? {} : { listenPort: options.listen }),
    log,
  });
  const onHangup = (): void => {
    server.reload().catch((error: unknown) => log.entry('reload-failed', `not reloaded: ${errorLine(error)}`));
  };
  process.on('SIGHUP', onHangup);
  if (server.facts.device === 'tun') keepHeapSmall();
  try {
    sayReady(log, server.facts);
    notifyServiceManager(`READY=1\nMAINPID=${process.pid}`);
    const end = await Promise.race([stopped, server.ended.then((error) => ({ error }))]);
    if (typeof end === 'object') {
      throw new RefusedError(`the server's interface is gone${end.error ? `: ${errorLine(end.error)}` : ''}`, {
        cause: end.error,
      });
    }
    notifyServiceManager('STOPPING=1');
    log.entry('stopping', `${end}: stopping`, { signal: end });
  } finally {
    process.off('SIGHUP', onHangup);
    await server.close();
    log.close();
  }
  log.entry('stopped', 'stopped');
}

/** While there are the privileges for it, whichever kind of server this one will be. */
async function undoFirst(folder: StateFolder, log: Log): Promise<void> {
  if (!existsSync(folder.hosting)) return;
  requireFolder(folder);
  // Nothing is done with a record that cannot be understood.
  readRecords(folder.hosting);
  try {
    const { notes } = await undoKilled(folder);
    for (const text of notes) log.entry('note', text);
  } catch (error) {
    if (runs(folder)) throw error;
    log.entry('note', `what a killed server left on this host stays: ${errorLine(error)}`);
  }
}

/** A server as root keeps what an interface and a port below 1024 take, and needs no right to other people's files. */
function giveUpPrivileges(options: RunOptions, becomesUser: boolean): void {
  forbidCoreDumps();
  confine([...capabilitiesFor(options), ...(becomesUser ? BECOMES_USER : [])]);
}

function capabilitiesFor({ userspace }: RunOptions): readonly number[] {
  return userspace ? [CAPABILITY.netBindService] : [CAPABILITY.netBindService, CAPABILITY.netAdmin];
}

/** @throws InputError when there is no such user or when the state is not that user's: it is written while the server runs. */
function ordinaryUser(name: string, state: string): UserIds {
  const user = findUser(name);
  if (user === undefined || user.uid === 0)
    throw new InputError(`--user ${name}: there is no ordinary user of this name`);
  if (process.geteuid?.() !== 0) throw new RefusedError('--user: only root can become another user');
  if (statSync(state, { throwIfNoEntry: false })?.uid === user.uid) return user;
  throw new InputError(`${state} does not belong to ${name}: give it away with 'chown -R ${name} ${state}'`);
}

/** @throws InputError when root would serve from the folder of a user, who could not serve from it afterwards. */
function refuseForeign(state: string): void {
  const uid = statSync(state, { throwIfNoEntry: false })?.uid ?? 0;
  if (process.geteuid?.() !== 0 || uid === 0) return;
  const remedy = `run it as that user with '--user ${uid}', or make it yours with 'chown -R root ${state}'`;
  throw new InputError(`${state} belongs to another user (uid ${uid}): ${remedy}`);
}

function sayReady(log: Log, facts: ServerFacts): void {
  const { notes, ...fields } = facts;
  const { addresses, port, publicKey, device, interface: name, crypto, lane } = fields;
  for (const text of notes) log.once('note', text);
  log.entry(
    'ready',
    `ready: ${addresses.join(' ')}, UDP port ${port}, public key ${publicKey}, device ${device} ${name}, crypto ${crypto}, lane ${lane}`,
    { ...fields, pid: process.pid },
  );
}

/** Resolves to the first of the signals; the next one ends the process at once, but not in the middle of a file. */
function signalled(...signals: readonly NodeJS.Signals[]): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    let isFirst = true;
    const handle = (signal: NodeJS.Signals): void => {
      if (!isFirst) {
        for (const name of signals) process.off(name, handle);
        process.kill(process.pid, signal);
      }
      isFirst = false;
      resolve(signal);
    };
    for (const name of signals) process.on(name, handle);
  });
}
