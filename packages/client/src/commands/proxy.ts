import { isIP } from 'node:net';
import type { CipherSuite } from '@sealane/protocol';
import {
  type LaneKind,
  openTunnel,
  ResolveError,
  serveControl,
  type TunnelConfig,
  type UserspaceTunnel,
} from '@sealane/tunnel';
import { readConfig } from '../config-file.ts';
import { configPath, interfaceNameOf } from '../config-path.ts';
import { badInput, CliError, errorCode, errorLine, EXIT, type ExitCode } from '../errors.ts';
import { freeControlPath, inForeground } from '../hosting.ts';
import { eventLine } from '../output/events.ts';
import { identityOf } from '../identity.ts';
import { note } from '../output/terminal.ts';
import { parseListen, parseLocalForward, parseRemoteForward, parseTarget } from '../proxy/address.ts';
import { Complaints } from '../proxy/complaints.ts';
import { DEFAULT_LIMITS } from '../proxy/context.ts';
import { Credentials, readCredentials } from '../proxy/credentials.ts';
import { checkExposure, openProxy, type ProxyPlan } from '../proxy/open-proxy.ts';
import { askPassword } from '../proxy/password.ts';
import { carryStdio } from '../proxy/stdio.ts';
import { NoSessionError, notRoutedIn, TunnelHealth } from '../proxy/tunnel-health.ts';
import { stateFolder } from '../system/state.ts';
import { Stop } from '../system/stop.ts';
import { UndoStack } from '../system/undo.ts';

/** How long a connection or a lookup may hold up the end that a signal asks for. */
const END_MS = 3_000;

export interface ProxyOptions {
  readonly socks5: readonly string[];
  readonly http: readonly string[];
  readonly local: readonly string[];
  readonly remote: readonly string[];
  readonly stdio?: string;
  readonly auth?: string;
  readonly login?: string;
  readonly expose?: boolean;
  readonly name?: string;
  readonly cipher?: CipherSuite;
  readonly anyPermissions?: boolean;
  readonly lane: LaneKind | 'auto';
}

/** Brings programs of this computer into a tunnel that lives in this process; needs no privileges. */
export async function proxy(given: string, options: ProxyOptions): Promise<ExitCode> {
  const plan = await planOf(options);
  const target = options.stdio === undefined ? undefined : parseTarget(options.stdio, '--stdio');
  checkSomething(plan, target !== undefined);
  const path = configPath(given);
  const config = await readConfig(path, options);
  if (config.interface.addresses.length === 0) throw badInput(`${path}: has no Address: a proxy needs one of its own`);
  const name = options.name ?? (path === '-' ? 'proxy' : interfaceNameOf(path));
  if (namesLeak(config, plan, target)) {
    note(
      `sealane: ${path} has no DNS: names are looked up outside of the tunnel, where others may see them; add 'DNS = ADDRESS' to [Interface]`,
    );
  }

  const stop = new Stop({ graceMs: END_MS });
  const undo = new UndoStack();
  return inForeground(name, stop, undo, async () => {
    const folder = await stateFolder();
    const tunnel = await openTunnel(config, {
      name,
      lane: options.lane,
      ...(folder !== undefined && { timestampFile: `${folder}/timestamp-${identityOf(config)}` }),
    }).catch(explainOpening);
    undo.push('the tunnel', () => tunnel.close());
    tunnel.on('closed', ({ error }) => stop.request({ kind: 'closed', ...(error !== undefined && { error }) }));
    tunnel.events((event) => {
      const line = eventLine(event);
      if (line !== undefined && target === undefined) note(`${name}: ${line}`);
    });
    if (target !== undefined) {
      const health = new TunnelHealth(tunnel, new Complaints(() => undefined));
      await carryStdio(
        tunnel,
        target,
        DEFAULT_LIMITS.connectMs,
        { input: process.stdin, output: process.stdout },
        stop.signal,
      ).catch(async (error: unknown) => explainStdio(await health.explain(error), options.stdio!, stop));
      stop.request({ kind: 'shutdown' });
      return;
    }
    const complaints = new Complaints((line) => note(`${name}: ${line}`));
    const health = new TunnelHealth(tunnel, complaints);
    const explain = (error: unknown): Promise<unknown> => health.explain(error);
    const opened = await openProxy(plan, tunnel.network, { explain, complaints });
    undo.push('the listeners', () => opened.close());
    await serveStatus(name, tunnel, stop, undo);
    for (const line of opened.listening) note(`sealane: ${line}`);
    note(`sealane: ${name} is up, without an interface: Ctrl-C ends it`);
    stop.check();
    await tunnel.rekey();
  });
}

