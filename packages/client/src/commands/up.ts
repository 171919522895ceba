import { resolve } from 'node:path';
import type { CipherSuite } from '@sealane/protocol';
import {
  BECOMES_USER,
  confine,
  findUser,
  forbidCoreDumps,
  type HandedOn,
  type LaneKind,
  type Log,
  type LogFormat,
  type LogLevel,
  type TunnelConfig,
  type UserIds,
} from '@sealane/tunnel';
import { readConfig } from '../config-file.ts';
import { configPath, interfaceNameOf, isPipe, refusePipe } from '../config-path.ts';
import { badInput, CliError, EXIT, type ExitCode } from '../errors.ts';
import { freeControlPath, inForeground } from '../hosting.ts';
import { programLog } from '../output/log.ts';
import { type HelperHandle, HookHelper, startHookHelper } from '../system/hook-helper.ts';
import { checkHooks, hasHooks, hookEnvironment, runHooksBy, scriptsOf } from '../system/hooks.ts';
import { Journal, type JournalRecord, readJournal, runtimeFolder, saveLeftovers } from '../system/journal.ts';
import { withName } from '../system/name-lock.ts';
import type { UndoStep } from '../system/steps.ts';
import { Stop } from '../system/stop.ts';
import { UndoStack } from '../system/undo.ts';
import { capabilitiesFor } from '../up/confine.ts';
import { detach, goOnAlone } from '../up/detach.ts';
import { remember, resolveOrRemember } from '../up/endpoint-memory.ts';
import { isKillSwitch, killSwitchStands, undoLeftovers } from '../up/leftovers.ts';
import { type UpSettings, UpTunnel } from '../up/tunnel.ts';

export interface UpOptions {
  readonly name?: string;
  /** In place of what the file says of its peers. */
  readonly cipher?: CipherSuite;
  readonly anyPermissions?: boolean;
  readonly lane: LaneKind | 'auto';
  readonly lanes?: number;
  readonly killSwitch?: boolean;
  readonly detach?: boolean;
  /** For the process that waits for it. */
  readonly readyOnStdout?: boolean;
  /** Who runs the commands of the file, once this process may do less than they. */
  readonly hookHelper?: HelperHandle;
  /** Whose the process is to be once the tunnel is up. */
  readonly user?: string;
  /** False with `--no-dns`. */
  readonly dns: boolean;
  /** Seconds; 0 is never. */
  readonly resolveEvery: number;
  readonly logFormat: LogFormat;
  readonly logLevel: LogLevel;
}

/** Brings a tunnel up as its file says and leaves the system as it was when it ends. */
export async function up(given: string, options: UpOptions): Promise<ExitCode> {
  const found = configPath(given);
  const path = found === '-' ? found : resolve(found);
  const name = options.name ?? interfaceNameOf(path);
  await freeControlPath(name);
  const log = programLog(options.logFormat, options.logLevel);
  const warnings: string[] = [];
  const warn = (what: string): void => void warnings.push(what);
  if (options.detach === true) refusePipe(path, '--detach needs a file');
  const config = await readConfig(path, { ...options, warn });
  checkHooks(config.interface, path);
  const user = options.user === undefined ? undefined : ordinaryUser(options.user, config, path);
  if (options.detach === true) return detach(name, argumentsOf(path, name, options));
  const capabilities = capabilitiesFor(config.interface.listenPort);
  const scripts = scriptsOf(config.interface, name);
  // Commands of the file do what they like, as they do with wg-quick, and so do those that a killed tunnel left.
  if (scripts.length > 0 && options.hookHelper === undefined && !(await runLeftCommands(name, log))) return EXIT.ok;
  if (!isPipe(path)) {
    const keep = [...capabilities, ...(user === undefined ? [] : BECOMES_USER)];
    confine(
      keep,
      scripts.length === 0 ? undefined : () => handOn(startHookHelper(scripts, hookEnvironment(name, path))),
    );
  }
  if (options.hookHelper !== undefined) runHooksBy(new HookHelper(options.hookHelper));
  // Once: not before a new start, which says it too.
  for (const warning of warnings) log.entry('note', warning);
  forbidCoreDumps();
  const become = user === undefined ? undefined : { ...user, name: options.user!, capabilities };
  return withName(name, () => run(name, path, config, options, log, become));
}

