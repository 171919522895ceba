/** What the floods are measured on: a server process, a client with a session, a peer that comes anew, and where the flood comes from. */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { closeHosts, interfaceOf, ip, namespaceOf, openHosts, run, within } from './namespaces.mjs';

/** @typedef {import('./namespaces.mjs').Side | 'f'} Host `f` is where the flood comes from, and the peer that comes anew */
/** @typedef {import('./namespaces.mjs').Child} Child */
/** @typedef {{ server: Child, client: Child, publicKey: string, honest: Honest, stop: () => Promise<void> }} Ends */
/** @typedef {{ connect: () => Promise<{ ms?: number, cookies: number }> }} Honest */

const path = (/** @type {string} */ text) => fileURLToPath(new URL(text, import.meta.url));
const SEALANED = path('../../packages/server/bin/sealaned.js');
const SEALANE = path('../../packages/client/bin/sealane.js');
const FLOOD = path('./flood.mjs');
const HONEST = path('./honest-peer.mjs');

export const PORT = 51_002;
export const SINK_PORT = 51_099;
export const INNER = { server: '10.85.0.1', client: '10.85.0.2', honest: '10.85.0.3' };
const OUTER = { server: '192.168.85.2', toFlood: '192.168.96.1', honest: '192.168.98.1' };
export const SOURCES = Array.from({ length: 200 }, (_, i) => `192.168.97.${i + 1}`);

const inF = /** @type {(program: string, args: string[]) => Child} */ (
  (program, args) => within(/** @type {any} */ ('f'), program, args)
);

export function openFloodHosts() {
  openHosts();
  const [flooder, server] = [namespaceOf(/** @type {any} */ ('f')), namespaceOf('b')];
  ip('netns', 'add', flooder);
  ip('link', 'add', 'flood', 'netns', flooder, 'type', 'veth', 'peer', 'name', 'flooded', 'netns', server);
  ip('-n', server, 'addr', 'add', `${OUTER.toFlood}/22`, 'dev', 'flooded');
  ip('-n', server, 'link', 'set', 'flooded', 'up');
  for (const address of [OUTER.honest, ...SOURCES]) ip('-n', flooder, 'addr', 'add', `${address}/22`, 'dev', 'flood');
  ip('-n', flooder, 'link', 'set', 'flood', 'up');
}

export function closeFloodHosts() {
  closeHosts();
  try {
    ip('netns', 'del', namespaceOf(/** @type {any} */ ('f')));
  } catch {
    // It was never made.
  }
}

/**
 * Resolves once it floods; `done` to the datagrams that left.
 * @param {{ kind: string, rate: number, seconds: number, port: number, sources: string[], publicKey: string }} options
 */
export function flood({ kind, rate, seconds, port, sources, publicKey }) {
  const options = { kind, rate, seconds, target: OUTER.toFlood, port, sources, publicKey };
  const child = inF(process.execPath, [FLOOD, JSON.stringify(options)]);
  child.stderr.pipe(process.stderr, { end: false });
  let text = '';
  child.stdout.on('data', (data) => (text += data));
  const done = once(child, 'close').then(([code]) => {
    if (code !== 0) throw new Error(`the flood ended with ${code}`);
    return /** @type {number} */ (JSON.parse(text).sent);
  });
  return { child, done };
}

/** Somebody who takes the flood and does nothing with it. */
export async function openSink() {
  const child = within('b', process.execPath, [
    FLOOD,
    JSON.stringify({ kind: 'sink', target: OUTER.toFlood, port: SINK_PORT }),
  ]);
  await once(child.stdout, 'data');
  return child;
}

/**
 * Server in b, client in a with a session, and a peer in f, all ready.
 * @param {'ours' | 'theirs'} kind
 * @param {string} program wireguard-go
 * @returns {Promise<Ends>}
 */
