import { once } from 'node:events';
import * as net from 'node:net';
import { Writable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseAddress as parseIpAddress } from '@sealane/netstack';
import { hostNetwork, openConnection, TunnelNetwork } from '@sealane/tunnel';
import type { NetworkStack, StreamServer, StreamSocket } from '@sealane/tunnel';
import { tcp } from '../../../netstack/test/support/packets.ts';
import { until } from '../../../../test/support/lab.ts';
import { Gate, LEFT, LEFT6, type Pair, RIGHT, RIGHT6, stackOf, stackPair } from '../support/stacks.ts';

let pair: Pair;
let gate: Gate;
beforeEach(() => {
  gate = new Gate();
  pair = stackPair(gate);
});
afterEach(() => pair.close());

async function listening(
  network: NetworkStack,
  listener: (socket: StreamSocket) => void,
  host?: string,
): Promise<{ server: StreamServer; port: number }> {
  const server = network.createServer({ allowHalfOpen: true }, listener);
  server.listen({ port: 0, ...(host !== undefined && { host }) });
  await once(server, 'listening');
  return { server, port: (server.address() as { port: number }).port };
}

/** The same behaviour on the computer's own network and through two stacks. */
const worlds: readonly (readonly [string, () => { client: NetworkStack; server: NetworkStack; host: string }])[] = [
  ['node:net', () => ({ client: hostNetwork, server: hostNetwork, host: '127.0.0.1' })],
  ['the stack', () => ({ client: pair.left, server: pair.right, host: RIGHT })],
];

