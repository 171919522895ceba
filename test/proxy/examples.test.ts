/** The examples, run as they are: by an unprivileged process. */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import * as http from 'node:http';
import { createServer, type AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { missingPrograms, RootlessWorld } from './rootless.ts';

const lacking = missingPrograms();
const example = (name: string): string => fileURLToPath(new URL(`../../examples/${name}.mjs`, import.meta.url));

let world: RootlessWorld;
let web: http.Server;
let webPort: number;

beforeAll(async () => {
  if (lacking !== undefined) return;
  web = http.createServer((request, response) => response.end(`page ${request.url}\n`)).listen(0, '127.0.0.1');
  await once(web, 'listening');
  webPort = (web.address() as AddressInfo).port;
  world = await RootlessWorld.open();
});
afterAll(async () => {
  await world?.[Symbol.asyncDispose]();
  web?.closeAllConnections();
  web?.close();
});

describe.skipIf(lacking !== undefined)(`the example (${lacking ?? 'runs without privileges'})`, () => {
  it('fetch gets pages with node:http', async () => {
    const result = await world.run(example('fetch'), [
      world.config,
      `http://127.0.0.1:${webPort}/a`,
      `http://127.0.0.1:${webPort}/b`,
    ]);
    expect([result.code, result.stdout]).toEqual([0, 'page /a\npage /b\n']);
    expect(result.stderr).toMatch(/^session after [\d.]+ ms\n$/);
  });

  it('undici gets a page', async () => {
    const result = await world.run(example('undici'), [world.config, `http://127.0.0.1:${webPort}/u`]);
    expect(result).toEqual({ code: 0, stdout: '200 page /u\n\n', stderr: '' });
  });

  it('sockets talks TCP and UDP', async () => {
    const tcp = createServer((socket) => socket.pipe(socket)).listen(0, '127.0.0.1');
    const udp = createSocket('udp4');
    udp.on('message', (message, from) => udp.send(message, from.port, from.address));
    udp.bind(0, '127.0.0.1');
    await Promise.all([once(tcp, 'listening'), once(udp, 'listening')]);
    const ports = [(tcp.address() as AddressInfo).port, udp.address().port];
    const result = await world.run(example('sockets'), [world.config, '127.0.0.1', ...ports.map(String)]);
    tcp.close();
    udp.close();
    const expected = `hello over TCP\nhello over UDP\nfrom 127.0.0.1:${ports[1]}\n`;
    expect(result).toEqual({ code: 0, stdout: expected, stderr: '' });
  });

  it('serve runs two tunnels in one process', async () => {
    const result = await world.run(example('serve'), []);
    expect(result).toEqual({ code: 0, stdout: 'hello 127.88.0.2\n', stderr: '' });
  });
});
