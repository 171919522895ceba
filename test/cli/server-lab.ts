/** Servers in the hosts of a lab. */
import { join } from 'node:path';
import { SEALANED } from './server-support.ts';
import { type Host, type Lab, type Result, type Running, until } from '../support/lab.ts';

/** One state folder in a lab, and commands on it from any host. */
export class State {
  readonly path: string;
  readonly record: string;

  private constructor(path: string) {
    this.path = path;
    this.record = join(path, 'hosting.json');
  }

  static async make(
    lab: Lab,
    host: Host,
    folder: string,
    pool = '10.7.0.0/24',
    endpoint = '127.0.0.1:51820',
  ): Promise<State> {
    const state = new State(join(lab.folder, folder));
    const made = await state.call(host, 'init', '--endpoint', endpoint, '--pool', pool);
    if (made.code !== 0) throw new Error(made.stderr);
    return state;
  }

  call(host: Host, ...words: readonly string[]): Promise<Result> {
    return host.run(process.execPath, [SEALANED, ...words, '--state', this.path], { timeout: 120_000 });
  }

  start(host: Host, interfaceName: string, options: readonly string[] = [], env: Record<string, string> = {}): Running {
    const words = [SEALANED, 'run', '--state', this.path, '--interface', interfaceName, '--listen', '0', '--json'];
    return host.start(process.execPath, [...words, ...options], env);
  }

  async run(host: Host, interfaceName: string, ...options: readonly string[]): Promise<Running> {
    const running = this.start(host, interfaceName, options);
    await untilReady(running);
    return running;
  }

  async killed(host: Host, interfaceName: string, ...options: readonly string[]): Promise<void> {
    await (await this.run(host, interfaceName, ...options)).stop('SIGKILL');
  }
}

export async function untilReady(running: Running): Promise<void> {
  await until(
    'the server to be ready',
    () => {
      if (running.child.exitCode !== null) throw new Error(running.stdout + running.stderr);
      return running.stdout.includes('"event":"ready"');
    },
    90_000,
  );
}

/** What they change there. */
export async function systemOf(host: Host): Promise<string> {
  return (await host.must('nft', ['list', 'ruleset'])) + (await host.must('sysctl', ['net.ipv4.ip_forward']));
}
