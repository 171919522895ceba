/**
 * Whatever a client says to a SOCKS5 or HTTP port, it hears nothing but what the protocol has for it, and the next client is
 * served. That one that stalls is let go is shown in `stall.test.ts`: here most clients end by themselves.
 */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import * as net from 'node:net';
import { buffer } from 'node:stream/consumers';
import { hostNetwork, type NetworkStack } from '@sealane/tunnel';
import { afterEach, describe, expect, it } from 'vitest';
import { mutate } from '../../../../test/fuzz/mutate.ts';
import { generator } from '../../../../test/sim/random.ts';
import { parseListen } from '../../src/proxy/address.ts';
import { Credentials } from '../../src/proxy/credentials.ts';
import { openProxy } from '../../src/proxy/open-proxy.ts';

/** `npm run fuzz` asks for more. */
const CLIENTS = Math.max(1_000, Math.ceil(Number(process.env['SEALANE_FUZZ'] ?? 0) / 500));
const AT_ONCE = 100;
const HANDSHAKE_MS = 300;
const SEED = Number(process.env['SEALANE_SEED'] ?? 1);

let closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.toReversed()) await close();
  closers = [];
});

/** Changed requests may name any address: only this computer's own are ever dialled. */
const loopbackOnly: NetworkStack = {
  ...hostNetwork,
  connect: (options) => {
    if (options.host === '127.0.0.1') return hostNetwork.connect(options);
    const socket = new net.Socket();
    process.nextTick(() => socket.destroy(Object.assign(new Error('refused'), { code: 'ECONNREFUSED' })));
    return socket;
  },
  createSocket: () => {
    throw new Error('no datagrams here');
  },
  resolve: () => Promise.reject(Object.assign(new Error('no name'), { code: 'ENOTFOUND' })),
};

async function echo(): Promise<number> {
  const server = net.createServer((socket) => socket.on('error', () => undefined).pipe(socket)).listen(0, '127.0.0.1');
  await once(server, 'listening');
  closers.push(() => server.close());
  return (server.address() as net.AddressInfo).port;
}

/** What the proxy says until it closes. */
async function talk(port: number, bytes: Uint8Array, ends: boolean): Promise<Buffer> {
  const socket = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk)).on('error', () => undefined);
  socket.once('end', () => socket.end());
  // A reset is an end, too.
  const closed = new Promise((resolve) => socket.once('close', resolve));
  socket.write(bytes);
  if (ends) socket.end();
  // What was a request after all is the client's to end; what is none has been closed long before.
  const timer = setTimeout(() => socket.end(), 2 * HANDSHAKE_MS);
  await closed;
  clearTimeout(timer);
  return Buffer.concat(chunks);
}

/** `a` and `b` as a client gives them, whatever stands between: every dial took one of these. */
const LOGIN = { socks5: /a[^]?b/g, http: /Y[^A-Za-z0-9+/]*T[^A-Za-z0-9+/]*p[^A-Za-z0-9+/]*i/g };

/** Good requests; where a login is asked for, with the right one, a wrong one and none. */
function requests(port: number): Readonly<Record<'socks5' | 'http', readonly Uint8Array[]>> {
  const to = [port >> 8, port & 255];
  const basic = (login: string): string => `Proxy-Authorization: Basic ${Buffer.from(login).toString('base64')}\r\n`;
  const text = [
    `CONNECT 127.0.0.1:${port} HTTP/1.1\r\nHost: x\r\n${basic('a:b')}\r\nearly data`,
    `GET http://127.0.0.1:${port}/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`,
    `GET http://127.0.0.1:${port}/ HTTP/1.1\r\nHost: x\r\n${basic('a:c')}Connection: close\r\n\r\n`,
    `POST http://127.0.0.1:${port}/ HTTP/1.1\r\nHost: x\r\n${basic('a:b')}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n`,
    `GET http://127.0.0.1:${port}/ HTTP/1.1\r\nHost: x\r\n${basic('a:b')}Connection: Upgrade\r\nUpgrade: echo\r\n\r\n`,
  ];
  const login = (user: string, password: string): number[] => {
    const [name, word] = [Buffer.from(user), Buffer.from(password)];
    return [5, 1, 2, 1, name.length, ...name, word.length, ...word];
  };
  return {
    socks5: [
      Uint8Array.of(...login('a', 'b'), 5, 1, 0, 1, 127, 0, 0, 1, ...to, 1, 2, 3),
      Uint8Array.of(5, 1, 0, 5, 1, 0, 1, 127, 0, 0, 1, ...to, 1, 2, 3),
      Uint8Array.of(5, 2, 0, 2, 5, 1, 0, 3, 9, ...Buffer.from('localhost'), ...to),
      Uint8Array.of(5, 1, 0, 5, 1, 0, 4, ...new Uint8Array(15), 1, ...to),
      Uint8Array.of(5, 1, 0, 5, 3, 0, 1, 0, 0, 0, 0, 0, 0),
      Uint8Array.of(...login('a', 'c'), 5, 1, 0, 1, 127, 0, 0, 1, ...to, 1, 2, 3),
      Uint8Array.of(4, 1, ...to, 127, 0, 0, 1, 0),
    ],
    http: text.map((request) => Uint8Array.from(Buffer.from(request))),
  };
}