describe.each(worlds)('a connection of %s', (_name, world) => {
  it('tells both addresses and counts bytes', async () => {
    const { client, server, host } = world();
    const far = await listening(server, (socket) => socket.end('hello'));
    const socket = client.connect({ host, port: far.port });
    expect(socket.connecting).toBe(true);
    await once(socket, 'connect');
    expect(socket.connecting).toBe(false);
    expect(socket.remoteAddress).toBe(host);
    expect(socket.remotePort).toBe(far.port);
    expect(socket.localPort).toBeGreaterThan(0);
    socket.write('abc');
    expect((await buffer(socket)).toString()).toBe('hello');
    expect(socket.bytesRead).toBe(5);
    expect(socket.bytesWritten).toBe(3);
    far.server.close();
  });

  it('is refused with ECONNREFUSED, the address and the port', async () => {
    const { client, server, host } = world();
    const far = await listening(server, () => undefined);
    far.server.close();
    await once(far.server, 'close');
    const error = await openConnection(client, { host, port: far.port }).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: 'ECONNREFUSED', syscall: 'connect', address: host, port: far.port });
    expect((error as Error).message).toBe(`connect ECONNREFUSED ${host}:${far.port}`);
  });

  it('carries each direction to its own end', async () => {
    const { client, server, host } = world();
    const far = await listening(server, (socket) => {
      let received = 0;
      socket.on('data', (chunk: Uint8Array) => (received += chunk.length));
      socket.once('end', () => socket.end(`got ${received}`));
    });
    const socket = client.connect({ host, port: far.port, allowHalfOpen: true });
    socket.write(Buffer.alloc(100_000));
    socket.end(Buffer.alloc(23));
    expect((await buffer(socket)).toString()).toBe('got 100023');
    far.server.close();
  });

  it('ends by itself when the far side ends, unless it may stay half open', async () => {
    const { client, server, host } = world();
    const far = await listening(server, (socket) => {
      socket.end();
      socket.resume();
    });
    const socket = client.connect({ host, port: far.port });
    socket.resume();
    await once(socket, 'close');
    expect(socket.writableFinished).toBe(true);
    far.server.close();
  });

  it('delivers what was written before destroy', async () => {
    const { client, server, host } = world();
    const sent = randomBytes(60_000);
    const received = new Promise<Uint8Array>((resolve, reject) => {
      void listening(server, (socket) => void buffer(socket).then(resolve, reject)).then(async (far) => {
        const socket = await openConnection(client, { host, port: far.port });
        socket.write(sent, () => {
          socket.destroy();
          far.server.close();
        });
        return undefined;
      });
    });
    expect(Buffer.compare(await received, sent)).toBe(0);
  });

  it('resets the far side with resetAndDestroy', async () => {
    const { client, server, host } = world();
    const failed = new Promise<unknown>((resolve) => {
      void listening(server, (socket) => {
        socket.resume();
        socket.once('error', resolve);
      }).then(async (far) => {
        const socket = await openConnection(client, { host, port: far.port });
        socket.write('x');
        await sleep(20);
        socket.resetAndDestroy();
        far.server.close();
        return undefined;
      });
    });
    expect(await failed).toMatchObject({ code: 'ECONNRESET', syscall: 'read' });
  });

  it('resets the far side when received data was left unread', async () => {
    const { client, server, host } = world();
    const failed = new Promise<unknown>((resolve) => {
      void listening(server, (socket) => {
        socket.once('error', resolve);
        socket.resume();
        socket.write(Buffer.alloc(200_000));
      }).then(async (far) => {
        const socket = await openConnection(client, { host, port: far.port });
        await sleep(50);
        socket.destroy();
        far.server.close();
        return undefined;
      });
    });
    expect((await failed) as { code: string }).toHaveProperty('code', expect.stringMatching(/^(ECONNRESET|EPIPE)$/));
  });

  it('holds the writer back while nobody reads', async () => {
    const { client, server, host } = world();
    const accepted = new Promise<StreamSocket>((resolve) => {
      void listening(server, resolve).then(async (far) => {
        const socket = client.connect({ host, port: far.port });
        socket.on('error', () => undefined);
        await once(socket, 'connect');
        const chunk = Buffer.alloc(65_536);
        let written = 0;
        const push = (): void => {
          while (socket.write(chunk)) written += chunk.length;
          written += chunk.length;
          if (written < 2 ** 26) socket.once('drain', push);
          else socket.end();
        };
        push();
        far.server.close();
        return undefined;
      });
    });
    const socket = await accepted;
    await sleep(200);
    expect(socket.bytesRead).toBeLessThan(2 ** 25);
    let total = 0;
    for await (const chunk of socket) total += (chunk as Uint8Array).length;
    expect(total).toBeGreaterThanOrEqual(2 ** 26);
  });

  it('emits timeout when nothing happens and stays open', async () => {
    const { client, server, host } = world();
    const far = await listening(server, (socket) => socket.resume());
    const socket = await openConnection(client, { host, port: far.port });
    socket.setTimeout(30);
    await once(socket, 'timeout');
    expect(socket.destroyed).toBe(false);
    socket.setTimeout(0);
    socket.destroy();
    far.server.close();
  });

  it('refuses a port in use with EADDRINUSE', async () => {
    const { server } = world();
    const far = await listening(server, () => undefined);
    const second = server.createServer({});
    second.listen({ port: far.port });
    const [error] = (await once(second, 'error')) as unknown[];
    expect(error).toMatchObject({ code: 'EADDRINUSE' });
    far.server.close();
  });

  it('closes a server only when its connections are over', async () => {
    const { client, server, host } = world();
    const far = await listening(server, (socket) => {
      socket.resume();
      socket.once('end', () => socket.end());
    });
    const socket = await openConnection(client, { host, port: far.port });
    let isClosed = false;
    far.server.close(() => {
      isClosed = true;
    });
    await sleep(30);
    expect(isClosed).toBe(false);
    const closed = once(far.server, 'close');
    socket.resume();
    socket.end();
    await closed;
    expect(isClosed).toBe(true);
  });

  it('throws what a listener throws into the process, not into the network', async () => {
    const { client, server, host } = world();
    const far = await listening(server, (socket) => socket.end('x'));
    const socket = client.connect({ host, port: far.port });
    const listeners = process.listeners('uncaughtException');
    process.removeAllListeners('uncaughtException');
    const caught = new Promise<unknown>((resolve) => process.once('uncaughtException', resolve));
    socket.once('data', () => {
      throw new Error('of a listener');
    });
    expect(await caught).toMatchObject({ message: 'of a listener' });
    for (const listener of listeners) process.on('uncaughtException', listener);
    socket.destroy();
    const next = await openConnection(client, { host, port: far.port });
    expect((await buffer(next)).toString()).toBe('x');
    far.server.close();
  });

  it('exchanges datagrams', async () => {
    const { client, server, host } = world();
    const echo = server.createSocket('udp4');
    echo.bind(0, host);
    await once(echo, 'listening');
    echo.on('message', (message: Uint8Array, from: { address: string; port: number }) => {
      echo.send(Buffer.concat([Buffer.from('re: '), message]), from.port, from.address);
    });
    const socket = client.createSocket('udp4');
    const answered = once(socket, 'message') as Promise<[Uint8Array, { address: string; port: number; size: number }]>;
    socket.send(Buffer.from('hi'), echo.address().port, host);
    const [message, from] = await answered;
    expect(Buffer.from(message).toString()).toBe('re: hi');
    expect(from).toMatchObject({ address: host, port: echo.address().port, family: 'IPv4', size: 6 });
    socket.close();
    echo.close();
  });
});

