/**
 * A client that begins a request and falls silent, wherever it stops. It never ends the connection itself: only the listener's
 * own timer can. The same clients at a listener that allows a minute show that it is this timer.
 */
import { once } from 'node:events';
import * as net from 'node:net';
import { buffer } from 'node:stream/consumers';
import { hostNetwork } from '@sealane/tunnel';
import { afterEach, expect, it } from 'vitest';
import { until } from '../../../../test/support/lab.ts';
import { parseListen } from '../../src/proxy/address.ts';
import { Credentials } from '../../src/proxy/credentials.ts';
import { openProxy } from '../../src/proxy/open-proxy.ts';

let closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.toReversed()) await close();
  closers = [];
});

async function start(kind: 'socks5' | 'http', handshakeMs: number): Promise<number> {
  const credentials = new Credentials();
  credentials.add('ann', 'secret');
  const plan = {
    [kind]: [parseListen('0', `--${kind}`)],
    limits: { handshakeMs },
    ...(kind === 'socks5' && { credentials }),
  };
  const proxy = await openProxy(plan, hostNetwork);
  closers.push(() => proxy.close());
  return Number(/:(\d+)$/.exec(proxy.listening[0]!)![1]);
}

/** Says `bytes` and nothing more; whatever comes back is taken. */
async function stall(port: number, bytes: Uint8Array): Promise<net.Socket> {
  const socket = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  closers.push(() => socket.destroy());
  socket.on('error', () => undefined).resume();
  await once(socket, 'connect');
  if (bytes.length > 0) socket.write(bytes);
  return socket;
}

/** The listener has ended the connection, by a FIN or a reset. */
function isOver(socket: net.Socket): boolean {
  return socket.readableEnded || socket.destroyed;
}

/** `once` would take a reset for a failure of the test. */
function over(socket: net.Socket): Promise<unknown> {
  return new Promise((resolve) => {
    if (isOver(socket)) resolve(undefined);
    socket.once('end', resolve).once('close', resolve);
  });
}

const SOCKS5 = Uint8Array.of(
  5,
  1,
  2,
  1,
  3,
  ...Buffer.from('ann'),
  6,
  ...Buffer.from('secret'),
  5,
  1,
  0,
  1,
  127,
  0,
  0,
  1,
  0,
);
const HTTP = Buffer.from('CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: 127.0.0.1:1\r\nProxy-Connection: keep-alive\r\n\r');

it.each([
  ['socks5', SOCKS5],
  ['http', HTTP],
] as const)(
  '%s: a client that stalls after any byte of its request is let go when its time is over',
  async (kind, request) => {
    const [short, long] = [await start(kind, 300), await start(kind, 60_000)];
    const stops = Array.from({ length: request.length + 1 }, (_, i) => i);
    const patient = await Promise.all(stops.map((length) => stall(long, request.subarray(0, length))));
    const cut = await Promise.all(stops.map((length) => stall(short, request.subarray(0, length))));
    await Promise.all(cut.map(over));
    expect(patient.filter(isOver)).toEqual([]);

    // And the next one is served.
    const echo = net.createServer((socket) => socket.on('error', () => undefined).pipe(socket)).listen(0, '127.0.0.1');
    await once(echo, 'listening');
    closers.push(() => echo.close());
    const { port } = echo.address() as net.AddressInfo;
    const hello =
      kind === 'socks5' ? SOCKS5.subarray(0, -1) : Buffer.from(`CONNECT 127.0.0.1:${port} HTTP/1.1\r\n\r\n`);
    await until('the next one to be served', async () => {
      const client = net.connect({ port: short, host: '127.0.0.1', allowHalfOpen: true });
      client.write(kind === 'socks5' ? Uint8Array.of(...hello, port >> 8, port & 255) : hello);
      client.end('hello');
      // On a slow machine its own time may be over, too.
      return (await buffer(client).catch(() => '')).toString('latin1').endsWith('hello');
    });
  },
);
