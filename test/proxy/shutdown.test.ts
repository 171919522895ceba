/** `sealane proxy` ends when it is told to, whatever its connections are waiting for. */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { until } from '../support/lab.ts';
import { missingPrograms, type Process, RootlessWorld } from './rootless.ts';

const lacking = missingPrograms();

let closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.toReversed()) await close();
  closers = [];
});

/** A server whose connections do nothing but what `listener` does. */
async function serve(listener: (socket: Socket) => void): Promise<number> {
  const open = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    open.add(socket);
    socket.on('error', () => undefined).on('close', () => open.delete(socket));
    listener(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  closers.push(() => {
    server.close();
    for (const socket of open) socket.destroy();
  });
  return (server.address() as AddressInfo).port;
}

/** Sends without end, as fast as it is taken. */
function pour(socket: Socket): void {
  socket.on('drain', () => socket.write(Buffer.alloc(65_536)));
  while (socket.write(Buffer.alloc(65_536)));
}

/** `--stdio` whose standard output is full, as nobody reads it. */
async function floodedStdio(world: RootlessWorld): Promise<Process> {
  const stdio = world.stdio(`127.0.0.1:${await serve(pour)}`);
  stdio.child.stdout!.pause();
  await once(stdio.child.stdout!, 'readable');
  return stdio;
}

/** A client that says `bytes` and reads nothing, unless it is told to wait for an answer. */
async function client(where: number | string, bytes: Uint8Array | string, waits = false): Promise<Socket> {
  const socket = connect(
    typeof where === 'string' ? { path: where } : { port: where, host: '127.0.0.1', allowHalfOpen: true },
  );
  closers.push(() => socket.destroy());
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  if (bytes.length > 0) socket.write(bytes);
  if (waits) await once(socket, 'readable');
  return socket;
}

function portOf(process: Process, pattern: RegExp): number {
  return Number(pattern.exec(process.stderr)![1]);
}

const socksTo = (port: number, command = 1): Uint8Array =>
  Uint8Array.of(5, 1, 0, 5, command, 0, 1, 127, 0, 0, 1, port >> 8, port & 255);
const connectTo = (port: number): string => `CONNECT 127.0.0.1:${port} HTTP/1.1\r\nHost: x\r\n\r\n`;
const getFrom = (port: number): string => `GET http://127.0.0.1:${port}/ HTTP/1.1\r\nHost: x\r\n\r\n`;

/** Brings connections into every state that they can have, then stops the server so that new ones wait for ever. */
async function occupy(world: RootlessWorld): Promise<Process> {
  const silent = await serve((socket) => socket.resume());
  const flood = await serve(pour);
  const unread = await serve((socket) => socket.pause());
  const half = await serve((socket) => socket.end());
  const page = await serve((socket) =>
    socket.once('data', () => socket.write('HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx')),
  );
  const path = join(world.folder, 'forward.sock');
  const to = `127.0.0.1:${silent}`;
  const local = [`0:${to}`, `${path}:${to}`, `0:${to}/udp`].flatMap((forward) => ['-L', forward]);
  const remote = [`80:${to}`, `53:${to}/udp`].flatMap((forward) => ['-R', forward]);
  const proxy = await world.proxy('--socks5', '0', '--http', '0', ...local, ...remote);
  const socks = portOf(proxy, /SOCKS5 on 127\.0\.0\.1:(\d+)/);
  const http = portOf(proxy, /HTTP on 127\.0\.0\.1:(\d+)/);
  const forward = portOf(proxy, /127\.0\.0\.1:(\d+) to /);
  await client(socks, '');
  await client(socks, Uint8Array.of(5));
  await client(http, 'GET http://x');
  for (const port of [silent, flood, half]) {
    await client(socks, socksTo(port), true);
    await client(http, connectTo(port), true);
  }
  const sender = await client(socks, socksTo(unread), true);
  sender.write(Buffer.alloc(2 ** 24));
  // Kept alive and idle; and one whose answer never comes.
  await client(http, getFrom(page), true);
  await client(http, getFrom(silent));
  await client(socks, socksTo(0, 3), true);
  await client(forward, 'x');
  await client(path, 'x');
  const datagrams = createSocket('udp4');
  datagrams.send('x', portOf(proxy, /127\.0\.0\.1:(\d+)\/udp/), '127.0.0.1');
  closers.push(() => datagrams.close());
  await until('the flood to fill all buffers', () => sender.writableLength > 0);
  world.server.child.kill('SIGSTOP');
  closers.push(() => world.server.child.kill('SIGCONT'));
  await client(socks, socksTo(silent));
  await client(http, connectTo(silent));
  await client(http, getFrom(silent));
  await client(forward, 'x');
  return proxy;
}

describe.skipIf(lacking !== undefined)(`a proxy with connections in every state (${lacking ?? 'as a process'})`, () => {
  it.each(['SIGTERM', 'SIGINT'] as const)('ends on %s, with 0 and its sockets removed', async (signal) => {
    await using world = await RootlessWorld.open();
    const proxy = await occupy(world);
    expect(await proxy.stop(signal)).toBe(0);
    expect(existsSync(join(world.folder, 'forward.sock'))).toBe(false);
  });
});

describe.skipIf(lacking !== undefined)(`--stdio (${lacking ?? 'as a process'})`, () => {
  it('ends on SIGTERM while its reader takes nothing and its input stays open', async () => {
    await using world = await RootlessWorld.open();
    const stdio = await floodedStdio(world);
    expect(await stdio.stop()).toBe(0);
  });

  it('ends when its reader goes away', async () => {
    await using world = await RootlessWorld.open();
    const stdio = await floodedStdio(world);
    stdio.child.stdout!.destroy();
    expect(await stdio.exit).toBeLessThan(128);
  });
});