export async function startEnds(kind, program) {
  const folder = mkdtempSync(join(tmpdir(), 'sealane-floods-'));
  const { server, client, publicKey } = await (kind === 'ours' ? startOurs(folder) : startTheirs(folder, program));
  for (let attempt = 0; ; attempt++) {
    try {
      await run('a', 'ping', ['-c', '1', '-W', '1', INNER.server]);
      break;
    } catch (error) {
      if (attempt === 20) throw error;
      await sleep(200);
    }
  }
  const honest = inF(process.execPath, [HONEST, join(folder, 'honest.conf'), INNER.server]);
  honest.stderr.pipe(process.stderr, { end: false });
  const lines = createInterface({ input: honest.stdout })[Symbol.asyncIterator]();
  await lines.next();
  return {
    server,
    client,
    publicKey,
    honest: {
      async connect() {
        honest.stdin.write('connect\n');
        return JSON.parse((await lines.next()).value);
      },
    },
    async stop() {
      for (const child of [honest, client, server]) {
        const ended = once(child, 'exit');
        if (child === honest) child.stdin.end();
        else child.kill('SIGTERM');
        await Promise.race([ended, sleep(3_000)]);
        child.kill('SIGKILL');
      }
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** @param {string} folder */
async function startOurs(folder) {
  const state = join(folder, 'state');
  /** @param {string[]} args */
  const sealaned = (...args) =>
    execFileSync(process.execPath, [SEALANED, ...args, '--state', state], { stdio: ['ignore', 'pipe', 'inherit'] });
  sealaned('init', '--endpoint', `${OUTER.server}:${PORT}`, '--pool', '10.85.0.0/24');
  const config = join(folder, `${interfaceOf('a')}.conf`);
  sealaned('peer', 'add', 'client', '--out', config);
  sealaned('peer', 'add', 'honest', '--out', join(folder, 'honest.conf'));
  moveHonest(join(folder, 'honest.conf'));
  const serving = ['run', '--json', '--state', state, '--interface', interfaceOf('b'), '--no-forwarding'];
  const server = within('b', process.execPath, [SEALANED, ...serving]);
  const lines = createInterface({ input: server.stdout });
  for await (const line of lines) if (JSON.parse(line).event === 'ready') break;
  server.stdout.resume();
  const env = { ...process.env, STATE_DIRECTORY: folder };
  const client = within('a', process.execPath, [SEALANE, 'up', config], { env });
  for (const child of [server, client]) child.stderr.resume();
  client.stdout.resume();
  const publicKey = /PublicKey = (\S+)/.exec(readFileSync(config, 'utf8'))?.[1] ?? '';
  return { server, client, publicKey: Buffer.from(publicKey, 'base64').toString('hex') };
}

/**
 * @param {string} folder
 * @param {string} program
 */
async function startTheirs(folder, program) {
  const keys = Object.fromEntries(
    ['server', 'client', 'honest'].map((name) => {
      const privateKey = execFileSync('wg', ['genkey'], { encoding: 'utf8' }).trim();
      const publicKey = execFileSync('wg', ['pubkey'], { input: privateKey, encoding: 'utf8' }).trim();
      return [name, { privateKey, publicKey }];
    }),
  );
  /** @type {(name: string, lines: string[]) => string} */
  const write = (name, lines) => {
    const file = join(folder, `${name}.conf`);
    writeFileSync(file, `${lines.join('\n')}\n`, { mode: 0o600 });
    return file;
  };
  /** @type {(name: string, endpoint?: string) => string[]} */
  const peer = (name, endpoint) => [
    '[Peer]',
    `PublicKey = ${keys[name]?.publicKey}`,
    `AllowedIPs = ${INNER[/** @type {keyof INNER} */ (name)]}/32`,
    ...(endpoint === undefined ? [] : [`Endpoint = ${endpoint}`]),
  ];
  /** @param {string} name */
  const own = (name) => ['[Interface]', `PrivateKey = ${keys[name]?.privateKey}`];
  const endpoint = `${OUTER.server}:${PORT}`;
  const serverConfig = [...own('server'), `ListenPort = ${PORT}`, ...peer('client'), ...peer('honest')];
  const server = await startWireguardGo('b', program, write('server', serverConfig), INNER.server);
  const clientConfig = [...own('client'), ...peer('server', endpoint)];
  const client = await startWireguardGo('a', program, write('client', clientConfig), INNER.client);
  write('honest', [...own('honest'), `Address = ${INNER.honest}/32`, ...peer('server', endpoint)]);
  moveHonest(join(folder, 'honest.conf'));
  return { server, client, publicKey: Buffer.from(keys['server']?.publicKey ?? '', 'base64').toString('hex') };
}

/** @type {(side: import('./namespaces.mjs').Side, program: string, config: string, address: string) => Promise<Child>} */
async function startWireguardGo(side, program, config, address) {
  const name = interfaceOf(side);
  const env = { ...process.env, LOG_LEVEL: 'error', WG_PROCESS_FOREGROUND: '1' };
  const child = within(side, program, ['-f', name], { env });
  for (const stream of [child.stdout, child.stderr]) stream.resume();
  for (let i = 0; !existsSync(`/var/run/wireguard/${name}.sock`); i++) {
    if (i === 500) throw new Error(`${program} made no control socket`);
    await sleep(10);
  }
  await run(side, 'wg', ['setconf', name, config]);
  ip('-n', namespaceOf(side), 'addr', 'add', `${address}/24`, 'dev', name);
  ip('-n', namespaceOf(side), 'link', 'set', name, 'mtu', '1420', 'up');
  return child;
}

/** The peer that comes anew reaches the server where the flood does. @param {string} file */
function moveHonest(file) {
  const text = readFileSync(file, 'utf8').replace(/^Endpoint = .*$/m, `Endpoint = ${OUTER.toFlood}:${PORT}`);
  writeFileSync(file, text, { mode: 0o600 });
}
