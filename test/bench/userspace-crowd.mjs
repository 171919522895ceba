/** Many connections through SOCKS5: a gateway, a proxy and an origin, in processes of their own. */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { generatePrivateKey, nobleCrypto } from '@sealane/protocol';

const END = new URL('./userspace-end.mjs', import.meta.url);
const WORD = Buffer.alloc(100, 'sealane ');

/** @typedef {{ heap: number, entries: Record<string, number>, resources: number }} EndState */
/** @typedef {{ pid: number, ask: (order: object) => Promise<any>, state: () => Promise<EndState>, close: () => void }} End */

export async function openCrowd() {
  const directory = mkdtempSync(join(tmpdir(), 'sealane-bench-'));
  const socks = join(directory, 'socks5.sock');
  const [server, client] = [0, 1].map(() =>
    generatePrivateKey((length) => crypto.getRandomValues(new Uint8Array(length))),
  );
  const keys = {
    server,
    clientPrivate: client,
    client: nobleCrypto.publicKey(client),
    serverPublic: nobleCrypto.publicKey(server),
  };
  const [origin, gateway, proxy] = [startEnd(), startEnd(), startEnd()];
  const originPort = await origin.ask({ role: 'origin', keys });
  const port = await gateway.ask({ role: 'server', keys, origin: originPort });
  await proxy.ask({ role: 'client', keys, port, socks });
  return {
    gateway,
    proxy,
    /** A connection to the origin over which one word went there and back. */
    speak: () => speak(socks, originPort),
    close() {
      for (const end of [proxy, gateway, origin]) end.close();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

/** @returns {End} */
function startEnd() {
  const child = fork(END, { execArgv: ['--expose-gc'], serialization: 'advanced' });
  const ended = once(child, 'exit').then(() => Promise.reject(new Error('a process of the benchmark ended')));
  ended.catch(() => undefined);
  const ask = async (/** @type {object} */ order) => {
    const answer = new Promise((/** @type {(value: any) => void} */ resolve) => child.once('message', resolve));
    child.send(order);
    return Promise.race([answer, ended]);
  };
  return { pid: child.pid ?? 0, ask, state: () => ask({}), close: () => child.disconnect() };
}

/** @param {string} socks @param {number} port @returns {Promise<import('node:net').Socket>} */
function speak(socks, port) {
  return new Promise((resolve, reject) => {
    const socket = connect({ path: socks });
    let received = 0;
    socket.write(Uint8Array.of(5, 1, 0, 5, 1, 0, 1, 127, 0, 0, 1, port >> 8, port & 0xff));
    socket.write(WORD);
    socket.on('data', (bytes) => {
      received += bytes.length;
      if (received === 12 + WORD.length) resolve(socket);
    });
    socket.once('error', reject);
    socket.once('close', () => reject(new Error(`the proxy closed after ${received} bytes`)));
  });
}
