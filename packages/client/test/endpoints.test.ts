/** Two servers with one key stand for two endpoints of one peer; all of it over UDP on loopback. */
import { formatKey, generatePrivateKey, nobleCrypto } from '@sealane/protocol';
import {
  createLog,
  EchoClient,
  EchoHost,
  formatEndpoint,
  memoryPair,
  openTunnel,
  parseAddress,
  parseConfig,
  parsePrefix,
  resolveEndpoints,
  toUpdate,
  type Tunnel,
} from '@sealane/tunnel';
import { afterEach, describe, expect, it } from 'vitest';
import { EndpointKeeper } from '../src/up/endpoints.ts';

const random = (length: number): Uint8Array => crypto.getRandomValues(new Uint8Array(length));
const client = generatePrivateKey(random);
const server = generatePrivateKey(random);

const SERVER = parseAddress('127.77.0.1')!;

const open: { close(): unknown }[] = [];

afterEach(async () => {
  for (const one of open.splice(0).toReversed()) await one.close();
});

async function startServer(listenPort = 0): Promise<{ readonly tunnel: Tunnel; readonly port: number }> {
  const [near, far] = memoryPair({ mtu: 1_420 });
  const peers = [{ publicKey: nobleCrypto.publicKey(client), allowedIps: [parsePrefix('127.77.0.2/32')!] }];
  const tunnel = await openTunnel({ device: near, config: { privateKey: server.slice(), listenPort, peers } });
  open.push(tunnel, new EchoHost({ device: far, addresses: [SERVER] }));
  return { tunnel, port: (await tunnel.status()).listenPort };
}

async function endpointOf(tunnel: Tunnel): Promise<string> {
  const endpoint = (await tunnel.status()).device.peers[0]?.endpoint;
  return endpoint === undefined ? '' : formatEndpoint(endpoint);
}

describe('EndpointKeeper', () => {
  it('goes on to the next endpoint when one is silent and returns to the preferred one when it answers again', async () => {
    const first = await startServer();
    const second = await startServer();
    const [one, two] = [`127.0.0.1:${first.port}`, `127.0.0.1:${second.port}`];
    const config = parseConfig(
      [
        '[Interface]',
        `PrivateKey = ${formatKey(client)}`,
        '[Peer]',
        `PublicKey = ${formatKey(nobleCrypto.publicKey(server))}`,
        `Endpoint = ${one}`,
        `#@ Endpoint = ${two}`,
        'AllowedIPs = 127.77.0.0/24',
      ].join('\n'),
      'test',
    );
    const resolved = await resolveEndpoints(config);
    const [near, far] = memoryPair({ mtu: 1_420 });
    const tunnel = await openTunnel({ device: near, config: toUpdate(config, resolved) });
    const echo = new EchoClient({ device: far, addresses: [parseAddress('127.77.0.2')!] });
    const pings = setInterval(() => void echo.ping({ target: SERVER, timeoutMs: 200 }).catch(() => undefined), 250);
    open.push(tunnel, { close: () => clearInterval(pings) });
    const said: string[] = [];
    const log = createLog({ format: 'text', level: 'info', prefix: 'sealane: ', write: (line) => said.push(line) });
    const times = { sessionSilence: 2_000, handshakeSilence: 2_000, returnAttempt: 1_000, returnInterval: 3_000 };
    const keeper = new EndpointKeeper(tunnel, log, undefined, times);
    open.push({ close: () => keeper.stop() });
    let answered = 0;
    tunnel.on('session', () => void answered++);
    keeper.start(config, resolved, 0);
    await tunnel.rekey();
    await expect.poll(() => answered, { timeout: 10_000 }).toBe(1);
    expect(await endpointOf(tunnel)).toBe(one);

    await first.tunnel.close();
    await expect.poll(() => answered, { timeout: 15_000 }).toBe(2);
    expect(await endpointOf(tunnel)).toBe(two);
    expect(said.join('\n')).toContain(`is silent, trying ${two}`);

    await startServer(first.port);
    await expect.poll(() => said.join('\n'), { timeout: 30_000 }).toContain(`is back at ${one}`);
    expect(await endpointOf(tunnel)).toBe(one);
  }, 60_000);

  it('leaves a peer with one literal endpoint alone', async () => {
    const [near, far] = memoryPair({ mtu: 1_420 });
    const text = `[Interface]\nPrivateKey = ${formatKey(client)}\n[Peer]\nPublicKey = ${formatKey(nobleCrypto.publicKey(server))}\nEndpoint = 127.0.0.1:9\n`;
    const config = parseConfig(text, 'test');
    const resolved = await resolveEndpoints(config);
    const tunnel = await openTunnel({ device: near, config: toUpdate(config, resolved) });
    open.push(tunnel, far);
    const said: string[] = [];
    const times = { sessionSilence: 1, handshakeSilence: 1, returnAttempt: 1, returnInterval: 1 };
    const keeper = new EndpointKeeper(
      tunnel,
      createLog({ format: 'text', level: 'info', prefix: 'sealane: ', write: (line) => said.push(line) }),
      undefined,
      times,
    );
    keeper.start(config, resolved, 0);
    await tunnel.rekey();
    await new Promise((resolve) => setTimeout(resolve, 2_500));
    keeper.stop();
    expect(said).toEqual([]);
    expect(await endpointOf(tunnel)).toBe('127.0.0.1:9');
  });
});
