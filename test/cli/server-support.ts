/** Drives the built `sealaned` as its users do, and joins it with a tunnel of this process as the client. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  EchoClient,
  memoryPair,
  openTunnel,
  parseConfig,
  resolveEndpoints,
  toUpdate,
  type Tunnel,
  type TunnelStatus,
} from '@sealane/tunnel';

export const SEALANED: string = fileURLToPath(new URL('../../packages/server/bin/sealaned.js', import.meta.url));

export interface Outcome {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface SpawnOptions {
  readonly uid?: number;
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
}

/** Runs one command to its end. */
export async function sealaned(args: readonly string[], options: SpawnOptions = {}): Promise<Outcome> {
  return finish(launch(args, options));
}

/** Starts a command without waiting. */
export function launch(args: readonly string[], options: SpawnOptions = {}): ChildProcess {
  const { uid, env, cwd } = options;
  return spawn(process.execPath, [SEALANED, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, NO_COLOR: '1', ...env },
    ...(cwd === undefined ? {} : { cwd }),
    ...(uid === undefined ? {} : { uid, gid: uid }),
  });
}

export async function finish(child: ChildProcess): Promise<Outcome> {
  let [stdout, stderr] = ['', ''];
  child.stdout!.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr!.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  const [code, signal] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null];
  return { code, signal, stdout, stderr };
}

/** A folder for the state of one server; removed by `remove`. */
export class Scratch {
  readonly folder: string = mkdtempSync(join(tmpdir(), 'sealaned-'));
  readonly state: string = join(this.folder, 'state');

  path(name: string): string {
    return join(this.folder, name);
  }

  /** A command on this state. */
  run(...args: readonly string[]): Promise<Outcome> {
    return sealaned([...args, '--state', this.state], { cwd: this.folder });
  }

  /** The same, and an error when it fails; resolves to its standard output. */
  async must(...args: readonly string[]): Promise<string> {
    const outcome = await this.run(...args);
    if (outcome.code !== 0) throw new Error(`sealaned ${args.join(' ')}: ${outcome.code} ${outcome.stderr}`);
    return outcome.stdout;
  }

  async init(pool = '127.77.0.0/24,fd77::/64'): Promise<void> {
    await this.must('init', '--endpoint', '127.0.0.1:51820', '--pool', pool);
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

export type LogLine = Readonly<Record<string, unknown>> & { readonly event: string };

/** A running server process and what it logged. */
export class ServerProcess {
  readonly child: ChildProcess;
  readonly log: LogLine[] = [];
  readonly outcome: Promise<Outcome>;
  #rest = '';
  #wake: () => void = () => undefined;

  constructor(child: ChildProcess) {
    this.child = child;
    this.outcome = finish(child);
    child.stdout!.on('data', (text: string) => {
      const lines = (this.#rest + text).split('\n');
      this.#rest = lines.pop()!;
      for (const line of lines) this.log.push(JSON.parse(line) as LogLine);
      this.#wake();
    });
    void this.outcome.then(() => this.#wake());
  }

  /** Resolves to the first line of that event; rejects when the process ends without one. */
  async logged(event: string, matches: (line: LogLine) => boolean = () => true): Promise<LogLine> {
    for (;;) {
      const line = this.log.find((one) => one.event === event && matches(one));
      if (line !== undefined) return line;
      if (this.child.exitCode !== null || this.child.signalCode !== null) {
        const { stderr } = await this.outcome;
        throw new Error(`the server ended without '${event}': ${stderr}`);
      }
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<Outcome> {
    this.child.kill(signal);
    return this.outcome;
  }
}

/** Starts `sealaned run --json` and waits until it is ready. */
export async function startServer(
  state: string,
  args: readonly string[] = ['--userspace'],
  options: SpawnOptions = {},
): Promise<{ readonly server: ServerProcess; readonly ready: LogLine & { readonly port: number } }> {
  const server = new ServerProcess(launch(['run', '--json', '--listen', '0', '--state', state, ...args], options));
  const ready = (await server.logged('ready')) as LogLine & { readonly port: number };
  return { server, ready };
}

/** A client of this process: a real tunnel with a host behind it that pings. */
export interface Client {
  readonly tunnel: Tunnel;
  readonly echo: EchoClient;
  /** True when the server's address answered. */
  reaches(target?: Uint8Array): Promise<boolean>;
  status(): Promise<TunnelStatus>;
  close(): Promise<void>;
}

export const SERVER_V4: Uint8Array = Uint8Array.of(127, 77, 0, 1);
export const SERVER_V6: Uint8Array = Uint8Array.of(0xfd, 0x77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1);

/** Opens the configuration that `peer add` printed, against the port that the server really has. */
export async function connect(text: string, port: number): Promise<Client> {
  const config = parseConfig(text.replace(/^Endpoint = .*$/m, `Endpoint = 127.0.0.1:${port}`), 'client.conf');
  const [device, far] = memoryPair({ mtu: config.interface.mtu ?? 1_420, name: 'client' });
  const update = toUpdate(config, await resolveEndpoints(config));
  const tunnel = await openTunnel({ device, config: { ...update, listenPort: 0 } });
  const echo = new EchoClient({ device: far, addresses: config.interface.addresses.map(({ address }) => address) });
  return {
    tunnel,
    echo,
    reaches: async (target = SERVER_V4) => (await echo.ping({ target, timeoutMs: 12_000 })) !== undefined,
    status: () => tunnel.status(),
    close: async () => {
      await tunnel.close();
      await echo.close();
    },
  };
}
