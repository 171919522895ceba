/**
 * A server and its clients as real processes of an unprivileged user without any capability. Whatever they carry stays
 * in 127.0.0.0/8, inside the tunnel too: the server may dial loopback because the test allows it by name.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import {
  accessSync,
  chownSync,
  constants,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execute, type Result } from '../support/lab.ts';

const SEALANED = fileURLToPath(new URL('../../packages/server/bin/sealaned.js', import.meta.url));
const SEALANE = fileURLToPath(new URL('../../packages/client/bin/sealane.js', import.meta.url));
const NOBODY = 65_534;
const isRoot = process.getuid?.() === 0;

/** Why rootless tests cannot run here with these programs, or undefined when they can. */
export function missingPrograms(...programs: readonly string[]): string | undefined {
  if (process.platform !== 'linux') return 'needs Linux';
  const folders = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin'];
  const absent = ['setpriv', ...programs].filter((name) => !folders.some((folder) => existsSync(join(folder, name))));
  if (absent.length > 0) return `needs ${absent.join(', ')}`;
  if (isRoot) {
    try {
      accessSync(SEALANE, constants.R_OK);
      const path = fileURLToPath(new URL('../..', import.meta.url));
      const parts = path.split('/').filter((part) => part !== '');
      // Root may read everything: what counts is whether others may.
      for (let i = 1; i <= parts.length; i++) {
        if ((modeOf(`/${parts.slice(0, i).join('/')}`) & 0o005) !== 0o005)
          return 'needs a checkout that other users may read';
      }
    } catch {
      return 'needs a built checkout';
    }
  }
  return undefined;
}

