import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import * as http from 'node:http';
import * as net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer, text } from 'node:stream/consumers';
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { SocksClient } from 'socks';
import { hostNetwork, type NetworkStack } from '@sealane/tunnel';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseListen, parseLocalForward, parseRemoteForward } from '../../src/proxy/address.ts';
import { Credentials, readCredentials } from '../../src/proxy/credentials.ts';
import { openProxy, type ProxyPlan } from '../../src/proxy/open-proxy.ts';

let folder: string;
let closers: (() => unknown)[];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'sealane-proxy-'));
  closers = [];
});
afterEach(async () => {
  for (const close of closers.toReversed()) await close();
  rmSync(folder, { recursive: true });
});

/** Opens a proxy into the computer's own network; resolves to the ports that it listens on. */
async function start(plan: ProxyPlan, network: NetworkStack = hostNetwork): Promise<number[]> {
  const proxy = await openProxy(plan, network);
  closers.push(() => proxy.close());
  return proxy.listening.map((line) => Number(/:(\d+)(?:\/udp)?(?: |$)/.exec(line)?.[1]));
}

async function serveTcp(listener: (socket: net.Socket) => void): Promise<number> {
  const server = net.createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => undefined);
    listener(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  closers.push(() => server.close());
  return (server.address() as net.AddressInfo).port;
}

async function serveHttp(listener: http.RequestListener): Promise<{ server: http.Server; port: number }> {
  const server = http.createServer(listener);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  closers.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return { server, port: (server.address() as net.AddressInfo).port };
}

async function freePort(): Promise<number> {
  const server = net.createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as net.AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

async function dialRaw(port: number, bytes: readonly (Uint8Array | string)[] = []): Promise<net.Socket> {
  const socket = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  for (const chunk of bytes) socket.write(chunk);
  closers.push(() => socket.destroy());
  return socket;
}

/** All bytes until the far side ends. */
function received(socket: net.Socket): Promise<Buffer> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    socket.on('data', (chunk: Buffer) => chunks.push(chunk));
    socket.once('close', () => resolve(Buffer.concat(chunks)));
    socket.once('end', () => resolve(Buffer.concat(chunks)));
  });
}

const HELLO = Uint8Array.of(5, 1, 0);
const port16 = (port: number): number[] => [port >> 8, port & 0xff];
const socksTo = (port: number): Uint8Array => Uint8Array.of(5, 1, 0, 1, 127, 0, 0, 1, ...port16(port));
const socks5 = [parseListen('0', '--socks5')];
const httpPort = [parseListen('0', '--http')];

function failing(code: string): NetworkStack {
  return {
    ...hostNetwork,
    connect: () => {
      const socket = new net.Socket();
      process.nextTick(() => socket.destroy(Object.assign(new Error(code), { code })));
      return socket;
    },
  };
}

