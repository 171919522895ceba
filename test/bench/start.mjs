/**
 * How long the commands take from their start until they serve, by turns with wireguard-go: medians of fresh processes.
 * node test/bench/start.mjs [--runs 11] [--peer-binary wireguard-go]     needs root and wg
 */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { readOptions } from '../../scripts/options.mjs';

const usage = `node test/bench/start.mjs [--runs N] [--peer-binary PATH]     needs root and wg
  --runs         of each command (default 11)
  --peer-binary  the wireguard-go to compare with (default: the one on PATH)`;
const { values } = readOptions('start', usage, {
  runs: { type: 'string', default: '11' },
  'peer-binary': { type: 'string', default: 'wireguard-go' },
});
const runs = Number(values.runs);
const SEALANE = fileURLToPath(new URL('../../packages/client/bin/sealane.js', import.meta.url));
const SEALANED = fileURLToPath(new URL('../../packages/server/bin/sealaned.js', import.meta.url));
const tag = process.pid.toString(36);
const namespace = `slb-start-${tag}`;
const name = `slst${tag}`;
const folder = mkdtempSync(join(tmpdir(), 'sealane-start-'));
const config = join(folder, `${name}.conf`);
const env = { ...process.env, STATE_DIRECTORY: folder, LOG_LEVEL: 'error', WG_PROCESS_FOREGROUND: '1' };

/** @typedef {import('node:child_process').ChildProcess} ChildProcess */
/** @type {(words: readonly string[]) => ChildProcess} */
const start = (words) =>
  spawn('ip', ['netns', 'exec', namespace, ...words], { env, stdio: ['ignore', 'pipe', 'pipe'] });

/** @param {ChildProcess} child */
async function end(child) {
  const exit = once(child, 'exit');
  child.kill('SIGTERM');
  await exit;
}

/**
 * Until what a program prints has this in it.
 * @type {(words: readonly string[], text: string) => Promise<number>}
 */
async function untilSaid(words, text) {
  const at = performance.now();
  const child = start(words);
  let said = '';
  await new Promise((resolve, reject) => {
    for (const stream of [child.stdout, child.stderr]) {
      stream?.on('data', (data) => {
        said += data;
        if (said.includes(text)) resolve(undefined);
      });
    }
    child.once('exit', (code) => reject(new Error(`${words.join(' ')} exited ${code}: ${said}`)));
  });
  const took = performance.now() - at;
  await end(child);
  return took;
}

/**
 * Until an interface has taken its configuration from `wg setconf`: what replaces wireguard-go is measured as it is.
 * @param {readonly string[]} words
 */
async function untilConfigured(words) {
  const at = performance.now();
  const child = start(words);
  while (!existsSync(`/var/run/wireguard/${name}.sock`)) {
    if (child.exitCode !== null) throw new Error(`${words.join(' ')} exited ${child.exitCode}`);
    await sleep(2);
  }
  execFileSync('ip', ['netns', 'exec', namespace, 'wg', 'setconf', name, join(folder, 'wg.conf')]);
  const took = performance.now() - at;
  await end(child);
  return took;
}

/** @param {readonly string[]} words */
async function untilDone([program = '', ...args]) {
  const at = performance.now();
  const { status } = spawnSync(program, args, { stdio: 'ignore' });
  if (status !== 0) throw new Error(`${program} ${args.join(' ')} exited ${status}`);
  return performance.now() - at;
}

const node = process.execPath;
/** @type {readonly (readonly [string, () => Promise<number>])[]} */
const rows = [
  ['node itself', () => untilDone([node, '-e', '0'])],
  ['sealane --version', () => untilDone([node, SEALANE, '--version'])],
  ['sealaned --help', () => untilDone([node, SEALANED, '--help'])],
  ['sealane device, to wg setconf', () => untilConfigured([node, SEALANE, 'device', name])],
  ['wireguard-go, to wg setconf', () => untilConfigured([values['peer-binary'], '-f', name])],
  ['sealane up, to its first handshake', () => untilSaid([node, SEALANE, 'up', config], `${name} is up`)],
  [
    'sealaned run, to ready',
    () => untilSaid([node, SEALANED, 'run', '--state', join(folder, 'server'), '--interface', name], 'ready:'),
  ],
];

try {
  execFileSync('ip', ['netns', 'add', namespace]);
  execFileSync('ip', ['-n', namespace, 'link', 'set', 'lo', 'up']);
  const key = execFileSync('wg', ['genkey'], { encoding: 'utf8' }).trim();
  const peer = execFileSync('wg', ['pubkey'], { encoding: 'utf8', input: execFileSync('wg', ['genkey']) }).trim();
  const peerLines = `[Peer]\nPublicKey = ${peer}\nEndpoint = 127.0.0.1:51999\nAllowedIPs = 10.85.0.2/32\n`;
  const own = `[Interface]\nPrivateKey = ${key}\nListenPort = 51998\n`;
  writeFileSync(join(folder, 'wg.conf'), own + peerLines, { mode: 0o600 });
  writeFileSync(config, `${own}Address = 10.85.0.1/24\n${peerLines}`, { mode: 0o600 });
  const init = ['init', '--state', join(folder, 'server'), '--endpoint', '127.0.0.1:51997', '--pool', '10.86.0.0/24'];
  execFileSync(node, [SEALANED, ...init], { stdio: 'ignore' });

  /** @type {Map<string, number[]>} */
  const samples = new Map(rows.map(([row]) => [row, []]));
  for (let i = 0; i < runs; i++) for (const [row, measure] of rows) samples.get(row)?.push(await measure());
  for (const [row, list] of samples) {
    const sorted = list.toSorted((a, b) => a - b);
    const [median = 0, least = 0, most = 0] = [sorted[runs >> 1], sorted[0], sorted.at(-1)];
    console.log(`${row.padEnd(36)} ${median.toFixed(0).padStart(5)} ms (${least.toFixed(0)} - ${most.toFixed(0)})`);
  }
} finally {
  execFileSync('ip', ['netns', 'del', namespace]);
  rmSync(folder, { recursive: true, force: true });
}