/** The command that runs a program without privileges: as nobody when we are root, as ourselves otherwise, never with capabilities. */
export function unprivileged(program: string, args: readonly string[]): readonly [string, readonly string[]] {
  const user = isRoot ? [`--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups', '--bounding-set=-all'] : [];
  return ['setpriv', [...user, '--inh-caps=-all', '--no-new-privs', program, ...args]];
}

/** A process with what it printed; killed with its rootless world. */
export class Process {
  readonly child: ChildProcess;
  readonly exit: Promise<number>;
  stdout = '';
  stderr = '';
  #wake: () => void = () => undefined;

  constructor(child: ChildProcess) {
    this.child = child;
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.stdout += text;
      this.#wake();
    });
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text;
      this.#wake();
    });
    this.exit = new Promise((resolve) => {
      child.once('exit', (code) => {
        resolve(code ?? 128);
        this.#wake();
      });
      child.once('error', () => resolve(127));
    });
  }

  /** The groups of the first match in what was printed; rejects when the process ends without one. */
  async said(pattern: RegExp): Promise<RegExpExecArray> {
    for (;;) {
      const match = pattern.exec(this.stdout + this.stderr);
      if (match !== null) return match;
      if (this.child.exitCode !== null || this.child.signalCode !== null) {
        throw new Error(`ended with ${this.child.exitCode} without ${pattern}: ${this.stdout}${this.stderr}`);
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  /** What the kernel says of its user and its capabilities. */
  privileges(): Readonly<Record<string, string>> {
    const lines = readFileSync(`/proc/${this.child.pid}/status`, 'utf8').split('\n');
    return Object.fromEntries(lines.map((line) => line.split(/:\s*/, 2) as [string, string]));
  }

  /** The memory that it has now. */
  residentBytes(): number {
    return Number.parseInt(this.privileges()['VmRSS']!, 10) * 1_024;
  }

  stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number> {
    this.child.kill(signal);
    return this.exit;
  }
}

export interface WorldOptions {
  /** More of `sealaned run`'s arguments; it allows 127.0.0.0/8 by default. */
  readonly run?: readonly string[];
  /** A line for the client's [Interface]. */
  readonly dns?: string;
  /** What the peers' addresses are of; 127.77.0.0/24 by default. */
  readonly pool?: string;
  /** What the clients lead into the tunnel; 127.0.0.0/8 by default. */
  readonly allowedIps?: string;
}

export class RootlessWorld {
  readonly folder: string;
  /** The configuration of the first peer. */
  readonly config: string;
  readonly #processes: Process[];
  #endpoint = '';
  #allowedIps = '';

  private constructor(folder: string, config: string, processes: Process[]) {
    this.folder = folder;
    this.config = config;
    this.#processes = processes;
  }

  /** A client whose server is somewhere else. */
  static async withConfig(text: string): Promise<RootlessWorld> {
    const folder = makeFolder();
    return new RootlessWorld(folder, writeConfig(folder, text), []);
  }

  /** Starts `sealaned run --userspace` with one peer, whose configuration leads all of 127.0.0.0/8 into the tunnel. */
  static async open(options: WorldOptions = {}): Promise<RootlessWorld> {
    const folder = makeFolder();
    const state = join(folder, 'state');
    await sealaned(folder, 'init', '--endpoint', '127.0.0.1:51820', '--pool', options.pool ?? '127.77.0.0/24');
    const allowedIps = options.allowedIps ?? '127.0.0.0/8';
    const text = await sealaned(folder, 'peer', 'add', 'ann', '--allowed-ips', allowedIps);
    const run = options.run ?? ['--allow', '127.0.0.0/8'];
    const server = launch(folder, SEALANED, [
      'run',
      '--userspace',
      '--json',
      '--listen',
      '0',
      '--state',
      state,
      ...run,
    ]);
    const processes = [server];
    const ready = JSON.parse((await server.said(/^.*"ready".*$/m))[0]) as { port: number };
    const endpoint = `Endpoint = 127.0.0.1:${ready.port}`;
    const config = writeConfig(
      folder,
      text
        .replace(/^Endpoint = .*$/m, endpoint)
        .replace('[Peer]', options.dns === undefined ? '[Peer]' : `DNS = ${options.dns}\n\n[Peer]`),
    );
    const world = new RootlessWorld(folder, config, processes);
    world.#endpoint = endpoint;
    world.#allowedIps = allowedIps;
    return world;
  }

  /** Adds a peer to the running server; resolves to the path of its configuration. */
  async addPeer(name: string): Promise<string> {
    const text = await sealaned(this.folder, 'peer', 'add', name, '--allowed-ips', this.#allowedIps);
    return writeConfig(this.folder, text.replace(/^Endpoint = .*$/m, this.#endpoint), name);
  }

  /** The server, in a world that was opened with one. */
  get server(): Process {
    return this.#processes[0]!;
  }

  /** Starts `sealane proxy` and resolves once its ports are open. */
  async proxy(...args: readonly string[]): Promise<Process> {
    const process = this.start(SEALANE, ['proxy', this.config, ...args]);
    await process.said(/is up, without an interface/);
    return process;
  }

  /** Starts `sealane proxy --stdio` with open pipes. */
  stdio(target: string): Process {
    const [program, args] = commandOf(this.folder, SEALANE, ['proxy', this.config, '--stdio', target]);
    const process = new Process(spawn(program, args, { stdio: 'pipe' }));
    this.#processes.push(process);
    return process;
  }

  /** Starts a node program without privileges. */
  start(script: string, args: readonly string[]): Process {
    const process = launch(this.folder, script, args);
    this.#processes.push(process);
    return process;
  }

  /** Runs a node program without privileges to its end. */
  run(script: string, args: readonly string[], options: { input?: string } = {}): Promise<Result> {
    return execute(...commandOf(this.folder, script, args), options);
  }

  sealane(...args: readonly string[]): Promise<Result> {
    return this.run(SEALANE, args);
  }

  /** What ssh's ProxyCommand runs: `sealane proxy --stdio`, without privileges. */
  stdioCommand(): string {
    const [program, args] = commandOf(this.folder, SEALANE, ['proxy', this.config, '--stdio', '%h:%p']);
    return [program, ...args].map((part) => (/^[\w%:/.=-]+$/.test(part) ? part : `'${part}'`)).join(' ');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const process of this.#processes.toReversed()) {
      process.child.kill('SIGKILL');
      await process.exit;
    }
    rmSync(this.folder, { recursive: true, force: true });
  }
}

function makeFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'sealane-rootless-'));
  if (isRoot) chownSync(folder, NOBODY, NOBODY);
  return folder;
}

function writeConfig(folder: string, text: string, name = 'ann'): string {
  const path = join(folder, `${name}.conf`);
  writeFileSync(path, text, { mode: 0o600 });
  if (isRoot) chownSync(path, NOBODY, NOBODY);
  return path;
}

/** Runs a command on the server's state; resolves to what it printed. */
async function sealaned(folder: string, ...args: readonly string[]): Promise<string> {
  const result = await execute(...commandOf(folder, SEALANED, [...args, '--state', join(folder, 'state')]));
  if (result.code !== 0) throw new Error(`sealaned ${args.join(' ')}: ${result.stderr}`);
  return result.stdout;
}

function launch(folder: string, script: string, args: readonly string[]): Process {
  const [program, full] = commandOf(folder, script, args);
  return new Process(spawn(program, full, { stdio: ['ignore', 'pipe', 'pipe'] }));
}

/** With a home of its own and nothing of ours in its environment. */
function commandOf(folder: string, script: string, args: readonly string[]): [string, readonly string[]] {
  const env = ['-i', `HOME=${folder}`, `PATH=${process.env['PATH']}`, 'NO_COLOR=1', process.execPath, script, ...args];
  const [program, full] = unprivileged('env', env);
  return [program, full];
}

function modeOf(path: string): number {
  return statSync(path).mode;
}
