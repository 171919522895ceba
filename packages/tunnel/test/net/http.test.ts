import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import * as http from 'node:http';
import * as http2 from 'node:http2';
import * as https from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer, text } from 'node:stream/consumers';
import * as tls from 'node:tls';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Agent, request as undiciRequest } from 'undici';
import type { StreamSocket } from '@sealane/tunnel';
import { type Pair, RIGHT, stackPair } from '../support/stacks.ts';

const BODY = randomBytes(3_000_000);

let pair: Pair;
let folder: string;
let key: string;
let cert: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'sealane-tls-'));
  execFileSync(
    'openssl',
    [
      'req',
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:P-256',
      '-nodes',
      '-days',
      '2',
      '-subj',
      '/CN=far.test',
      '-addext',
      `subjectAltName=DNS:far.test,IP:${RIGHT}`,
      '-keyout',
      `${folder}/key.pem`,
      '-out',
      `${folder}/cert.pem`,
    ],
    { stdio: 'ignore' },
  );
  key = readFileSync(`${folder}/key.pem`, 'utf8');
  cert = readFileSync(`${folder}/cert.pem`, 'utf8');
});
afterAll(() => rmSync(folder, { recursive: true }));
beforeEach(() => {
  pair = stackPair();
});
afterEach(() => pair.close());

/** Serves an ordinary node server from a listener inside the right stack; resolves to its port. */
async function serve(server: http.Server | https.Server | http2.Http2SecureServer): Promise<number> {
  const listener = pair.right.createServer((socket: StreamSocket) => {
    socket.on('error', () => undefined);
    server.emit('connection', socket);
  });
  listener.listen({ port: 0, host: RIGHT });
  await once(listener, 'listening');
  return listener.address()!.port;
}

function answer(request: http.IncomingMessage, response: http.ServerResponse): void {
  if (request.method === 'POST') {
    void buffer(request).then((body) => response.end(String(body.length)));
    return;
  }
  response.setHeader('x-port', String(request.socket.remotePort));
  response.end(request.url === '/big' ? BODY : `page ${request.url}`);
}

function get(module: typeof http | typeof https, options: https.RequestOptions): Promise<http.IncomingMessage> {
  return new Promise((resolve, reject) => {
    module.get(options, resolve).once('error', reject);
  });
}

describe('programs over a tunnel', () => {
  it('use node:http with one connection for several requests', async () => {
    const port = await serve(http.createServer(answer));
    const agent = pair.left.agent({ maxSockets: 1 });
    const ports = new Set<unknown>();
    for (let i = 0; i < 5; i++) {
      const response = await get(http, { agent, host: RIGHT, port, path: `/${i}` });
      ports.add(response.headers['x-port']);
      expect(await text(response)).toBe(`page /${i}`);
    }
    expect(ports.size).toBe(1);
    const big = await get(http, { agent, host: RIGHT, port, path: '/big' });
    expect(Buffer.compare(await buffer(big), BODY)).toBe(0);
  });

  it('post bodies, and see a refused connection as node:http shows it', async () => {
    const port = await serve(http.createServer(answer));
    const agent = pair.left.agent();
    const sent = await new Promise<http.IncomingMessage>((resolve, reject) => {
      http.request({ agent, host: RIGHT, port, method: 'POST' }, resolve).once('error', reject).end(BODY);
    });
    expect(await text(sent)).toBe(String(BODY.length));
    await expect(get(http, { agent, host: RIGHT, port: 9, path: '/' })).rejects.toMatchObject({ code: 'ECONNREFUSED' });
  });

  it('use node:https and check the name', async () => {
    const port = await serve(https.createServer({ key, cert }, answer));
    const agent = pair.left.httpsAgent();
    const response = await get(https, { agent, host: RIGHT, port, path: '/tls', ca: cert, servername: 'far.test' });
    expect(await text(response)).toBe('page /tls');
    await expect(
      get(https, { agent: pair.left.httpsAgent(), host: RIGHT, port, path: '/', ca: cert, servername: 'other.test' }),
    ).rejects.toMatchObject({ code: 'ERR_TLS_CERT_ALTNAME_INVALID' });
  });

  it('use http2 with many streams on one connection', async () => {
    const server = http2.createSecureServer({ key, cert });
    server.on('stream', (stream, headers) => {
      stream.respond({ ':status': 200 });
      stream.end(headers[':path'] === '/big' ? BODY : String(headers[':path']));
    });
    const port = await serve(server);
    const client = http2.connect(`https://far.test:${port}`, {
      createConnection: () =>
        tls.connect({
          socket: pair.left.connect({ host: RIGHT, port }),
          servername: 'far.test',
          ca: cert,
          ALPNProtocols: ['h2'],
        }),
    });
    const fetched = await Promise.all(
      Array.from({ length: 20 }, (_, i) => buffer(client.request({ ':path': i === 0 ? '/big' : `/${i}` }))),
    );
    expect(Buffer.compare(fetched[0]!, BODY)).toBe(0);
    expect(fetched[7]!.toString()).toBe('/7');
    client.close();
    await once(client, 'close');
  });

  it('use undici for http and https', async () => {
    const plain = await serve(http.createServer(answer));
    const secure = await serve(https.createServer({ key, cert }, answer));
    const dispatcher = pair.left.dispatcher(Agent, {}, { ca: cert });
    const page = await undiciRequest(`http://${RIGHT}:${plain}/page`, { dispatcher });
    expect(await page.body.text()).toBe('page /page');
    const big = await undiciRequest(`https://${RIGHT}:${secure}/big`, { dispatcher });
    expect(Buffer.compare(Buffer.from(await big.body.arrayBuffer()), BODY)).toBe(0);
    await expect(undiciRequest(`http://${RIGHT}:9/`, { dispatcher })).rejects.toMatchObject({ code: 'ECONNREFUSED' });
    await dispatcher.close();
  });

  it('use the undici that is installed beside the library', async () => {
    const plain = await serve(http.createServer(answer));
    const dispatcher = pair.left.dispatcher<Agent>();
    expect(dispatcher).toBeInstanceOf(Agent);
    const page = await undiciRequest(`http://${RIGHT}:${plain}/page`, { dispatcher });
    expect(await page.body.text()).toBe('page /page');
    await dispatcher.close();
  });

  it('reach the computer itself when they pass agent: false, as documented', async () => {
    const own = http.createServer((_, response) => response.end('this computer'));
    own.listen(0, '127.0.0.1');
    await once(own, 'listening');
    const { port } = own.address() as { port: number };
    const inside = await serve(http.createServer((_, response) => response.end('inside')));
    expect(await text(await get(http, { agent: pair.left.agent(), host: RIGHT, port: inside }))).toBe('inside');
    expect(await text(await get(http, { agent: false, host: '127.0.0.1', port }))).toBe('this computer');
    own.close();
  });
});
