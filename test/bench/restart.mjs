/**
 * How long a tunnel is silent when one end is killed with -9 and started again: gaps of pings, between two namespaces.
 * Ends with 1 when the greatest of a row misses its goal.
 * node test/bench/restart.mjs [--runs 10] [--forgotten 3]     needs root and ping
 *
 *   server, remembered    sealaned, which knows where its peer was last
 *   server, forgotten     the same without endpoints.json: the client has to notice
 *   client                sealane up: from the start of the new process to its first reply
 */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { readOptions } from '../../scripts/options.mjs';

const usage = `node test/bench/restart.mjs [--runs N] [--forgotten N]     needs root and ping
  --runs       kills of the server, which remembers its peers, and of the client (default 10)
  --forgotten  kills of a server that remembers nothing, 16 seconds each (default 3)`;
const { values } = readOptions('restart', usage, {
  runs: { type: 'string', default: '10' },
  forgotten: { type: 'string', default: '3' },
});
const [runs, forgotten] = [Number(values.runs), Number(values.forgotten)];
const INTERVAL = 0.02;
const SEALANE = fileURLToPath(new URL('../../packages/client/bin/sealane.js', import.meta.url));
const SEALANED = fileURLToPath(new URL('../../packages/server/bin/sealaned.js', import.meta.url));
const tag = process.pid.toString(36);
const folder = mkdtempSync(join(tmpdir(), 'sealane-restart-'));
const state = join(folder, 'server');
const config = join(folder, `slrc${tag}.conf`);
const env = { ...process.env, STATE_DIRECTORY: join(folder, 'client') };

/** @typedef {import('node:child_process').ChildProcess} ChildProcess */
/** @typedef {'a' | 'b'} Side */
/** @param {Side} side */
const namespaceOf = (side) => `slr-${side}-${tag}`;
/** @param {string[]} words */
const ip = (...words) => execFileSync('ip', words, { stdio: ['ignore', 'pipe', 'pipe'] });
/** @type {Set<ChildProcess>} */
const children = new Set();

