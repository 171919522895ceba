/** Two hosts for the benchmark, joined by a veth pair: everything in them is removed again, whatever happens. */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const END = fileURLToPath(new URL('./tunnel-end.mjs', import.meta.url));
const tag = process.pid.toString(36);
/** @typedef {'a' | 'b'} Side */
/** @typedef {import('node:child_process').ChildProcessWithoutNullStreams} Child */
/** @typedef {{ kind: 'ours' | 'theirs', lane?: string, lanes?: number, suite?: string, program?: string, checkout?: string }} End */
/** @typedef {{ privateKey: string, publicKey: string }} Keys */
/** @typedef {{ publicKey: string, allowedIps: string[], endpoint?: { address: string, port: number }, keepalive?: number }} BenchPeer */
/** @typedef {{ child: Child, pid: number, ready: number }} Started */
/** @typedef {{ a: Started, b: Started }} Pair */

/** @type {Side[]} */
export const SIDES = ['a', 'b'];
/** @param {Side} side */
export const namespaceOf = (side) => `slb-${side}-${tag}`;
/** @param {Side} side */
export const interfaceOf = (side) => `slb${side}${tag}`;
/** @type {Record<Side, [string, string]>} */
export const INNER = { a: ['10.85.0.1', 'fd85::1'], b: ['10.85.0.2', 'fd85::2'] };
/** @type {Record<Side, [string, string]>} */
export const OUTER = { a: ['192.168.85.1', 'fd86::1'], b: ['192.168.85.2', 'fd86::2'] };
export const PORTS = { a: 51001, b: 51002 };
/** @type {Set<Child>} */
const children = new Set();

/** @param {string[]} args */
export const ip = (...args) => execFileSync('ip', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
/** @type {(side: Side, program: string, args: string[], options?: { env?: NodeJS.ProcessEnv }) => Child} */
export const within = (side, program, args, options = {}) =>
  spawn('ip', ['netns', 'exec', namespaceOf(side), program, ...args], { stdio: ['pipe', 'pipe', 'pipe'], ...options });

/**
 * Runs a program in a namespace to its end; resolves to its standard output, rejects with what it said.
 * @param {Side} side
 * @param {string} program
 * @param {string[]} args
 */
export async function run(side, program, args) {
  const child = within(side, program, args);
  child.stdin.end();
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (data) => (stdout += data));
  child.stderr.on('data', (data) => (stderr += data));
  const [code] = await once(child, 'close');
  if (code !== 0) throw new Error(`${program} ${args.join(' ')} exited ${code}: ${stderr}${stdout}`);
  return stdout;
}

export function openHosts() {
  for (const side of SIDES) {
    ip('netns', 'add', namespaceOf(side));
    ip('-n', namespaceOf(side), 'link', 'set', 'lo', 'up');
  }
  ip(
    'link',
    'add',
    `va${tag}`,
    'netns',
    namespaceOf('a'),
    'type',
    'veth',
    'peer',
    'name',
    `vb${tag}`,
    'netns',
    namespaceOf('b'),
  );
  for (const side of SIDES) {
    const device = `v${side}${tag}`;
    ip('-n', namespaceOf(side), 'addr', 'add', `${OUTER[side][0]}/24`, 'dev', device);
    ip('-n', namespaceOf(side), 'addr', 'add', `${OUTER[side][1]}/64`, 'dev', device, 'nodad');
    ip('-n', namespaceOf(side), 'link', 'set', device, 'up');
  }
}

export function closeHosts() {
  for (const child of children) child.kill('SIGKILL');
  children.clear();
  for (const side of SIDES) {
    try {
      ip('netns', 'del', namespaceOf(side));
    } catch {
      // It was never made.
    }
  }
}

/**
 * Starts both ends: `ends.a` and `ends.b` are { kind: 'ours', lane, lanes, suite, checkout } or { kind: 'theirs', program }; a begins.
 * Resolves to the pids and the milliseconds until each was ready.
 * @param {Record<Side, End>} ends
 * @param {Record<Side, Keys>} keys
 * Allowed IPs and peers beyond those that the two need are given to both ends.
 * @param {{ outer?: 4 | 6 | undefined, extraAllowed?: string[], extraPeers?: BenchPeer[] }} options
 * @returns {Promise<Pair>}
 */
export async function startPair(ends, keys, { outer = 4, extraAllowed = [], extraPeers = [] } = {}) {
  const started = /** @type {Pair} */ ({});
  for (const side of /** @type {Side[]} */ (['b', 'a'])) {
    /** @type {Side} */
    const other = side === 'a' ? 'b' : 'a';
    const peer = {
      publicKey: keys[other].publicKey,
      allowedIps: [`${INNER[other][0]}/32`, `${INNER[other][1]}/128`, ...extraAllowed],
      ...(side === 'a' && { endpoint: { address: OUTER.b[outer === 4 ? 0 : 1], port: PORTS.b } }),
    };
    started[side] = await startEnd(side, ends[side], keys[side], [peer, ...extraPeers]);
  }
  for (let attempt = 0; ; attempt++) {
    try {
      await run('a', 'ping', ['-c', '1', '-W', '1', INNER.b[0]]);
      return started;
    } catch (error) {
      if (attempt === 10) throw error;
    }
  }
}

