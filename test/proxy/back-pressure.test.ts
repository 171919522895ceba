/** A reader that takes nothing stops the writer at the other end, and nothing between them fills up meanwhile. */
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { until } from '../support/lab.ts';
import { missingPrograms, RootlessWorld } from './rootless.ts';

const lacking = missingPrograms();
const MEBIBYTE = 2 ** 20;
const CHUNK = Buffer.alloc(65_536, 7);

let closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.toReversed()) await close();
  closers = [];
});

/** Writes for ever, as fast as it is let. */
function flood(socket: Socket): void {
  const write = (): void => {
    while (!socket.destroyed && socket.write(CHUNK));
  };
  socket.on('drain', write);
  write();
}

/** Resolves once `read` gives the same twice, half a second apart. */
async function settled(what: string, read: () => number): Promise<number> {
  let before = -1;
  await until(what, async () => {
    const now = read();
    const isSame = now === before && now > 0;
    before = now;
    await new Promise((resolve) => setTimeout(resolve, 500));
    return isSame;
  });
  return before;
}

describe.skipIf(lacking !== undefined)(`back-pressure (${lacking ?? 'through both processes'})`, () => {
  it.each([
    ['SOCKS5', '--socks5', (port: number) => Buffer.from([5, 1, 0, 5, 1, 0, 1, 127, 0, 0, 1, port >> 8, port & 255])],
    ['HTTP', '--http', (port: number) => Buffer.from(`CONNECT 127.0.0.1:${port} HTTP/1.1\r\nHost: x\r\n\r\n`)],
  ] as const)('reaches the far end of %s, in both directions', async (name, option, request) => {
    const accepted: Socket[] = [];
    const server = createServer((socket) => {
      socket.on('error', () => undefined).pause();
      accepted.push(socket);
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    closers.push(() => {
      server.close();
      for (const socket of accepted) socket.destroy();
    });
    await using world = await RootlessWorld.open();
    const proxy = await world.proxy(option, '0');
    const port = Number(new RegExp(`${name} on 127\\.0\\.0\\.1:(\\d+)`).exec(proxy.stderr)![1]);
    const client = connect(port, '127.0.0.1');
    closers.push(() => client.destroy());
    client.on('error', () => undefined);
    await once(client, 'connect');
    client.write(request((server.address() as AddressInfo).port));
    await until('the far end to be reached', () => accepted.length === 1);
    const far = accepted[0]!;
    const before = [proxy, world.server].map((process) => process.residentBytes());

    flood(far);
    flood(client);
    const sent = [
      await settled('the far end to be held back', () => far.bytesWritten - far.writableLength),
      await settled('the client to be held back', () => client.bytesWritten - client.writableLength),
    ];
    // Buffers of sockets on two legs and windows on the third.
    for (const bytes of sent) expect(bytes).toBeLessThan(48 * MEBIBYTE);
    for (const [i, process] of [proxy, world.server].entries())
      expect(process.residentBytes() - before[i]!).toBeLessThan(96 * MEBIBYTE);

    const more = sent.map((bytes) => bytes + 16 * MEBIBYTE);
    client.resume();
    far.resume();
    await until('both to go on', () => far.bytesWritten > more[0]! && client.bytesWritten > more[1]!, 40_000);
  });
});