describe('SOCKS5', () => {
  it('connects a client of the socks package by address and by name', async () => {
    const far = await serveTcp((socket) => socket.pipe(socket));
    const [port] = await start({ socks5 });
    for (const host of ['127.0.0.1', 'localhost']) {
      const { socket } = await SocksClient.createConnection({
        proxy: { host: '127.0.0.1', port: port!, type: 5 },
        command: 'connect',
        destination: { host, port: far },
      });
      const sent = randomBytes(2_000_000);
      socket.end(sent);
      expect(Buffer.compare(await buffer(socket), sent)).toBe(0);
    }
  });

  it('delivers data that the client sent right behind its request', async () => {
    const far = await serveTcp((socket) => socket.pipe(socket));
    const [port] = await start({ socks5 });
    const client = await dialRaw(port!, [Buffer.concat([HELLO, socksTo(far), Buffer.from('early data')])]);
    client.end();
    const answer = await received(client);
    expect(answer.subarray(0, 2)).toEqual(Buffer.from([5, 0]));
    expect(answer.subarray(2, 6)).toEqual(Buffer.from([5, 0, 0, 1]));
    expect(answer.subarray(12).toString()).toBe('early data');
  });

  it('takes a request byte by byte', async () => {
    const far = await serveTcp((socket) => socket.end('ok'));
    const [port] = await start({ socks5 });
    const client = await dialRaw(port!);
    client.setNoDelay(true);
    const done = received(client);
    for (const byte of [...HELLO, ...socksTo(far)]) {
      client.write(Uint8Array.of(byte));
      await sleep(2);
    }
    expect((await done).subarray(12).toString()).toBe('ok');
  });

  it.each([
    ['ECONNREFUSED', 5],
    ['ENETUNREACH', 3],
    ['EHOSTUNREACH', 4],
    ['ENOTFOUND', 4],
    ['ETIMEDOUT', 6],
    ['EACCES', 2],
    ['EPIPE', 1],
  ])('answers %s with reply %i', async (code, reply) => {
    const [port] = await start({ socks5 }, failing(code));
    const client = await dialRaw(port!, [HELLO, socksTo(80)]);
    expect([...(await received(client)).subarray(2, 4)]).toEqual([5, reply]);
  });

  it('says that a real port refuses', async () => {
    const [port] = await start({ socks5 });
    const refused = await dialRaw(port!, [HELLO, socksTo(await freePort())]);
    expect((await received(refused))[3]).toBe(5);
  });

  it('does not answer before the far side has, and gives up after the time-out', async () => {
    const silent: NetworkStack = { ...hostNetwork, connect: () => new net.Socket() };
    const [port] = await start({ socks5, limits: { connectMs: 150 } }, silent);
    const client = await dialRaw(port!, [HELLO, socksTo(80)]);
    let seen = 0;
    client.on('data', (chunk: Buffer) => (seen += chunk.length));
    await sleep(60);
    expect(seen).toBe(2);
    await once(client, 'end');
    expect(seen).toBe(12);
  });

  it('asks for the password that it was given', async () => {
    const credentials = new Credentials();
    credentials.add('ann', 'secret');
    const far = await serveTcp((socket) => socket.pipe(socket));
    const [port] = await start({ socks5, credentials });
    const connectAs = (userId: string, password: string): ReturnType<typeof SocksClient.createConnection> =>
      SocksClient.createConnection({
        proxy: { host: '127.0.0.1', port: port!, type: 5, userId, password },
        command: 'connect',
        destination: { host: '127.0.0.1', port: far },
      });
    const { socket } = await connectAs('ann', 'secret');
    socket.end('in');
    expect((await buffer(socket)).toString()).toBe('in');
    await expect(connectAs('ann', 'wrong')).rejects.toThrow(/auth/i);
    await expect(connectAs('bob', 'secret')).rejects.toThrow(/auth/i);
    const without = await dialRaw(port!, [HELLO]);
    expect([...(await received(without))]).toEqual([5, 0xff]);
  });

  it('refuses other commands and address types with their codes', async () => {
    const [port] = await start({ socks5 });
    const bind = await dialRaw(port!, [HELLO, Uint8Array.of(5, 2, 0, 1, 127, 0, 0, 1, 0, 80)]);
    expect((await received(bind))[3]).toBe(7);
    const type = await dialRaw(port!, [HELLO, Uint8Array.of(5, 1, 0, 9, 127, 0, 0, 1, 0, 80)]);
    expect((await received(type))[3]).toBe(8);
  });

  it('closes on garbage, on half a request and on silence', async () => {
    const [port] = await start({ socks5, limits: { handshakeMs: 100 } });
    for (const bytes of [randomBytes(500), Uint8Array.of(4, 1, 0, 80), Uint8Array.of(5), new Uint8Array(0)]) {
      const client = await dialRaw(port!, bytes.length === 0 ? [] : [bytes]);
      await received(client);
    }
    const half = await dialRaw(port!, [HELLO, Uint8Array.of(5, 1, 0)]);
    half.end();
    expect((await received(half)).length).toBe(2);
  });

  it('gives up the far side when the client goes away first', async () => {
    let dialled: net.Socket | undefined;
    const silent: NetworkStack = { ...hostNetwork, connect: () => (dialled = new net.Socket()) };
    const [port] = await start({ socks5 }, silent);
    const client = await dialRaw(port!, [HELLO, socksTo(80)]);
    while (dialled === undefined) await sleep(5);
    client.resetAndDestroy();
    await once(dialled, 'close');
    expect(dialled.destroyed).toBe(true);
  });

  it('resets the client when the far side resets', async () => {
    const far = await serveTcp((socket) => setTimeout(() => socket.resetAndDestroy(), 50));
    const [port] = await start({ socks5 });
    const client = await dialRaw(port!, [HELLO, socksTo(far)]);
    client.resume();
    const [error] = (await once(client, 'error')) as unknown[];
    expect(error).toMatchObject({ code: 'ECONNRESET' });
  });

  it('carries datagrams for as long as the connection stands', async () => {
    const echo = createSocket('udp4');
    echo.on('message', (message, from) =>
      echo.send(Buffer.concat([Buffer.from('>'), message]), from.port, from.address),
    );
    echo.bind(0, '127.0.0.1');
    await once(echo, 'listening');
    closers.push(() => echo.close());
    const [port] = await start({ socks5 });
    const association = new SocksClient({
      proxy: { host: '127.0.0.1', port: port!, type: 5 },
      command: 'associate',
      destination: { host: '0.0.0.0', port: 0 },
    });
    const associated = once(association, 'established') as Promise<
      [{ socket: net.Socket; remoteHost: { host: string; port: number } }]
    >;
    association.connect();
    const [{ socket: control, remoteHost: relay }] = await associated;
    closers.push(() => control.destroy());
    const client = createSocket('udp4');
    client.bind(0, '127.0.0.1');
    await once(client, 'listening');
    closers.push(() => client.close());
    for (const host of ['127.0.0.1', 'localhost']) {
      const packet = SocksClient.createUDPFrame({
        remoteHost: { host, port: echo.address().port },
        data: Buffer.from('hi'),
      });
      client.send(packet, relay.port, relay.host);
      const [reply] = (await once(client, 'message')) as [Buffer];
      const frame = SocksClient.parseUDPFrame(reply);
      expect(frame.data.toString()).toBe('>hi');
      expect(frame.remoteHost.port).toBe(echo.address().port);
    }
    // Neither fragments, nor garbage, nor another sender get through.
    client.send(Uint8Array.of(0, 0, 1, 1, 127, 0, 0, 1, ...port16(echo.address().port), 1), relay.port, relay.host);
    client.send(randomBytes(3), relay.port, relay.host);
    const stranger = createSocket('udp4');
    closers.push(() => stranger.close());
    let answered = 0;
    client.on('message', () => answered++);
    stranger.on('message', () => answered++);
    stranger.send(
      SocksClient.createUDPFrame({
        remoteHost: { host: '127.0.0.1', port: echo.address().port },
        data: Buffer.from('x'),
      }),
      relay.port,
      relay.host,
    );
    await sleep(80);
    expect(answered).toBe(0);
    control.destroy();
    await sleep(80);
    const check = createSocket('udp4');
    await new Promise<void>((resolve, reject) => {
      check.once('error', reject);
      check.bind(relay.port, relay.host, resolve);
    });
    check.close();
  });
});