/**
 * Starts one end and sets its interface up.
 * @type {(side: Side, end: End, keys: Keys, peers: BenchPeer[]) => Promise<Started>}
 */
export async function startEnd(side, end, keys, peers) {
  const at = performance.now();
  const child = await (end.kind === 'ours' ? startOurs : startTheirs)(side, end, keys, peers);
  children.add(child);
  const started = { child, pid: pidIn(side), ready: performance.now() - at };
  const [v4, v6] = INNER[side];
  ip('-n', namespaceOf(side), 'addr', 'add', `${v4}/24`, 'dev', interfaceOf(side));
  ip('-n', namespaceOf(side), 'addr', 'add', `${v6}/64`, 'dev', interfaceOf(side), 'nodad');
  ip('-n', namespaceOf(side), 'link', 'set', interfaceOf(side), 'up');
  return started;
}

/** @param {Pair} started */
export async function stopPair(started) {
  for (const side of SIDES) await stopEnd(started[side]);
}

/** @param {Started} started */
export async function stopEnd({ child }) {
  const ended = once(child, 'exit');
  child.stdin.end();
  child.kill('SIGTERM');
  await Promise.race([ended, sleep(2_000)]);
  child.kill('SIGKILL');
  children.delete(child);
  await sleep(100);
}

/** @type {(side: Side, end: End, keys: Keys, peers: BenchPeer[]) => Promise<Child>} */
async function startOurs(side, { lane = 'linux', lanes = 1, suite, checkout }, { privateKey }, peers) {
  const program = checkout === undefined ? END : join(checkout, 'test/bench/tunnel-end.mjs');
  const child = within(side, process.execPath, [program]);
  child.stderr.pipe(process.stderr, { end: false });
  const own = peers.map((peer) => ({ ...peer, ...(suite !== undefined && { cipherSuite: suite }) }));
  child.stdin.write(
    `${JSON.stringify({ name: interfaceOf(side), mtu: 1420, lane, lanes, listenPort: PORTS[side], privateKey, peers: own })}\n`,
  );
  const lines = createInterface({ input: child.stdout });
  const failed = once(child, 'exit').then(([code]) => {
    throw new Error(`our end ${side} exited ${code}`);
  });
  await Promise.race([once(lines, 'line'), failed]);
  failed.catch(() => undefined);
  return child;
}

/** @type {(side: Side, end: End, keys: Keys, peers: BenchPeer[]) => Promise<Child>} */
async function startTheirs(side, { program = 'wireguard-go' }, { privateKey }, peers) {
  const name = interfaceOf(side);
  const child = within(side, program, ['-f', name], {
    env: { ...process.env, LOG_LEVEL: 'error', WG_PROCESS_FOREGROUND: '1' },
  });
  for (let i = 0; !existsSync(`/var/run/wireguard/${name}.sock`); i++) {
    if (i === 500) throw new Error(`${program} made no control socket`);
    await sleep(10);
  }
  const config = ['[Interface]', `PrivateKey = ${privateKey}`, `ListenPort = ${PORTS[side]}`];
  for (const { publicKey, allowedIps, endpoint, keepalive } of peers) {
    config.push('[Peer]', `PublicKey = ${publicKey}`);
    if (allowedIps.length > 0) config.push(`AllowedIPs = ${allowedIps.join(', ')}`);
    if (keepalive !== undefined) config.push(`PersistentKeepalive = ${keepalive}`);
    if (endpoint === undefined) continue;
    const address = endpoint.address.includes(':') ? `[${endpoint.address}]` : endpoint.address;
    config.push(`Endpoint = ${address}:${endpoint.port}`);
  }
  const folder = mkdtempSync(join(tmpdir(), 'sealane-bench-'));
  writeFileSync(join(folder, 'config'), `${config.join('\n')}\n`, { mode: 0o600 });
  await run(side, 'wg', ['setconf', name, join(folder, 'config')]);
  rmSync(folder, { recursive: true });
  ip('-n', namespaceOf(side), 'link', 'set', name, 'mtu', '1420');
  return child;
}

/** @param {Side} side */
function pidIn(side) {
  const pids = ip('netns', 'pids', namespaceOf(side)).trim().split('\n').map(Number);
  return (
    pids.find((pid) => /wireguard|node|MainThread/.test(readFileSync(`/proc/${pid}/comm`, 'utf8'))) ?? pids[0] ?? 0
  );
}

/**
 * Milliseconds of processor time that a process has used.
 * @param {number} pid
 */
export function cpuOf(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /, '')
    .split(' ');
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

/**
 * Its resident memory in MiB.
 * @param {number} pid
 */
export function rssOf(pid) {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024;
}
