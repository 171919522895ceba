/** A userspace server without privileges in a namespace of a lab. */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Host, type Lab, type Running, until } from '../support/lab.ts';
import { unprivileged } from './rootless.ts';

const SEALANED = fileURLToPath(new URL('../../packages/server/bin/sealaned.js', import.meta.url));

export interface NamespacedServer {
  readonly process: Running;
  /** The configuration of its one peer. */
  readonly peer: string;
}

/** Starts `sealaned run --userspace` with one peer. */
export async function startServerIn(
  lab: Lab,
  host: Host,
  options: { readonly address: string; readonly pool: string; readonly allowedIps: string },
): Promise<NamespacedServer> {
  const { address, pool, allowedIps } = options;
  execFileSync('chmod', ['755', lab.folder]);
  const home = join(lab.folder, 'home');
  execFileSync('install', ['-d', '-o', '65534', '-g', '65534', '-m', '700', home]);
  const sealaned = (...args: readonly string[]): [string, readonly string[]] => {
    const [program, full] = unprivileged('env', [
      `HOME=${home}`,
      process.execPath,
      SEALANED,
      ...args,
      '--state',
      join(home, 'state'),
    ]);
    return [program, full];
  };
  await host.must(...sealaned('init', '--endpoint', `${address}:51820`, '--pool', pool));
  const peer = await host.must(...sealaned('peer', 'add', 'ann', '--allowed-ips', allowedIps));
  const running = host.start(...sealaned('run', '--userspace', '--json'));
  await until('the server to be ready', () => running.stdout.includes('"ready"'));
  return { process: running, peer };
}

/** Brings the configuration of a peer to a device that `wg` configures: its addresses are IPv4, then perhaps IPv6. */
export async function configureDevice(lab: Lab, host: Host, name: string, config: string, mtu: number): Promise<void> {
  const stripped = config.replace(/^(Address|DNS|MTU) = .*\n/gm, '');
  await host.must('wg', ['setconf', name, await lab.file('wg.conf', stripped)]);
  for (const address of /^Address = (.+)$/m.exec(config)![1]!.split(/, */)) {
    await host.must('ip', ['addr', 'add', address, 'dev', name, ...(address.includes(':') ? ['nodad'] : [])]);
  }
  await host.must('ip', ['link', 'set', 'mtu', String(mtu), 'up', 'dev', name]);
}