describe.each([
  ['socks5', false],
  ['socks5', true],
  ['http', false],
  ['http', true],
] as const)('%s, with a login: %s', (kind, asks) => {
  it(`closes on ${CLIENTS} changed requests, and serves the next`, { timeout: 120_000 + CLIENTS * 30 }, async () => {
    const far = await echo();
    const credentials = new Credentials();
    credentials.add('a', 'b');
    // Who is in has shown the right login; nobody else is dialled for.
    let dialled = 0;
    const network: NetworkStack = { ...loopbackOnly, connect: (to) => (dialled++, loopbackOnly.connect(to)) };
    const plan = {
      ...(asks && { credentials }),
      [kind]: [parseListen('0', `--${kind}`)],
      limits: { handshakeMs: HANDSHAKE_MS, connectMs: HANDSHAKE_MS },
    };
    const proxy = await openProxy(plan, network);
    closers.push(() => proxy.close());
    const port = Number(/:(\d+)$/.exec(proxy.listening[0]!)![1]);
    const random = generator(SEED);
    const known = requests(far)[kind];
    // Nothing is dialled for who shows no login or a wrong one.
    const refused = asks ? known.filter((bytes) => !Buffer.from(bytes).toString('latin1').match(LOGIN[kind])) : [];
    for (const bytes of refused) await talk(port, bytes, true);
    expect(dialled).toBe(0);
    let [answered, logins] = [0, 0];
    for (let i = 0; i < CLIENTS; i += AT_ONCE) {
      const said = await Promise.all(
        Array.from({ length: AT_ONCE }, () => {
          const bytes = random.chance(0.2)
            ? random.bytes(random.below(600))
            : mutate(random, known[random.below(known.length)]!, known);
          logins += Buffer.from(bytes).toString('latin1').match(LOGIN[kind])?.length ?? 0;
          return talk(port, bytes, random.chance(0.7) || random.chance(0.5));
        }),
      );
      for (const answer of said) {
        if (answer.length === 0) continue;
        answered++;
        if (kind === 'http') expect(answer.toString('latin1')).toMatch(/^HTTP\/1\.1 [1-5]\d\d /);
        else expect(answer[0] === 5 || answer[0] === 1, answer.toString('hex')).toBe(true);
      }
    }
    expect(answered).toBeGreaterThan(CLIENTS / 10);
    const client = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true });
    if (asks) expect(dialled).toBeLessThanOrEqual(logins);
    expect(dialled).toBeGreaterThan(0);
    client.end(known[kind === 'http' || asks ? 0 : 1]!);
    const last = await buffer(client);
    expect(last.subarray(-3).toString('latin1')).toBe(kind === 'http' ? 'ata' : '\u0001\u0002\u0003');
  });
});

interface Corpus {
  readonly socks5: readonly { readonly note: string; readonly hex: string; readonly answer: string }[];
  /** A status, or none when the connection just ends. */
  readonly http: readonly { readonly note: string; readonly text: string; readonly status?: number }[];
}

describe('the corpus', () => {
  const corpus = JSON.parse(
    readFileSync(new URL('../../../../test/fuzz/corpus/proxy.json', import.meta.url), 'utf8'),
  ) as Corpus;

  async function listening(kind: 'socks5' | 'http'): Promise<number> {
    const limits = { handshakeMs: HANDSHAKE_MS, connectMs: HANDSHAKE_MS };
    const refusing: NetworkStack = {
      ...loopbackOnly,
      connect: () => loopbackOnly.connect({ host: '192.0.2.1', port: 1 }),
    };
    const proxy = await openProxy({ [kind]: [parseListen('0', `--${kind}`)], limits }, refusing);
    closers.push(() => proxy.close());
    return Number(/:(\d+)$/.exec(proxy.listening[0]!)![1]);
  }

  it('of SOCKS5 requests is answered as the protocol has it, each case', async () => {
    expect(corpus.socks5.length).toBeGreaterThan(10);
    const port = await listening('socks5');
    for (const { note, hex, answer } of corpus.socks5)
      expect((await talk(port, Buffer.from(hex, 'hex'), true)).toString('hex'), note).toBe(answer);
  });

  it('of HTTP requests is answered with a status or with nothing, each case', async () => {
    expect(corpus.http.length).toBeGreaterThan(10);
    const port = await listening('http');
    for (const { note, text, status } of corpus.http) {
      const answer = (await talk(port, Buffer.from(text, 'latin1'), true)).toString('latin1');
      expect(answer.slice(0, 12), note).toBe(status === undefined ? '' : `HTTP/1.1 ${status}`);
    }
  });
});
