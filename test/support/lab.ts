/**
 * Hosts for tests: network namespaces that a test makes, joined by veth pairs, with real programs running in them.
 * Everything is removed when the lab closes, whatever happened in between.
 */
import { execFile, execFileSync, spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile, readdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';

export interface Result {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Why namespace tests cannot run here, or undefined when they can. */
export function missing(...programs: readonly string[]): string | undefined {
  if (process.platform !== 'linux') return 'needs Linux';
  if (process.getuid?.() !== 0) return 'needs root for network namespaces';
  const folders = (process.env['PATH'] ?? '').split(delimiter);
  const absent = ['ip', ...programs].filter((name) => !folders.some((folder) => existsSync(join(folder, name))));
  if (absent.length > 0) return `needs ${absent.join(', ')}`;
  if (!existsSync('/dev/net/tun')) return 'needs /dev/net/tun';
  try {
    const probe = `probe-${randomBytes(4).toString('hex')}`;
    execFileSync('ip', ['netns', 'add', probe], { stdio: 'ignore' });
    execFileSync('ip', ['netns', 'del', probe], { stdio: 'ignore' });
  } catch {
    return 'needs permission to make network namespaces';
  }
  return undefined;
}

/** One host: a namespace with its loopback up. */
export class Host {
  readonly name: string;
  readonly #children = new Set<ChildProcess>();

  constructor(name: string) {
    this.name = name;
  }

  /** Runs a program in the namespace to its end; never throws for its exit code. */
  run(program: string, args: readonly string[], options: { input?: string; timeout?: number } = {}): Promise<Result> {
    return execute('ip', ['netns', 'exec', this.name, program, ...args], options);
  }

  /** Like `run`, but a non-zero exit is an error with what the program said. Resolves to its standard output. */
  async must(
    program: string,
    args: readonly string[],
    options: { input?: string; timeout?: number } = {},
  ): Promise<string> {
    const result = await this.run(program, args, options);
    if (result.code !== 0) {
      throw new Error(
        `${program} ${args.join(' ')} in ${this.name} exited ${result.code}: ${result.stderr}${result.stdout}`,
      );
    }
    return result.stdout;
  }

  /** Starts a program that goes on running; it is killed when the lab closes. */
  start(program: string, args: readonly string[], env: Readonly<Record<string, string>> = {}): Running {
    const child = spawn('ip', ['netns', 'exec', this.name, program, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...env },
    });
    this.#children.add(child);
    const running = new Running(child);
    void running.exit.then(() => this.#children.delete(child));
    return running;
  }

  async close(): Promise<void> {
    const children = [...this.#children];
    await Promise.all(
      children.map(async (child) => {
        if (child.exitCode !== null || child.signalCode !== null) return;
        const gone = new Promise((resolve) => child.once('exit', resolve));
        child.kill('SIGKILL');
        await gone;
      }),
    );
  }
}

/** A started program with what it printed so far. */
export class Running {
  readonly child: ChildProcess;
  readonly exit: Promise<number>;
  stdout = '';
  stderr = '';

  constructor(child: ChildProcess) {
    this.child = child;
    child.stdout?.setEncoding('utf8').on('data', (text: string) => (this.stdout += text));
    child.stderr?.setEncoding('utf8').on('data', (text: string) => (this.stderr += text));
    this.exit = new Promise((resolve) => {
      child.once('exit', (code, signal) => resolve(code ?? (signal === null ? 1 : 128)));
      child.once('error', () => resolve(127));
    });
  }

  /** Sends the signal and resolves to the exit code. */
  stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number> {
    this.child.kill(signal);
    return this.exit;
  }
}

/** Where programs that were killed leave files of their interfaces' names. */
const RUNTIME_FOLDERS = ['/var/run/wireguard', '/run/sealane-client'];

/** A set of hosts; use with `await using`. */
export class Lab {
  readonly folder: string;
  readonly #prefix = `sl${randomBytes(3).toString('hex')}`;
  readonly #hosts: Host[] = [];

  private constructor(folder: string) {
    this.folder = folder;
  }

  static async open(): Promise<Lab> {
    return new Lab(await mkdtemp(join(tmpdir(), 'sealane-lab-')));
  }

  /** A name for an interface that is unique on this machine, at most 15 bytes. */
  interfaceName(suffix: string): string {
    return `${this.#prefix}${suffix}`;
  }

  async host(name: string): Promise<Host> {
    const host = new Host(`${this.#prefix}-${name}`);
    await mustExecute('ip', ['netns', 'add', host.name]);
    this.#hosts.push(host);
    await host.must('ip', ['link', 'set', 'lo', 'up']);
    return host;
  }

  /** Joins two hosts by a veth pair; addresses are in CIDR form, IPv6 ones are usable at once. */
  async join(
    a: Host,
    aName: string,
    aAddresses: readonly string[],
    b: Host,
    bName: string,
    bAddresses: readonly string[],
  ): Promise<void> {
    await mustExecute('ip', [
      '-n',
      a.name,
      'link',
      'add',
      aName,
      'type',
      'veth',
      'peer',
      'name',
      bName,
      'netns',
      b.name,
    ]);
    for (const [host, name, addresses] of [
      [a, aName, aAddresses],
      [b, bName, bAddresses],
    ] as const) {
      for (const address of addresses) {
        await host.must('ip', ['addr', 'add', address, 'dev', name, ...(address.includes(':') ? ['nodad'] : [])]);
      }
      await host.must('ip', ['link', 'set', name, 'up']);
    }
  }

  /** Writes a file (0600) in the lab's folder and returns its path. */
  async file(name: string, content: string): Promise<string> {
    const path = join(this.folder, name);
    await writeFile(path, content, { mode: 0o600 });
    return path;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const host of this.#hosts) await host.close();
    for (const host of this.#hosts) {
      const pids = await execute('ip', ['netns', 'pids', host.name]);
      for (const pid of pids.stdout.split('\n').filter((line) => line !== '')) {
        try {
          process.kill(Number(pid), 'SIGKILL');
        } catch {
          // It ended meanwhile.
        }
      }
      await execute('ip', ['netns', 'del', host.name]);
    }
    await rm(this.folder, { recursive: true, force: true });
    for (const folder of RUNTIME_FOLDERS) {
      const files = await readdir(folder).catch(() => []);
      for (const file of files) if (file.startsWith(this.#prefix)) await rm(join(folder, file), { force: true });
    }
  }
}

/** Waits until `condition` holds; an error that says what was awaited after `timeout` ms. */
export async function until(
  what: string,
  condition: () => boolean | Promise<boolean>,
  timeout = 15_000,
): Promise<void> {
  const end = Date.now() + timeout;
  while (!(await condition())) {
    if (Date.now() > end) throw new Error(`waited ${timeout} ms in vain for: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

export function execute(
  program: string,
  args: readonly string[],
  { input, timeout = 60_000 }: { input?: string; timeout?: number } = {},
): Promise<Result> {
  return new Promise((resolve) => {
    const child = execFile(program, [...args], { timeout, maxBuffer: 64 << 20 }, (error, stdout, stderr) => {
      const code = error === null ? 0 : typeof error.code === 'number' ? error.code : 1;
      resolve({ code, stdout, stderr });
    });
    // A program that ends without reading its input is not our error.
    child.stdin?.on('error', () => {});
    child.stdin?.end(input);
  });
}

async function mustExecute(program: string, args: readonly string[]): Promise<void> {
  const result = await execute(program, args);
  if (result.code !== 0) throw new Error(`${program} ${args.join(' ')}: ${result.stderr}`);
}
