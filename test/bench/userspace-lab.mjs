/** `sealaned run --userspace` and `sealane proxy` as processes of their own on loopback, without privileges, for benchmarks. */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Processes } from '../../scripts/demo/processes.mjs';

const BIN = {
  sealaned: fileURLToPath(new URL('../../packages/server/bin/sealaned.js', import.meta.url)),
  sealane: fileURLToPath(new URL('../../packages/client/bin/sealane.js', import.meta.url)),
};
/** What is sent: a pattern whose length is no multiple of anything, so that bytes out of place show. */
const PATTERN = Buffer.from(Uint32Array.from({ length: 262_139 }, (_, i) => Math.imul(i + 1, 2_654_435_761)).buffer);
/** Of the times in /proc. */
const TICKS_PER_SECOND = 100;

/** @typedef {{ server: number, client: number, fetch: (bytes: number) => Promise<void>, close: () => Promise<void> }} Lab */

/**
 * A server, a client's SOCKS5 proxy, and behind the server an origin that sends what `fetch` asks for.
 * @param {{ nodeOptions?: readonly string[] }} [options]
 * @returns {Promise<Lab>}
 */
export async function openLab({ nodeOptions = [] } = {}) {
  const directory = mkdtempSync(join(tmpdir(), 'sealane-bench-'));
  const processes = new Processes();
  const origin = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.once('data', (line) => sendPattern(socket, Number(line.toString())));
  });
  origin.listen(0, '127.0.0.1');
  await once(origin, 'listening');
  const { port } = origin.address();
  const close = async () => {
    await processes.endAll();
    origin.close();
    rmSync(directory, { recursive: true, force: true });
  };
  /** @param {'sealane' | 'sealaned'} name @param {readonly string[]} args @param {readonly string[]} [options] */
  const start = (name, args, options = []) =>
    processes.command([process.execPath, ...options, BIN[name], ...args], name);
  try {
    const state = join(directory, 'server');
    const config = join(directory, 'bench.conf');
    const pool = '127.77.0.0/24';
    const endpoint = `127.0.0.1:${await freePort()}`;
    await processes.run(start('sealaned', ['init', '--state', state, '--endpoint', endpoint, '--pool', pool]));
    const routes = ['--allowed-ips', `${pool},127.0.0.1/32`];
    await processes.run(start('sealaned', ['peer', 'add', 'bench', '--state', state, '--out', config, ...routes]));
    const rule = ['--allow', `127.0.0.1/32:${port}`];
    const server = start('sealaned', ['run', '--state', state, '--userspace', '--json', ...rule], nodeOptions);
    await processes.line(server, (/** @type {string} */ line) => line.includes('"ready"') || undefined);
    const socks = join(directory, 'socks5.sock');
    const client = start('sealane', ['proxy', config, '--socks5', socks, '--name', 'bench'], nodeOptions);
    await Promise.race([untilUp(socks), client.done]);
    const fetch = (/** @type {number} */ bytes) => download(socks, port, bytes);
    return { server: server.child.pid ?? 0, client: client.child.pid ?? 0, fetch, close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Seconds of processor time that a process has used. @param {number} pid */
export function cpuSeconds(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

/** Resident megabytes of a process. @param {number} pid */
export function residentMegabytes(pid) {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1000;
}

/** @param {import('node:net').Socket} socket @param {number} bytes */
function sendPattern(socket, bytes) {
  let left = bytes;
  const pump = () => {
    while (left > 0) {
      const chunk = left < PATTERN.length ? PATTERN.subarray(0, left) : PATTERN;
      left -= chunk.length;
      if (!socket.write(chunk)) return;
    }
    socket.end();
  };
  socket.on('drain', pump);
  pump();
}

/** Fetches through the proxy and compares every byte. @param {string} socks @param {number} port @param {number} bytes */
function download(socks, port, bytes) {
  return new Promise((/** @type {(value?: undefined) => void} */ resolve, reject) => {
    let head = 12;
    let received = 0;
    const buffer = Buffer.alloc(1 << 18);
    const socket = connect({ path: socks, onread: { buffer, callback: (count) => take(count) } });
    // RFC 1928: no authentication; CONNECT to 127.0.0.1. Then how much to send.
    socket.write(Uint8Array.of(5, 1, 0, 5, 1, 0, 1, 127, 0, 0, 1, port >> 8, port & 0xff));
    socket.write(String(bytes));
    const take = (/** @type {number} */ count) => {
      const skipped = Math.min(head, count);
      head -= skipped;
      if (skipped > 3 && buffer[skipped - 12 + 3] !== 0) socket.destroy(new Error('the proxy refused'));
      for (let at = skipped; at < count;) {
        const expected = received % PATTERN.length;
        const length = Math.min(count - at, PATTERN.length - expected);
        if (buffer.compare(PATTERN, expected, expected + length, at, at + length) !== 0)
          socket.destroy(new Error(`bytes differ at ${received}`));
        received += length;
        at += length;
      }
      return true;
    };
    socket.once('error', reject);
    socket.once('close', () => (received === bytes ? resolve() : reject(new Error(`${received} of ${bytes} bytes`))));
  });
}

/** @param {string} path */
async function untilUp(path) {
  for (;;) {
    const socket = connect({ path });
    try {
      await once(socket, 'connect');
      socket.destroy();
      return;
    } catch {
      await sleep(50);
    }
  }
}

/** A UDP port that was free a moment ago. */
async function freePort() {
  const socket = createSocket('udp4');
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  const { port } = socket.address();
  socket.close();
  return port;
}