async function planOf(options: ProxyOptions): Promise<ProxyPlan> {
  const plan: ProxyPlan = {
    socks5: options.socks5.map((text) => parseListen(text, '--socks5')),
    http: options.http.map((text) => parseListen(text, '--http')),
    local: options.local.map(parseLocalForward),
    remote: options.remote.map(parseRemoteForward),
    expose: options.expose === true,
  };
  if (options.auth !== undefined && options.login !== undefined)
    throw badInput('--auth and --login exclude each other');
  const asks = options.auth !== undefined || options.login !== undefined;
  if (asks && plan.socks5?.length === 0 && plan.http?.length === 0) {
    throw badInput('--auth and --login are for --socks5 and --http: other ports cannot ask for a password');
  }
  const credentials = await credentialsOf(options);
  const full = { ...plan, ...(credentials !== undefined && { credentials }) };
  checkExposure(full);
  return full;
}

async function credentialsOf({ auth, login }: ProxyOptions): Promise<Credentials | undefined> {
  if (auth !== undefined) return readCredentials(auth);
  if (login === undefined) return undefined;
  const credentials = new Credentials();
  try {
    credentials.add(login, await askPassword(`Password of ${login} for this proxy: `));
  } catch (error) {
    if (error instanceof TypeError) throw badInput(`--login: ${error.message}`);
    throw error;
  }
  return credentials;
}

function checkSomething({ socks5 = [], http = [], local = [], remote = [] }: ProxyPlan, hasStdio: boolean): void {
  const listeners = socks5.length + http.length + local.length + remote.length;
  if (listeners === 0 && !hasStdio) throw badInput('nothing to do: add --socks5, --http, -L, -R or --stdio');
  if (listeners > 0 && hasStdio) throw badInput('--stdio goes alone: its standard output belongs to the connection');
}

function namesLeak(config: TunnelConfig, plan: ProxyPlan, target: { readonly host: string } | undefined): boolean {
  if (config.interface.dns.servers.length > 0) return false;
  const { socks5 = [], http = [], local = [] } = plan;
  const isName = (host: string): boolean => isIP(host) === 0;
  return (
    socks5.length + http.length > 0 ||
    local.some((forward) => forward.target.kind === 'port' && isName(forward.target.host)) ||
    (target !== undefined && isName(target.host))
  );
}

/** A status socket is a convenience: a second tunnel of the same name goes without. */
async function serveStatus(name: string, tunnel: UserspaceTunnel, stop: Stop, undo: UndoStack): Promise<void> {
  try {
    const path = await freeControlPath(name);
    const server = await serveControl(tunnel, path, { shutdown: () => stop.request({ kind: 'shutdown' }) });
    undo.push(`control socket ${path}`, () => server.close());
  } catch (error) {
    if (error instanceof CliError && error.exitCode === EXIT.badInput) throw error;
    note(`sealane: 'sealane status' will not show this proxy: ${errorLine(error)}`);
  }
}

function explainOpening(error: unknown): never {
  if (error instanceof ResolveError) throw new CliError(EXIT.noAnswer, error.message, { cause: error });
  throw error;
}

function explainStdio(error: unknown, target: string, stop: Stop): void {
  if (stop.reason !== undefined) return;
  if (error instanceof NoSessionError) throw new CliError(EXIT.noAnswer, error.message, { cause: error });
  const notRouted = notRoutedIn(error);
  if (notRouted !== undefined) {
    throw new CliError(EXIT.failure, `${target}: ${notRouted.message}`, { cause: error });
  }
  const why: Readonly<Record<string, string>> = {
    ECONNREFUSED: 'it refused the connection',
    ECONNRESET: 'it broke the connection off',
    EHOSTUNREACH: 'it cannot be reached',
    ENETUNREACH: 'the tunnel does not lead there',
    EACCES: 'the server does not allow it',
    ENOTFOUND: 'the name has no address',
    EAI_AGAIN: 'no name server answers',
    ETIMEDOUT: 'no answer',
  };
  const code = errorCode(error);
  throw new CliError(
    code === 'ETIMEDOUT' ? EXIT.noAnswer : EXIT.failure,
    `${target}: ${why[code ?? ''] ?? errorLine(error)}`,
    {
      cause: error,
    },
  );
}
