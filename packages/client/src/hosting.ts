/** What `device` and `up` have in common: a tunnel behind a TUN interface, served on its control socket. */
import {
  controlPath,
  defaultLanes,
  isServed,
  type LaneKind,
  type Log,
  keepHeapSmall,
  openTun,
  openTunnel,
  type PacketDevice,
  serveControl,
  type Tunnel,
  type TunOptions,
  type TunnelUpdate,
  type UserIds,
} from '@sealane/tunnel';
import { badInput, CliError, errorCode, errorLine, EXIT, type ExitCode } from './errors.ts';
import { textLog } from './output/log.ts';
import { stateFolder } from './system/state.ts';
import { type Stop, Stopped, type StopReason } from './system/stop.ts';
import type { UndoStep } from './system/steps.ts';
import type { UndoStack } from './system/undo.ts';

export interface HostingOptions {
  readonly name: string;
  readonly mtu: number;
  readonly lane: LaneKind | 'auto';
  /** Threads that carry packets; by the number of cores when absent. */
  readonly lanes?: number;
  /** Takes an interface that exists and that no program has open, and leaves it there. */
  readonly attach?: boolean;
  readonly config?: TunnelUpdate;
  /** Names the file of the newest handshake timestamp; the interface name by default. */
  readonly identity?: string;
  readonly log?: Log;
  /** Who writes what outlives the run. */
  readonly user?: UserIds & { readonly name: string };
  /** Reads the configuration again when the control socket is asked to. */
  readonly reload?: (file?: string) => Promise<void>;
}

/** The path of the control socket of `name`; CliError when it is no interface name or a tunnel of that name lives. */
export async function freeControlPath(name: string): Promise<string> {
  const path = interfacePath(name);
  if (await isServed(path))
    throw new CliError(EXIT.failure, `${name} is in use: a tunnel of this name is running (${path} answers)`);
  return path;
}

/** The path of the control socket of `name`; CliError when it is no interface name. */
export function interfacePath(name: string): string {
  try {
    return controlPath(name);
  } catch (error) {
    throw badInput(errorLine(error), error);
  }
}

/** Opens the interface, the tunnel and the control socket, each with its undoing. Ends `stop` when the tunnel ends. */
export async function hostTunnel(options: HostingOptions, stop: Stop, undo: UndoStack): Promise<Tunnel> {
  const { name, mtu, lane, lanes, attach = false, config, log = textLog, reload } = options;
  const path = await freeControlPath(name);
  const device = openInterface({ name, mtu, queues: lane === 'portable' ? 1 : (lanes ?? defaultLanes()), attach });
  const folder = await stateFolder(options.user);
  if (folder === undefined)
    log.entry('note', 'no state folder can be written: a clock that goes back may lock this key out');
  const tunnel = await openTunnel({
    device,
    lane,
    ...(config === undefined ? {} : { config }),
    ...(folder === undefined ? {} : { timestampFile: `${folder}/timestamp-${options.identity ?? name}` }),
  });
  undo.push(`interface ${name}`, () => tunnel.close());
  tunnel.on('closed', ({ error }) => stop.request({ kind: 'closed', ...(error === undefined ? {} : { error }) }));
  stop.check();

  const server = await serveControl(tunnel, path, {
    shutdown: () => stop.request({ kind: 'shutdown' }),
    ...(reload === undefined ? {} : { reload }),
  });
  undo.push(`control socket ${path}`, () => server.close());
  tunnel.on('note', ({ text }) => log.once('note', text));
  for (const text of (await tunnel.status()).notes) log.once('note', text);
  stop.check();
  keepHeapSmall();
  return tunnel;
}

export interface ForegroundOptions {
  readonly log?: Log;
  /** What is left as it is because of how the command ends. */
  readonly keep?: (step: UndoStep, end: StopReason | 'failure') => boolean;
  /** The process is an ordinary user's by then: what that user may not undo is left to `sealane down`, as is known. */
  readonly leavesRest?: boolean;
}

/** Runs steps in the foreground until something ends them, then undoes what they did, whatever happened. */
export async function inForeground(
  name: string,
  stop: Stop,
  undo: UndoStack,
  steps: () => Promise<unknown>,
  { log = textLog, keep = () => false, leavesRest = false }: ForegroundOptions = {},
): Promise<ExitCode> {
  let failure: Error | undefined;
  try {
    await steps();
    await stop.requested();
  } catch (error) {
    if (!(error instanceof Stopped)) failure = error instanceof Error ? error : new Error(String(error));
  }
  const end = failure === undefined ? (stop.reason ?? 'failure') : 'failure';
  const isAwaited = end !== 'failure' && end.kind === 'shutdown';
  const failures = await undo.run((step) => keep(step, end), isAwaited);
  for (const { what, error, stays } of failures) {
    if (leavesRest && !stays && isDenied(error)) continue;
    log.entry('undo-failed', `cannot undo ${what}: ${errorLine(error)}`, { what });
  }
  if (leavesRest && process.geteuid?.() !== 0)
    log.entry('note', `'sealane down ${name}' as root removes what is left of ${name}`);
  stop.dispose();
  if (failure !== undefined) throw failure;
  const code = explainEnd(name, stop.reason, log);
  // Who asked on the control socket is told; a service manager that sees a failure would start it all again.
  return failures.length === 0 || isAwaited || leavesRest ? code : EXIT.failure;
}

function openInterface(options: TunOptions): PacketDevice {
  const { name } = options;
  try {
    return openTun(options);
  } catch (error) {
    if (isDenied(error)) {
      const remedy = 'run as root or with CAP_NET_ADMIN; `sealane ping CONFIG` tries a tunnel without any privilege';
      throw new CliError(EXIT.noPermission, `no permission to make the interface ${name}: ${remedy}`, { cause: error });
    }
    throw new CliError(EXIT.failure, error instanceof Error ? error.message : String(error), { cause: error });
  }
}

function isDenied(error: unknown): boolean {
  const code = errorCode(error) ?? (error instanceof Error && error.cause instanceof Error ? error.cause.message : '');
  return code === 'EPERM' || code === 'EACCES';
}

function explainEnd(name: string, reason: StopReason | undefined, log: Log): ExitCode {
  if (reason?.kind !== 'closed') return EXIT.ok;
  if (reason.error !== undefined) {
    throw new CliError(EXIT.failure, `${name} ended: ${errorLine(reason.error)}`, { cause: reason.error });
  }
  log.entry('interface-deleted', `the interface ${name} was deleted`);
  return EXIT.ok;
}
