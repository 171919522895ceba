/** Two servers with one key stand for two endpoints of one peer; all of it over UDP on loopback. */
import { createSocket } from 'node:dgram';
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

interface Client {
  readonly tunnel: Tunnel;
  readonly keeper: EndpointKeeper;
  readonly echo: EchoClient;
  readonly said: readonly string[];
}

/** A tunnel whose peer has these endpoints, with a keeper and echo requests that go on. */
async function startClient([first, ...others]: readonly string[]): Promise<Client> {
  const config = parseConfig(
    [
      '[Interface]',
      `PrivateKey = ${formatKey(client)}`,
      '[Peer]',
      `PublicKey = ${formatKey(nobleCrypto.publicKey(server))}`,
      `Endpoint = ${first}`,
      ...others.map((text) => `#@ Endpoint = ${text}`),
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
  const times = { sessionSilence: 2_000, handshakeSilence: 2_000, returnAttempt: 1_000, returnInterval: 1_500 };
  const keeper = new EndpointKeeper(tunnel, log, undefined, times);
  open.push({ close: () => keeper.stop() });
  keeper.start(config, resolved, 0);
  return { tunnel, keeper, echo, said };
}

describe('EndpointKeeper', () => {
  it('goes on to the next endpoint when one is silent and returns to the preferred one when it answers again', async () => {
    const first = await startServer();
    const second = await startServer();
    const [one, two] = [`127.0.0.1:${first.port}`, `127.0.0.1:${second.port}`];
    const { tunnel, said } = await startClient([one, two]);
    let answered = 0;
    tunnel.on('session', () => void answered++);
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

  it('asks for the preferred endpoint by handshakes alone: no packet leaves the one that serves', async () => {
    const serving = await startServer();
    const silent = createSocket('udp4');
    const initiations: Uint8Array[] = [];
    silent.on('message', (bytes) => {
      if (bytes[0] === 1) initiations.push(bytes);
    });
    await new Promise<void>((resolve) => silent.bind(0, '127.0.0.1', resolve));
    open.push(silent);
    const { tunnel, keeper, said, echo } = await startClient([
      `127.0.0.1:${silent.address().port}`,
      `127.0.0.1:${serving.port}`,
    ]);
    const failedOver = `is silent, trying 127.0.0.1:${serving.port}`;
    let answered = 0;
    tunnel.on('session', () => void answered++);
    await tunnel.rekey();
    await expect.poll(() => said.join('\n'), { timeout: 20_000 }).toContain(failedOver);
    await expect.poll(() => answered, { timeout: 20_000 }).toBeGreaterThan(0);

    const asked = initiations.length;
    const echoes: Promise<number | undefined>[] = [];
    const pings = setInterval(() => echoes.push(echo.ping({ target: SERVER, timeoutMs: 10_000 })), 50);
    open.push({ close: () => clearInterval(pings) });
    await expect.poll(() => initiations.length, { timeout: 30_000 }).toBeGreaterThanOrEqual(asked + 3);
    // The last attempt is over when the keeper would have given it up.
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    clearInterval(pings);
    const roundTrips = await Promise.all(echoes);
    keeper.stop();
    expect(roundTrips.length).toBeGreaterThan(20);
    expect(roundTrips.filter((time) => time === undefined)).toEqual([]);
    expect(await endpointOf(tunnel)).toBe(`127.0.0.1:${serving.port}`);
  }, 90_000);

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
