/** What one peer can make the userspace server hold, measured at the server's process, and that the others are served. */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import * as http from 'node:http';
import { createServer, type AddressInfo, type Server } from 'node:net';
import {
  openConnection,
  openTunnel,
  parseConfig,
  type StreamSocket,
  type TunnelConfig,
  type UserspaceTunnel,
} from '@sealane/tunnel';
import { afterEach, describe, expect, it } from 'vitest';
import { until } from '../support/lab.ts';
import { missingPrograms, RootlessWorld } from './rootless.ts';

const lacking = missingPrograms();
const MEBIBYTE = 2 ** 20;
const CONNECTIONS = 1_200;

let closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.toReversed()) await close();
  closers = [];
});

/** The file belongs to another user. */
function configAt(path: string): TunnelConfig {
  return parseConfig(readFileSync(path, 'utf8'), path);
}

async function listening<T extends Server>(server: T, host = '127.0.0.1'): Promise<number> {
  server.listen(0, host);
  await once(server, 'listening');
  closers.push(() => server.close());
  return (server.address() as AddressInfo).port;
}

/** Connects as often as the server lets it; resolves to the sockets that stand. */
async function connectMany(tunnel: UserspaceTunnel, port: number): Promise<readonly StreamSocket[]> {
  // The first one has the time that a session takes.
  const first = await openConnection(tunnel.network, { host: '127.0.0.1', port });
  const sockets: StreamSocket[] = [first.on('error', () => undefined)];
  let before = 0;
  while (sockets.length > before && sockets.length < CONNECTIONS) {
    before = sockets.length;
    const tries = Array.from({ length: 100 }, () =>
      openConnection(tunnel.network, { host: '127.0.0.1', port, timeoutMs: 2_000 }).then(
        (socket) => sockets.push(socket.on('error', () => undefined)),
        () => undefined,
      ),
    );
    await Promise.all(tries);
  }
  return sockets;
}

async function fetchPage(tunnel: UserspaceTunnel, port: number): Promise<string> {
  const agent = tunnel.agent({ keepAlive: false });
  const [response] = (await once(http.get({ agent, host: '127.0.0.1', port }), 'response')) as [http.IncomingMessage];
  let text = '';
  for await (const chunk of response) text += String(chunk);
  return text;
}

describe.skipIf(lacking !== undefined)(`a limit (${lacking ?? 'of a server without privileges'})`, () => {
  it(
    'is for a peer, not for each of its addresses, also for one that was added later',
    { timeout: 120_000 },
    async () => {
      await using world = await RootlessWorld.open({
        pool: '127.77.0.0/24,fd77::/64',
        allowedIps: '127.0.0.0/8,::1/128',
        run: ['--allow', '127.0.0.1/32', '--allow', '::1/128', '--limit', 'connections=3'],
      });
      const [four, six] = [
        createServer((socket) => void socket.resume()),
        createServer((socket) => void socket.resume()),
      ];
      const to4 = { host: '127.0.0.1', port: await listening(four) };
      const to6 = { host: '::1', port: await listening(six, '::1') };
      for (const config of [world.config, await world.addPeer('bob')]) {
        const tunnel = await openTunnel(configAt(config));
        closers.push(() => tunnel.close());
        for (const where of [to4, to6, to4]) await openConnection(tunnel.network, where);
        for (const where of [to4, to6]) {
          const refused = openConnection(tunnel.network, { ...where, timeoutMs: 2_000 });
          await expect(refused).rejects.toMatchObject({ code: 'ETIMEDOUT' });
        }
      }
    },
  );
});

