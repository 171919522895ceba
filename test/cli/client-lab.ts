/**
 * Two hosts for `sealane up`:
 *
 *   host a [va 192.168.88.1, fd88::1] ==veth== [vb 192.168.88.2, fd88::2] host b
 *   tunnel a 10.88.0.2, fd08::2                tunnel b 10.88.0.1, fd08::1
 */
import { rm } from 'node:fs/promises';
import { newKeyPair, SEALANE, type KeyPair } from './client-support.ts';
import { type Host, type Lab, type Result, type Running, until } from '../support/lab.ts';

export const client: KeyPair = newKeyPair();
export const server: KeyPair = newKeyPair();

/** The file of host b. */
export const SERVER: string = [
  '[Interface]',
  `PrivateKey = ${server.privateText}`,
  'ListenPort = 51888',
  'Address = 10.88.0.1/24, fd08::1/64',
  '[Peer]',
  `PublicKey = ${client.publicText}`,
  'AllowedIPs = 10.88.0.2/32, fd08::2/128',
  '',
].join('\n');

/** The file of host a; `extra` are lines of its [Interface]. */
export function clientFile(allowedIps: string, extra = ''): string {
  return [
    '[Interface]',
    `PrivateKey = ${client.privateText}`,
    'Address = 10.88.0.2/32, fd08::2/128',
    'MTU = 1400',
    extra,
    '[Peer]',
    `PublicKey = ${server.publicText}`,
    `AllowedIPs = ${allowedIps}`,
    'Endpoint = 192.168.88.2:51888',
    '',
  ].join('\n');
}

export interface Pair {
  readonly a: Host;
  readonly b: Host;
}

export async function twoHosts(lab: Lab): Promise<Pair> {
  const [a, b] = [await lab.host('a'), await lab.host('b')];
  await lab.join(a, 'va', ['192.168.88.1/24', 'fd88::1/64'], b, 'vb', ['192.168.88.2/24', 'fd88::2/64']);
  for (const host of [a, b]) {
    await until('link-local addresses to settle', async () => {
      const text = await host.must('ip', ['-6', 'address']);
      return text.includes('fe80') && !text.includes('tentative');
    });
  }
  return { a, b };
}

/** Starts `sealane up` with this file and waits until it is up. */
export async function up(
  lab: Lab,
  host: Host,
  name: string,
  text: string,
  ...options: readonly string[]
): Promise<Running> {
  const file = await lab.file(`${name}.conf`, text);
  const running = host.start(process.execPath, [SEALANE, 'up', file, ...options], { STATE_DIRECTORY: lab.folder });
  let ended = false;
  void running.exit.then(() => (ended = true));
  await until(
    'the tunnel to be up',
    () => {
      if (ended) throw new Error(running.stderr);
      return running.stderr.includes(' is up: ');
    },
    45_000,
  );
  return running;
}

/** Runs `sealane up` to its end: for what does not come up, or goes on in the background. */
export function tryUp(lab: Lab, host: Host, file: string, ...options: readonly string[]): Promise<Result> {
  return host.run('env', [`STATE_DIRECTORY=${lab.folder}`, process.execPath, SEALANE, 'up', file, ...options]);
}

/** Runs `sealane` there to its end. */
export function runSealane(host: Host, ...words: readonly string[]): Promise<Result> {
  return host.run(process.execPath, [SEALANE, ...words]);
}

/** The state of a tunnel that becomes user nobody's lies in a folder of that user's own: this removes it. */
export function nobodysState(lab: Lab): AsyncDisposable {
  return { [Symbol.asyncDispose]: () => rm(`${lab.folder}-65534`, { recursive: true, force: true }) };
}

/** Everything that a tunnel changes: interfaces, addresses, routes of all tables, rules, firewall, one sysctl. */
export async function systemOf(host: Host): Promise<string> {
  const commands = [
    ['-o', 'address'],
    ['-4', 'route', 'show', 'table', 'all'],
    ['-6', 'route', 'show', 'table', 'all'],
    ['-4', 'rule'],
    ['-6', 'rule'],
  ];
  const texts = await Promise.all(commands.map((words) => host.must('ip', words)));
  const firewall = (await host.run('nft', ['list', 'ruleset'])).stdout;
  return [...texts, firewall, await host.must('cat', ['/proc/sys/net/ipv4/conf/all/src_valid_mark'])].join('\n');
}

/** All of nftables without counts, in an order that does not depend on which table was made first. */
export async function rulesOf(host: Host): Promise<string> {
  const text = await host.must('nft', ['--stateless', 'list', 'ruleset']);
  return text
    .split(/^(?=table )/m)
    .toSorted()
    .join('');
}