/** @type {(side: Side, words: readonly string[]) => ChildProcess} */
function start(side, words) {
  const child = spawn('ip', ['netns', 'exec', namespaceOf(side), ...words], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  children.add(child);
  return child;
}

/** @type {(child: ChildProcess, text: string) => Promise<void>} */
function said(child, text) {
  let output = '';
  return new Promise((resolve, reject) => {
    for (const stream of [child.stdout, child.stderr]) {
      stream?.on('data', (data) => {
        output += data;
        if (output.includes(text)) resolve();
      });
    }
    child.once('exit', (code) => reject(new Error(`exited ${code} before it said '${text}': ${output}`)));
  });
}

/** @type {(child: ChildProcess, signal: NodeJS.Signals) => Promise<void>} */
async function kill(child, signal) {
  const exit = once(child, 'exit');
  child.kill(signal);
  await exit;
  children.delete(child);
}

const SERVE = [process.execPath, SEALANED, 'run', '--state', state, '--interface', `slrs${tag}`, '--no-forwarding'];

async function startServer() {
  const server = start('b', SERVE);
  await said(server, 'ready:');
  return server;
}

async function startClient() {
  const client = start('a', [process.execPath, SEALANE, 'up', config, '--name', `slrc${tag}`]);
  await said(client, ' is up: ');
  return client;
}

/** Pings all the time and notes when each reply came. */
class Pings {
  /** @type {number[]} */
  times = [];
  child = start('a', ['ping', '-n', '-i', String(INTERVAL), '10.87.0.1']);

  constructor() {
    this.child.stdout?.on('data', (data) => {
      for (const line of String(data).split('\n')) if (line.includes('time=')) this.times.push(performance.now());
    });
  }

  /** @param {number} since */
  async replyAfter(since) {
    for (;;) {
      const time = this.times.find((at) => at > since);
      if (time !== undefined) return time;
      await sleep(5);
    }
  }
}

/** @type {(prepare: () => void) => Promise<number>} */
async function serverGap(prepare) {
  const server = await startServer();
  const client = await startClient();
  const pings = new Pings();
  await pings.replyAfter(0);
  const file = join(state, 'endpoints.json');
  while (!(statSync(file, { throwIfNoEntry: false })?.size ?? 0)) await sleep(20);
  if ((statSync(file).mode & 0o777) !== 0o600) throw new Error(`${file} is not of mode 0600`);
  await sleep(500);
  await kill(server, 'SIGKILL');
  const down = performance.now();
  prepare();
  const again = start('b', SERVE);
  const first = await pings.replyAfter(down);
  for (const child of [pings.child, client, again]) await kill(child, child === pings.child ? 'SIGKILL' : 'SIGTERM');
  return first - down;
}

async function clientGap() {
  const server = await startServer();
  const client = await startClient();
  await kill(client, 'SIGKILL');
  // Unlike a kept one this ping begins with the process: it fails at once while there is no interface.
  const begin = performance.now();
  const again = start('a', [process.execPath, SEALANE, 'up', config, '--name', `slrc${tag}`]);
  for (;;) {
    const attempt = start('a', ['ping', '-n', '-c', '1', '-W', '1', '10.87.0.1']);
    const [code] = await once(attempt, 'exit');
    children.delete(attempt);
    if (code === 0) break;
    await sleep(5);
  }
  const took = performance.now() - begin;
  await kill(again, 'SIGTERM');
  await kill(server, 'SIGTERM');
  return took;
}

try {
  mkdirSync(join(folder, 'client'), { mode: 0o700 });
  for (const side of /** @type {Side[]} */ (['a', 'b'])) {
    ip('netns', 'add', namespaceOf(side));
    ip('-n', namespaceOf(side), 'link', 'set', 'lo', 'up');
  }
  const ends = ['netns', namespaceOf('a'), 'type', 'veth', 'peer', 'name', `vb${tag}`, 'netns', namespaceOf('b')];
  ip('link', 'add', `va${tag}`, ...ends);
  for (const [side, address] of /** @type {[Side, string][]} */ ([
    ['a', '192.168.87.1/24'],
    ['b', '192.168.87.2/24'],
  ])) {
    ip('-n', namespaceOf(side), 'address', 'add', address, 'dev', `v${side}${tag}`);
    ip('-n', namespaceOf(side), 'link', 'set', 'up', 'dev', `v${side}${tag}`);
  }
  /** @param {string[]} words */
  const sealaned = (...words) => execFileSync(process.execPath, [SEALANED, ...words, '--state', state]);
  sealaned('init', '--endpoint', '192.168.87.2:51987', '--pool', '10.87.0.0/24');
  sealaned('peer', 'add', 'client', '--out', config);

  const forget = () => rmSync(join(state, 'endpoints.json'));
  for (const [row, goal, count, measure] of /** @type {[string, number, number, () => Promise<number>][]} */ ([
    ['server, remembered: kill to first reply', 1, runs, () => serverGap(() => undefined)],
    ['client: start to first reply', 1, runs, clientGap],
    ['server, forgotten: kill to first reply', 16, forgotten, () => serverGap(forget)],
  ])) {
    if (count === 0) continue;
    /** @type {number[]} */
    const list = [];
    for (let i = 0; i < count; i++) list.push(await measure());
    const sorted = list.toSorted((x, y) => x - y);
    const [median = NaN, most = NaN] = [sorted[count >> 1], sorted.at(-1)].map((gap = NaN) => gap / 1000);
    const said = `median ${median.toFixed(2)} s, greatest ${most.toFixed(2)} s (goal ${goal}${most <= goal ? '' : ', missed'})`;
    console.log(`${row.padEnd(42)} ${said}`);
    if (!(most <= goal)) process.exitCode = 1;
  }
  console.log(`(load of this machine: ${readFileSync('/proc/loadavg', 'utf8').trim()})`);
} finally {
  for (const child of children) child.kill('SIGKILL');
  for (const side of /** @type {Side[]} */ (['a', 'b'])) ip('netns', 'del', namespaceOf(side));
  rmSync(folder, { recursive: true, force: true });
}