describe.each(worlds)('a connected UDP socket of %s', (_name, world) => {
  it('speaks to its destination alone, by an address', async () => {
    const { client, server, host } = world();
    const [far, stranger] = [server.createSocket('udp4'), server.createSocket('udp4')];
    for (const socket of [far, stranger]) {
      socket.bind(0, host);
      await once(socket, 'listening');
    }
    const socket = client.createSocket('udp4');
    expect(() => socket.remoteAddress()).toThrow(expect.objectContaining({ code: 'ERR_SOCKET_DGRAM_NOT_CONNECTED' }));
    const { port } = far.address();
    socket.connect(port, host);
    await once(socket, 'connect');
    expect(socket.remoteAddress()).toMatchObject({ address: host, port, family: 'IPv4' });
    const again = (): void => socket.connect(port, host);
    expect(again).toThrow(expect.objectContaining({ code: 'ERR_SOCKET_DGRAM_IS_CONNECTED' }));
    const asked = once(far, 'message') as Promise<[Uint8Array, { address: string; port: number }]>;
    await new Promise<void>((resolve, reject) => {
      socket.send(Buffer.from('question'), (error) => (error === null ? resolve() : reject(error)));
    });
    const [question, from] = await asked;
    expect(Buffer.from(question).toString()).toBe('question');
    const heard: string[] = [];
    socket.on('message', (message: Uint8Array) => heard.push(Buffer.from(message).toString()));
    stranger.send(Buffer.from('spoofed'), from.port, from.address);
    await sleep(50);
    far.send(Buffer.from('answer'), from.port, from.address);
    await expect.poll(() => heard).toEqual(['answer']);
    socket.disconnect();
    expect(() => socket.remoteAddress()).toThrow(expect.objectContaining({ code: 'ERR_SOCKET_DGRAM_NOT_CONNECTED' }));
    for (const open of [socket, far, stranger]) open.close();
  });

  it('hears that a port is closed, and one that is not connected does not', async () => {
    const { client, server, host } = world();
    const gone = server.createSocket('udp4');
    gone.bind(0, host);
    await once(gone, 'listening');
    const { port } = gone.address();
    gone.close();
    await once(gone, 'close');
    const deaf = client.createSocket('udp4');
    const errors: unknown[] = [];
    deaf.on('error', (error) => errors.push(error));
    deaf.send(Buffer.from('x'), port, host);
    const socket = client.createSocket('udp4');
    socket.connect(port, host);
    await once(socket, 'connect');
    socket.send(Buffer.from('x'));
    const [error] = (await once(socket, 'error')) as unknown[];
    expect(error).toMatchObject({ code: 'ECONNREFUSED', syscall: 'recvmsg' });
    expect(errors).toEqual([]);
    socket.close();
    deaf.close();
  });
});