describe('the HTTP proxy', () => {
  const through = (port: number, url: string, options: http.RequestOptions = {}): Promise<http.IncomingMessage> =>
    new Promise((resolve, reject) => {
      http
        .request({ host: '127.0.0.1', port, path: url, headers: { Host: 'wrong.test' }, ...options }, resolve)
        .once('error', reject)
        .end(options.method === 'POST' ? 'a body' : undefined);
    });

  it('tunnels with CONNECT and keeps early data', async () => {
    const far = await serveTcp((socket) => socket.pipe(socket));
    const [port] = await start({ http: httpPort });
    const client = await dialRaw(port!, [`CONNECT 127.0.0.1:${far} HTTP/1.1\r\nHost: x\r\n\r\nearly`]);
    client.end();
    expect((await received(client)).toString()).toBe('HTTP/1.1 200 Connection established\r\n\r\nearly');
  });

  it('forwards plain requests with the URI host, without what is hop by hop, on one connection', async () => {
    const seen: http.IncomingHttpHeaders[] = [];
    const { port: far } = await serveHttp((request, response) => {
      seen.push(request.headers);
      if (request.method === 'POST') void text(request).then((body) => response.end(`${request.url} ${body}`));
      else response.end(`${request.url}`);
    });
    const [port] = await start({ http: httpPort });
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
    closers.push(() => agent.destroy());
    const headers = {
      Host: 'wrong.test',
      'Proxy-Connection': 'keep-alive',
      Connection: 'X-Secret, keep-alive',
      'X-Secret': '1',
      'X-Kept': '2',
    };
    const first = await through(port!, `http://127.0.0.1:${far}/a?b=c`, { agent, headers });
    expect(await text(first)).toBe('/a?b=c');
    expect(seen[0]).toMatchObject({ host: `127.0.0.1:${far}`, 'x-kept': '2' });
    expect(seen[0]).not.toHaveProperty('x-secret');
    expect(seen[0]).not.toHaveProperty('proxy-connection');
    const second = await through(port!, `http://127.0.0.1:${far}/post`, { agent, method: 'POST' });
    expect(await text(second)).toBe('/post a body');
  });

  it('tells refused, unknown and slow destinations apart', async () => {
    const [port] = await start({ http: httpPort });
    const refused = await through(port!, `http://127.0.0.1:${await freePort()}/`);
    expect([refused.statusCode, refused.headers['proxy-status']]).toEqual([502, 'sealane; error=connection_refused']);
    const [nameless] = await start({ http: httpPort }, failing('ENOTFOUND'));
    const unknown = await through(nameless!, 'http://name.test/');
    expect([unknown.statusCode, unknown.headers['proxy-status']]).toEqual([502, 'sealane; error=dns_error']);
    const [slow] = await start(
      { http: httpPort, limits: { connectMs: 60 } },
      { ...hostNetwork, connect: () => new net.Socket() },
    );
    const late = await through(slow!, 'http://127.0.0.1:9/');
    expect([late.statusCode, late.headers['proxy-status']]).toEqual([504, 'sealane; error=connection_timeout']);
    const connect = await dialRaw(port!, [`CONNECT 127.0.0.1:${await freePort()} HTTP/1.1\r\nHost: x\r\n\r\n`]);
    expect((await received(connect)).toString()).toMatch(/^HTTP\/1\.1 502 .*connection_refused/s);
  });

  it('asks for the password that it was given', async () => {
    const { port: far } = await serveHttp((request, response) => response.end(JSON.stringify(request.headers)));
    const credentials = new Credentials();
    credentials.add('ann', 'se:cret');
    const [port] = await start({ http: httpPort, credentials });
    const asked = await through(port!, `http://127.0.0.1:${far}/`);
    expect([asked.statusCode, asked.headers['proxy-authenticate']]).toEqual([
      407,
      'Basic realm="sealane", charset="UTF-8"',
    ]);
    const good = { Host: 'x', 'Proxy-Authorization': `Basic ${Buffer.from('ann:se:cret').toString('base64')}` };
    const answer = await through(port!, `http://127.0.0.1:${far}/`, { headers: good });
    expect(answer.statusCode).toBe(200);
    expect(await text(answer)).not.toContain('roxy');
    const connect = await dialRaw(port!, [`CONNECT 127.0.0.1:${far} HTTP/1.1\r\nHost: x\r\n\r\n`]);
    expect((await received(connect)).toString()).toMatch(/^HTTP\/1\.1 407 /);
  });

  it('answers what is no proxy request and closes on garbage and silence', async () => {
    const [port] = await start({ http: httpPort, limits: { handshakeMs: 150 } });
    for (const [request, status] of [
      ['GET /path HTTP/1.1\r\nHost: x\r\n\r\n', 400],
      ['GET https://127.0.0.1/ HTTP/1.1\r\nHost: x\r\n\r\n', 400],
      ['CONNECT nowhere HTTP/1.1\r\nHost: x\r\n\r\n', 400],
      ['CONNECT 127.0.0.1:0 HTTP/1.1\r\nHost: x\r\n\r\n', 400],
      ['\u0000\u0001garbage\r\n\r\n', 400],
      ['GET http://127.0.0.1/ HTTP/1.1\r\nHost: x\r\nX-Slow: ', 408],
    ] as const) {
      const client = await dialRaw(port!, [request]);
      expect((await received(client)).toString()).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `));
    }
    await received(await dialRaw(port!));
  });

  it('passes upgrades on, and answers that are none', async () => {
    const { server, port: far } = await serveHttp((_, response) => response.end('no upgrade'));
    server.on('upgrade', (request: http.IncomingMessage, socket: net.Socket) => {
      if (request.url !== '/chat') {
        socket.end('HTTP/1.1 426 Upgrade Required\r\nContent-Length: 4\r\n\r\nnope');
        return;
      }
      socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n');
      socket.pipe(socket);
    });
    const [port] = await start({ http: httpPort });
    const ask = (path: string): string =>
      `GET http://127.0.0.1:${far}${path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n`;
    const chat = await dialRaw(port!, [ask('/chat'), 'early']);
    chat.end();
    expect((await received(chat)).toString()).toMatch(/^HTTP\/1\.1 101 .*upgrade: echo\r\n\r\nearly$/is);
    const refused = await dialRaw(port!, [ask('/other')]);
    expect((await received(refused)).toString()).toMatch(/^HTTP\/1\.1 426 .*nope$/s);
  });
});

describe('a path', () => {
  it('may stand wherever a port may', async () => {
    const far = await serveTcp((socket) => socket.pipe(socket));
    const { port: web } = await serveHttp((request, response) => response.end(request.url));
    const [socksPath, httpPath] = [join(folder, 'socks.sock'), join(folder, 'http.sock')];
    await start({ socks5: [parseListen(socksPath, '--socks5')], http: [parseListen(httpPath, '--http')] });
    const socks = net.connect({ path: socksPath, allowHalfOpen: true });
    socks.write(Buffer.concat([HELLO, socksTo(far), Buffer.from('early')]));
    socks.end(' and late');
    expect((await received(socks)).subarray(-14).toString()).toBe('early and late');
    const response = await new Promise<http.IncomingMessage>((resolve, reject) => {
      http.get({ socketPath: httpPath, path: `http://127.0.0.1:${web}/page` }, resolve).once('error', reject);
    });
    expect(await text(response)).toBe('/page');
  });
});

describe('forwards', () => {
  it('carry TCP from a port and from a path, both ways of half-close', async () => {
    const far = await serveTcp((socket) => {
      let length = 0;
      socket.on('data', (chunk: Buffer) => (length += chunk.length));
      socket.once('end', () => socket.end(`got ${length}`));
    });
    const path = join(folder, 'listen.sock');
    const [port] = await start({
      local: [parseLocalForward(`0:127.0.0.1:${far}`), parseLocalForward(`${path}:localhost:${far}`)],
    });
    const byPort = await dialRaw(port!);
    byPort.end(Buffer.alloc(300_000));
    expect((await received(byPort)).toString()).toBe('got 300000');
    expect(statSync(path).mode & 0o777).toBe(0o600);
    const byPath = net.connect({ path, allowHalfOpen: true });
    byPath.end('12345');
    expect((await received(byPath)).toString()).toBe('got 5');
  });

  it('take over a path that a dead process left, and no other', async () => {
    const path = join(folder, 'stale.sock');
    const far = await serveTcp((socket) => socket.end('x'));
    const forward = { local: [parseLocalForward(`${path}:127.0.0.1:${far}`)] };
    const first = await openProxy(forward, hostNetwork);
    await expect(openProxy(forward, hostNetwork)).rejects.toThrow(`cannot listen on ${path}: it is in use`);
    await first.close();
    expect(existsSync(path)).toBe(false);
    writeFileSync(path, 'a file');
    await expect(openProxy(forward, hostNetwork)).rejects.toThrow('cannot listen');
  });

  it('reset the client when the target refuses', async () => {
    const [port] = await start({ local: [parseLocalForward(`0:127.0.0.1:${await freePort()}`)] });
    const client = net.connect(port!, '127.0.0.1');
    client.resume();
    const [error] = (await once(client, 'error')) as unknown[];
    expect(error).toMatchObject({ code: 'ECONNRESET' });
  });

  it('carry what arrives in the tunnel to a port or a path here', async () => {
    const path = join(folder, 'target.sock');
    const local = net.createServer((socket) => socket.end('by path')).listen(path);
    closers.push(() => local.close());
    const far = await serveTcp((socket) => socket.end('by port'));
    const ports = await start({
      remote: [parseRemoteForward(`127.0.0.1:0:127.0.0.1:${far}`), parseRemoteForward(`127.0.0.1:0:${path}`)],
    });
    expect((await received(await dialRaw(ports[0]!))).toString()).toBe('by port');
    expect((await received(await dialRaw(ports[1]!))).toString()).toBe('by path');
  });

  it('carry datagrams of several senders apart', async () => {
    const echo = createSocket('udp4');
    echo.on('message', (message, from) => echo.send(message, from.port, from.address));
    echo.bind(0, '127.0.0.1');
    await once(echo, 'listening');
    closers.push(() => echo.close());
    const [port] = await start({ local: [parseLocalForward(`0:localhost:${echo.address().port}/udp`)] });
    const clients = [createSocket('udp4'), createSocket('udp4')];
    for (const [i, client] of clients.entries()) {
      closers.push(() => client.close());
      client.send(`client ${i}`, port, '127.0.0.1');
    }
    const replies = await Promise.all(clients.map((client) => once(client, 'message') as Promise<[Buffer]>));
    expect(replies.map(([message]) => message.toString())).toEqual(['client 0', 'client 1']);
  });
});

describe('a plan', () => {
  it.each([
    [{ socks5: [parseListen('0.0.0.0:0', '--socks5')] }, '--socks5 0.0.0.0:0'],
    [{ http: [parseListen('[::]:0', '--http')] }, '--http [::]:0'],
    [{ local: [parseLocalForward('*:0:127.0.0.1:1')] }, '-L 0.0.0.0:0'],
    [{ local: [parseLocalForward('192.0.2.1:0:127.0.0.1:1/udp')] }, '-L 192.0.2.1:0'],
  ])('that lets strangers in is refused unless it says so: %#', async (plan, what) => {
    await expect(openProxy(plan, hostNetwork)).rejects.toThrow(what);
    await expect(openProxy(plan, hostNetwork)).rejects.toMatchObject({ exitCode: 2 });
  });

  it('may let strangers in with a password or on purpose', async () => {
    const credentials = new Credentials();
    credentials.add('a', 'b');
    await start({ socks5: [parseListen('0.0.0.0:0', '--socks5')], credentials });
    await start({ http: [parseListen('0.0.0.0:0', '--http')], expose: true });
    await expect(
      openProxy({ local: [parseLocalForward('*:0:127.0.0.1:1')], credentials }, hostNetwork),
    ).rejects.toThrow('--expose');
  });

  it('opens everything or nothing', async () => {
    const port = await freePort();
    const plan = { socks5: [parseListen(String(port), '')], http: [parseListen(String(port), '')] };
    await expect(openProxy(plan, hostNetwork)).rejects.toThrow(`cannot listen on 127.0.0.1:${port}: it is in use`);
    const check = net.createServer().listen(port, '127.0.0.1');
    await once(check, 'listening');
    check.close();
  });

  it.each(['', 'x', '1:2', ':80', '70000', '1.2.3:80', 'example.org:80', '[::1:80', '-1'])(
    'refuses --socks5 %j',
    (value) => {
      expect(() => parseListen(value, '--socks5')).toThrow(/--socks5/);
    },
  );

  it.each(['', '80', '80:host', '80:host:0', '80:ho st:80', 'x:host:80', '/a/udp', '/s.sock:h:1/udp', '80::80'])(
    'refuses -L %j',
    (value) => {
      expect(() => parseLocalForward(value)).toThrow(/^-L/);
    },
  );

  it('reads every form of a forward', () => {
    expect(parseLocalForward('8080:db.test:5432')).toEqual({
      protocol: 'tcp',
      listen: { kind: 'port', host: '127.0.0.1', port: 8080 },
      target: { kind: 'port', host: 'db.test', port: 5432 },
    });
    expect(parseLocalForward('[::1]:53:[fd00::1]:53/udp')).toEqual({
      protocol: 'udp',
      listen: { kind: 'port', host: '::1', port: 53 },
      target: { kind: 'port', host: 'fd00::1', port: 53 },
    });
    expect(parseLocalForward('/run/a:b.sock:h:1').listen).toEqual({ kind: 'path', path: '/run/a:b.sock' });
    expect(parseRemoteForward('80:/run/web.sock')).toEqual({
      protocol: 'tcp',
      listen: { kind: 'port', host: '', port: 80 },
      target: { kind: 'path', path: '/run/web.sock' },
    });
  });
});

describe('a password file', () => {
  it('has a user and a password in each line and is for its owner alone', async () => {
    const path = join(folder, 'users');
    writeFileSync(path, '# people\nann:se:cret\n\nbob:hush\n', { mode: 0o600 });
    const credentials = await readCredentials(path);
    expect(credentials.accepts('ann', 'se:cret')).toBe(true);
    expect(credentials.accepts('bob', 'hush')).toBe(true);
    expect(credentials.accepts('bob', 'se:cret')).toBe(false);
    expect(credentials.accepts('', '')).toBe(false);
    chmodSync(path, 0o644);
    await expect(readCredentials(path)).rejects.toThrow('chmod 600');
  });

  it('never shows what it holds in an error', async () => {
    const path = join(folder, 'users');
    writeFileSync(path, 'hunter2\n', { mode: 0o600 });
    const error = await readCredentials(path).catch((reason: unknown) => reason);
    expect((error as Error).message).toMatch(/users:1: expected USER:PASSWORD/);
    expect((error as Error).message).not.toContain('hunter2');
    writeFileSync(path, '\n', { mode: 0o600 });
    await expect(readCredentials(path)).rejects.toThrow('has no line');
  });
});