/** With the name's lock, which ends with the process at the latest. */
async function run(
  name: string,
  path: string,
  config: TunnelConfig,
  options: UpOptions,
  log: Log,
  user: UpSettings['user'],
): Promise<ExitCode> {
  const folder = runtimeFolder();
  const left = readJournal(name);
  if (left !== undefined) refuseCommandsOf(left);
  const killSwitch = options.killSwitch === true;
  // A signal ends this at once, as it may: nothing has been touched.
  const resolved = await resolveOrRemember(config, left?.endpoints ?? {});
  let tunnel: UpTunnel | undefined;
  let isUp = false;
  const onHangup = (): void => {
    if (tunnel === undefined) log.entry('reload-failed', `not reloaded: ${name} is not up yet`);
    // It is the log that says why not.
    else tunnel.reload().catch(() => undefined);
  };
  const stop = new Stop({ onHangup });
  // Also when there is to be none: nothing leaves in the clear before the tunnel is up.
  const standing = left !== undefined && (await killSwitchStands(left));
  let still: readonly UndoStep[] = [];
  if (left !== undefined) still = await cleanUpAfter(left, standing, log);

  const journal = new Journal(name, path, remember(resolved));
  const undo = new UndoStack(journal);
  for (const step of still.toReversed()) undo.pushLast(step);
  const settings = {
    name,
    path,
    ...(options.cipher !== undefined && { cipher: options.cipher }),
    anyPermissions: options.anyPermissions === true,
    lane: options.lane,
    ...(options.lanes !== undefined && { lanes: options.lanes }),
    killSwitch,
    dns: options.dns,
    ...(user === undefined ? {} : { user }),
    resolveMs: options.resolveEvery * 1_000,
    log,
  };
  return inForeground(
    name,
    stop,
    undo,
    async () => {
      stop.check();
      tunnel = await UpTunnel.plan(settings, config, resolved, journal, stop, undo);
      await tunnel.bringUp();
      isUp = true;
      if (standing && !killSwitch) {
        await undo.undoEarly((step) => isKillSwitch(name, step));
        log.entry('kill-switch', `${name} has no kill switch: that of process ${left.pid} is taken away`);
      }
      if (options.readyOnStdout === true) goOnAlone();
    },
    {
      log,
      leavesRest: user !== undefined,
      keep: (step, end) => {
        const isAsked = end !== 'failure' && end.kind === 'shutdown';
        // Nobody asked for its end: what was kept in the tunnel stays in.
        const isLost = end !== 'failure' && end.kind === 'closed';
        const kept = isKillSwitch(name, step) && (isLost || (standing && !isAsked && (!isUp || end === 'failure')));
        if (kept) log.entry('kill-switch', `the kill switch stays: 'sealane down ${name}' takes it away (${folder})`);
        return kept;
      },
    },
  );
}

/** CliError when a killed tunnel left commands to run: only a file with commands lets them be run before the rights for that are gone. */
function refuseCommandsOf({ name, steps }: JournalRecord): void {
  const hooks = steps.flatMap((step) => (step.kind === 'commands' ? [step.hook] : []));
  if (hooks.length === 0) return;
  const why = `the ${hooks.join(' and ')} of a killed ${name} is still to be run, and needs rights that a file without commands does not get`;
  throw new CliError(EXIT.failure, `${why}: 'sealane down ${name}' first`);
}

/** Undoes what a killed tunnel left, but a kill switch that stands; resolves to what is left of it. */
async function cleanUpAfter(left: JournalRecord, standing: boolean, log: Log): Promise<readonly UndoStep[]> {
  const { name, pid } = left;
  const result = await undoLeftovers(left, (step) => standing && isKillSwitch(name, step));
  const undone = result.undone.join(', ');
  if (undone !== '') log.entry('cleaned', `undid what process ${pid} left of ${name}: ${undone}`);
  for (const what of result.failed) log.entry('undo-failed', `cannot undo ${what}`);
  return result.left;
}

/** The commands that a killed tunnel left, and the rest of it, while there are the rights for them; false when a signal came meanwhile. */
async function runLeftCommands(name: string, log: Log): Promise<boolean> {
  if (readJournal(name)?.steps.some(({ kind }) => kind === 'commands') !== true) return true;
  const stop = new Stop();
  try {
    await withName(name, async () => {
      const left = readJournal(name);
      if (left === undefined) return;
      const still = await cleanUpAfter(left, await killSwitchStands(left), log);
      // What names stood for is wanted by the start that follows.
      saveLeftovers(left, still);
    });
    return stop.reason === undefined;
  } finally {
    stop.dispose();
  }
}

function handOn({ pid, requests, answers }: HelperHandle): HandedOn {
  return { words: [`--hook-helper=${pid},${requests},${answers}`], descriptors: [requests, answers] };
}

/** CliError when there is no such user, or when the end of the tunnel would take more than that user may do. */
function ordinaryUser(name: string, { interface: own }: TunnelConfig, path: string): UserIds {
  const user = findUser(name);
  if (user === undefined || user.uid === 0) throw badInput(`--user ${name}: there is no ordinary user of this name`);
  if (process.geteuid?.() !== 0) throw new CliError(EXIT.noPermission, '--user: only root can become another user');
  if (hasHooks(own)) throw badInput(`${path}: its commands need root: leave --user out`);
  if (own.saveConfig) throw badInput(`${path}: SaveConfig needs root: leave --user out`);
  return user;
}

function argumentsOf(path: string, name: string, options: UpOptions): readonly string[] {
  return [
    'up',
    path,
    `--name=${name}`,
    ...(options.cipher === undefined ? [] : [`--cipher=${options.cipher}`]),
    `--lane=${options.lane}`,
    ...(options.lanes === undefined ? [] : [`--lanes=${options.lanes}`]),
    `--resolve-every=${options.resolveEvery}`,
    `--log-format=${options.logFormat}`,
    `--log-level=${options.logLevel}`,
    ...(options.killSwitch === true ? ['--kill-switch'] : []),
    ...(options.user === undefined ? [] : [`--user=${options.user}`]),
    ...(options.dns ? [] : ['--no-dns']),
    ...(options.anyPermissions === true ? ['--any-permissions'] : []),
  ];
}