describe('a stack', () => {
  it('carries IPv6', async () => {
    const far = await listening(pair.right, (socket) => socket.end(socket.remoteAddress), RIGHT6);
    const socket = await openConnection(pair.left, { host: RIGHT6, port: far.port });
    expect((await buffer(socket)).toString()).toBe(LEFT6);
    expect(net.isIPv6(socket.localAddress ?? '')).toBe(true);
  });

  it('carries 50 connections at once, each with its own bytes', async () => {
    const far = await listening(pair.right, (socket) => socket.pipe(socket));
    await Promise.all(
      Array.from({ length: 50 }, async () => {
        const sent = randomBytes(200_000);
        const socket = pair.left.connect({ host: RIGHT, port: far.port, allowHalfOpen: true });
        socket.end(sent);
        expect(Buffer.compare(await buffer(socket), sent)).toBe(0);
      }),
    );
  });

  /** A connection whose far side sends so much and resets, before anybody here reads. */
  async function resetBehind(sent: Uint8Array): Promise<StreamSocket> {
    const far = await listening(pair.right, (socket) => {
      socket.on('error', () => undefined);
      socket.write(sent);
      void until(
        'it to have all',
        () => socket.bytesWritten === sent.length && statuses().right.bufferBytes === 0,
      ).then(() => socket.resetAndDestroy());
    });
    const socket = pair.left.connect({ host: RIGHT, port: far.port });
    socket.pause();
    await once(socket, 'connect');
    await until('the reset to come', () => {
      const { left, right } = statuses();
      return right.connections === 0 && left.timers === 0;
    });
    far.server.close();
    return socket;
  }

  const statuses = (): Record<'left' | 'right', ReturnType<typeof pair.leftDevice.stack.status>> => ({
    left: pair.leftDevice.stack.status(),
    right: pair.rightDevice.stack.status(),
  });

  const readers: readonly (readonly [string, (socket: StreamSocket, onBytes: (bytes: Uint8Array) => void) => void])[] =
    [
      ["'data'", (socket, onBytes) => void socket.on('data', onBytes).resume()],
      ['pipe', (socket, onBytes) => void socket.pipe(slowly(onBytes))],
      [
        'for await',
        async (socket, onBytes) => {
          try {
            for await (const bytes of socket) {
              onBytes(bytes as Uint8Array);
              await sleep(1);
            }
          } catch {
            // 'error' tells the same.
          }
        },
      ],
      [
        'single reads',
        (socket, onBytes) => {
          const timer = setInterval(() => {
            const bytes = socket.read(1) as Uint8Array | null;
            const rest = socket.read() as Uint8Array | null;
            if (bytes !== null) onBytes(bytes);
            if (rest !== null) onBytes(rest);
          }, 2);
          socket.once('close', () => clearInterval(timer));
        },
      ],
    ];

  function slowly(onBytes: (bytes: Uint8Array) => void): Writable {
    return new Writable({
      highWaterMark: 1,
      write: (bytes: Uint8Array, _encoding, done) => {
        onBytes(bytes);
        setTimeout(done, 1);
      },
    });
  }

  for (const length of [10, 10_240, 120_000]) {
    it.each(readers)(`lets %s have the ${length} bytes before a reset, then tells of it`, async (_name, read) => {
      const sent = randomBytes(length);
      const socket = await resetBehind(sent);
      const received: Uint8Array[] = [];
      let ended = false;
      socket.once('end', () => (ended = true));
      const failed = new Promise<Error>((resolve) => {
        socket.once('error', resolve);
      });
      read(socket, (bytes) => received.push(Uint8Array.from(bytes)));
      expect(await failed).toMatchObject({ code: 'ECONNRESET', syscall: 'read' });
      expect(Buffer.compare(Buffer.concat(received), sent)).toBe(0);
      expect(ended).toBe(false);
      await until('its place to be free', () => statuses().left.connections === 0);
    });
  }

  it('tells of a reset at once whom nobody reads from', async () => {
    const far = await listening(pair.right, (socket) => {
      socket.on('error', () => undefined);
      socket.write('unread', () => socket.resetAndDestroy());
    });
    const socket = pair.left.connect({ host: RIGHT, port: far.port });
    const [error] = (await once(socket, 'error')) as unknown[];
    expect(error).toMatchObject({ code: 'ECONNRESET' });
    far.server.close();
  });

  it('resets the handshakes of a server that closes, and does not wait for those whose other side is gone', async () => {
    const { server, port } = await listening(pair.right, () => undefined);
    const [from, to] = [parseIpAddress(LEFT)!, parseIpAddress(RIGHT)!];
    const { leftDevice, rightDevice } = pair;
    // The host at the left knows nothing of it, and its reset is not let through.
    gate.shut();
    const syn = tcp({ from, fromPort: 1, to, toPort: port, seq: 1, flags: 's' });
    rightDevice.write(syn, 0, syn.length);
    await until('the handshake to begin', () => leftDevice.stack.status().packetsIn > 0);
    expect(rightDevice.stack.status().halfOpen).toBe(1);
    server.close();
    await once(server, 'close');
    await until('it to be gone', () => rightDevice.stack.status().connections === 0);
    await until('a reset', () => leftDevice.stack.status().packetsIn > 1);
  });

  it('has no network for a family without an address', async () => {
    const device = stackOf('v4', LEFT);
    const network = new TunnelNetwork(device, { families: [4] });
    const error = await openConnection(network, { host: RIGHT6, port: 80 }).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: 'ENETUNREACH', address: RIGHT6, port: 80 });
    await device.close();
  });

  it('refuses what is no port and no address', () => {
    expect(() => pair.left.connect({ host: RIGHT, port: 0 })).toThrow(RangeError);
    expect(() => pair.left.connect({ host: RIGHT, port: 1, localAddress: 'x' })).toThrow(TypeError);
    expect(() => pair.left.createSocket('udp4').send(Buffer.from('x'), 70_000, RIGHT)).toThrow(RangeError);
  });

  it('ends its sockets, servers and connection attempts when it closes', async () => {
    const accepted = new Promise<StreamSocket>((resolve) => {
      void listening(pair.right, resolve).then(async (far) => {
        const socket = await openConnection(pair.left, { host: RIGHT, port: far.port });
        sockets.push(socket);
        ended.push(once(socket, 'close'), once(far.server, 'close'));
        return undefined;
      });
    });
    const sockets: StreamSocket[] = [];
    const ended: Promise<unknown>[] = [];
    const server = await accepted;
    while (sockets.length === 0) await sleep(5);
    const datagrams = pair.left.createSocket('udp4').bind(0);
    await once(datagrams, 'listening');
    ended.push(once(server, 'close'), once(datagrams, 'close'));
    const failed = openConnection(pair.left, { host: '127.99.0.200', port: 1 }).catch((error: unknown) => error);
    await pair.close();
    await Promise.all(ended);
    expect(await failed).toMatchObject({ code: 'ECANCELED' });
    expect([sockets[0]!.destroyed, server.destroyed]).toEqual([true, true]);
  });
});