describe.skipIf(lacking !== undefined)(`flows (${lacking ?? 'of a server without privileges'})`, () => {
  it('counts the UDP flows of a peer, and others have theirs', { timeout: 120_000 }, async () => {
    await using world = await RootlessWorld.open({ run: ['--allow', '127.0.0.1/32', '--limit', 'flows=3'] });
    const far = createSocket('udp4');
    far.on('message', (data, { port, address }) => far.send(data, port, address)).bind(0, '127.0.0.1');
    await once(far, 'listening');
    closers.push(() => far.close());
    const { port } = far.address();
    const heard = new Set<string>();
    const open = (tunnel: UserspaceTunnel, name: string): ReturnType<UserspaceTunnel['createSocket']> =>
      tunnel
        .createSocket('udp4')
        .on('message', (data) => heard.add(`${name} ${String(data)}`))
        .on('error', () => undefined);
    const [greedy, modest] = await Promise.all(
      [world.config, await world.addPeer('modest')].map((config) => openTunnel(configAt(config))),
    );
    for (const tunnel of [greedy!, modest!]) closers.push(() => tunnel.close());
    const sockets = Array.from({ length: 6 }, (_, i) => open(greedy!, `greedy ${i}`));
    // One after another, so that the first three are the ones.
    for (const [i, socket] of sockets.slice(0, 3).entries()) {
      socket.send('1', port, '127.0.0.1');
      await until(`an answer to ${i}`, () => heard.has(`greedy ${i} 1`));
    }
    for (const socket of sockets.slice(3)) socket.send('1', port, '127.0.0.1');
    sockets[0]!.send('2', port, '127.0.0.1');
    open(modest!, 'modest').send('1', port, '127.0.0.1');
    await until('the last answers', () => heard.has('greedy 0 2') && heard.has('modest 1'));
    expect([...heard].toSorted()).toEqual(['greedy 0 1', 'greedy 0 2', 'greedy 1 1', 'greedy 2 1', 'modest 1']);
  });
});

describe.skipIf(lacking !== undefined)(`a greedy peer (${lacking ?? 'of a server without privileges'})`, () => {
  it.each([
    ['reads nothing of what it asks for', 'download'],
    ['sends to those who read nothing', 'upload'],
  ])(
    'that %s costs a bounded amount of memory, and others are served',
    { timeout: 240_000 },
    async (_what, direction) => {
      await using world = await RootlessWorld.open({
        run: ['--allow', '127.0.0.0/8', '--limit', 'memory=16M', '--limit', 'connections=1000'],
      });
      const web = http.createServer((_request, response) => response.end('a page'));
      const webPort = await listening(web);
      const isDownload = direction === 'download';
      const open = new Set<{ destroy(): void }>();
      const endless = createServer((socket) => {
        open.add(socket);
        socket.on('error', () => undefined).on('close', () => open.delete(socket));
        const chunk = Buffer.alloc(65_536);
        const write = (): void => {
          while (!socket.destroyed && socket.write(chunk));
        };
        if (isDownload) {
          socket.on('drain', write);
          write();
        } else {
          socket.pause();
        }
      });
      const port = await listening(endless);
      closers.push(() => {
        for (const socket of open) socket.destroy();
      });
      const modest = await openTunnel(configAt(await world.addPeer('modest')));
      closers.push(() => modest.close());
      expect(await fetchPage(modest, webPort)).toBe('a page');

      const before = world.server.residentBytes();
      const greedy = await openTunnel(configAt(world.config));
      closers.push(() => greedy.close());
      const sockets = await connectMany(greedy, port);
      if (!isDownload) for (const socket of sockets) socket.write(Buffer.alloc(2 * MEBIBYTE));
      expect(sockets.length).toBeGreaterThan(20);
      expect(sockets.length).toBeLessThanOrEqual(1_000);
      let last = -1;
      await until(
        'memory to settle',
        async () => {
          const now = world.server.residentBytes();
          const isSettled = Math.abs(now - last) < MEBIBYTE;
          last = now;
          await new Promise((resolve) => setTimeout(resolve, 500));
          return isSettled;
        },
        90_000,
      );
      const held = world.server.residentBytes() - before;
      // 16 MiB of streams, and of each connection what Node's own streams hold.
      expect(held).toBeLessThan(16 * MEBIBYTE + sockets.length * 160_000 + 64 * MEBIBYTE);
      expect(await fetchPage(modest, webPort)).toBe('a page');
      await greedy.close();
      expect(await fetchPage(modest, webPort)).toBe('a page');
    },
  );
});
