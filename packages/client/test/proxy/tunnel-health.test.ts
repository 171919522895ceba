/** A tunnel whose server is silent, or that does not lead to the target: what clients and the person at the screen are told. */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import * as http from 'node:http';
import { connect } from 'node:net';
import { buffer, text } from 'node:stream/consumers';
import { generatePrivateKey, nobleCrypto } from '@sealane/protocol';
import { openTunnel, parseConfig, type UserspaceTunnel } from '@sealane/tunnel';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseListen, parseLocalForward } from '../../src/proxy/address.ts';
import { Complaints } from '../../src/proxy/complaints.ts';
import { openProxy } from '../../src/proxy/open-proxy.ts';
import { TunnelHealth } from '../../src/proxy/tunnel-health.ts';

const PEER = '127.91.0.1';
const ELSEWHERE = '127.92.0.1';

let closers: (() => unknown)[];
let said: string[];
let ports: { socks5: number; http: number; forward: number };
let endpoint: string;

beforeEach(async () => {
  closers = [];
  said = [];
  // Takes everything and says nothing.
  const silent = createSocket('udp4').bind(0, '127.0.0.1');
  closers.push(() => silent.close());
  await once(silent, 'listening');
  endpoint = `127.0.0.1:${silent.address().port}`;
  const tunnel = await openTo(endpoint);
  closers.push(() => tunnel.close());
  const complaints = new Complaints((line) => said.push(line));
  const health = new TunnelHealth(tunnel, complaints);
  const proxy = await openProxy(
    {
      socks5: [parseListen('0', '--socks5')],
      http: [parseListen('0', '--http')],
      local: [parseLocalForward(`0:${PEER}:22`)],
      limits: { connectMs: 300 },
    },
    tunnel.network,
    { explain: (error) => health.explain(error), complaints },
  );
  closers.push(() => proxy.close());
  const [socks5, httpPort, forward] = proxy.listening.map((line) => Number(/:(\d+)(?: |$)/.exec(line)![1]));
  ports = { socks5: socks5!, http: httpPort!, forward: forward! };
});
afterEach(async () => {
  for (const close of closers.toReversed()) await close();
});

function openTo(where: string): Promise<UserspaceTunnel> {
  const [own, other] = [1, 2].map(() => generatePrivateKey((length) => crypto.getRandomValues(new Uint8Array(length))));
  const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64');
  return openTunnel(
    parseConfig(
      `[Interface]\nPrivateKey = ${base64(own!)}\nAddress = 127.91.0.2/32\n` +
        `[Peer]\nPublicKey = ${base64(nobleCrypto.publicKey(other!))}\nAllowedIPs = 127.91.0.0/24\nEndpoint = ${where}\n`,
      'test.conf',
    ),
  );
}

async function socks5Reply(host: string): Promise<number> {
  const socket = connect({ port: ports.socks5, host: '127.0.0.1', allowHalfOpen: true });
  socket.write(Uint8Array.of(5, 1, 0, 5, 1, 0, 1, ...host.split('.').map(Number), 0, 80));
  return (await buffer(socket))[3]!;
}

async function httpAnswer(host: string): Promise<readonly [number | undefined, string]> {
  const request = http.get({ host: '127.0.0.1', port: ports.http, path: `http://${host}/`, agent: false });
  const [response] = (await once(request, 'response')) as [http.IncomingMessage];
  return [response.statusCode, await text(response)];
}

async function connectAnswer(host: string): Promise<string> {
  const socket = connect({ port: ports.http, host: '127.0.0.1' });
  socket.write(`CONNECT ${host}:22 HTTP/1.1\r\nHost: ${host}:22\r\n\r\n`);
  return text(socket);
}

describe('a server that does not answer', () => {
  it('is what the clients of every listener are told, not their target, and is said once', async () => {
    const down = `the tunnel has no session: ${endpoint} does not answer the handshake`;
    expect(await socks5Reply(PEER)).toBe(3);
    expect(await httpAnswer(PEER)).toEqual([503, `${down}.\n`]);
    expect(await connectAnswer(PEER)).toMatch(/^HTTP\/1\.1 503 Service Unavailable\r\n.*error=destination_unavailable/);
    expect(await connectAnswer(PEER)).toContain(`${down}.\n`);
    const forwarded = connect({ port: ports.forward, host: '127.0.0.1' }).on('error', () => undefined);
    await new Promise((resolve) => forwarded.once('close', resolve));
    expect(said).toEqual([down]);
  });
});

describe('a target outside of the AllowedIPs', () => {
  it('is named as such to the clients and at the screen', async () => {
    const line = `${ELSEWHERE} is not in the AllowedIPs of any peer`;
    expect(await socks5Reply(ELSEWHERE)).toBe(3);
    expect(await httpAnswer(ELSEWHERE)).toEqual([502, `${line}.\n`]);
    expect(await connectAnswer(ELSEWHERE)).toMatch(
      /error=destination_ip_unroutable[^]*is not in the AllowedIPs of any peer/,
    );
    expect(said).toEqual([line]);
  });
});
