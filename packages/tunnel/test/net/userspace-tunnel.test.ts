import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createSocket } from 'node:dgram';
import { generatePrivateKey, nobleCrypto } from '@sealane/protocol';
import {
  openConnection,
  openTunnel,
  parseAddress,
  parsePrefix,
  type LaneKind,
  type StreamSocket,
  type TunnelConfig,
  type TunnelEvent,
  type UserspaceTunnel,
} from '@sealane/tunnel';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { until } from '../../../../test/support/lab.ts';

const SERVER = '127.88.0.1';
const CLIENT = '127.88.0.2';

let open: UserspaceTunnel[] = [];
afterEach(async () => {
  await Promise.all(open.map((tunnel) => tunnel.close()));
  open = [];
});

const newKey = (): Uint8Array => generatePrivateKey((length) => crypto.getRandomValues(new Uint8Array(length)));

function configOf(
  own: { readonly key: Uint8Array; readonly address: string },
  peer: { readonly key: Uint8Array; readonly address: string; readonly port?: number },
  more: Partial<TunnelConfig['interface']> = {},
): TunnelConfig {
  return {
    interface: {
      privateKey: own.key,
      addresses: [{ address: parseAddress(own.address)!, length: 32 }],
      dns: { servers: [], search: [] },
      table: 'off',
      preUp: [],
      postUp: [],
      preDown: [],
      postDown: [],
      saveConfig: false,
      ...more,
    },
    peers: [
      {
        publicKey: nobleCrypto.publicKey(peer.key),
        allowedIps: [parsePrefix(peer.address)!],
        endpoints: peer.port === undefined ? [] : [`127.0.0.1:${peer.port}`],
      },
    ],
  };
}

/** Two tunnels of this process, joined by real UDP sockets. */
async function ends(lane: LaneKind | 'auto'): Promise<{ client: UserspaceTunnel; server: UserspaceTunnel }> {
  const [serverKey, clientKey] = [newKey(), newKey()];
  const server = await openTunnel(configOf({ key: serverKey, address: SERVER }, { key: clientKey, address: CLIENT }), {
    lane,
  });
  open.push(server);
  const { listenPort } = await server.status();
  const client = await openTunnel(
    configOf({ key: clientKey, address: CLIENT }, { key: serverKey, address: SERVER, port: listenPort }),
    { lane },
  );
  open.push(client);
  return { client, server };
}

async function listening(tunnel: UserspaceTunnel, listener: (socket: StreamSocket) => void): Promise<number> {
  const server = tunnel.createServer({ allowHalfOpen: true }, listener);
  server.listen({ port: 0 });
  await once(server, 'listening');
  return server.address()!.port;
}

const lanes: readonly LaneKind[] = process.platform === 'linux' ? ['portable', 'linux'] : ['portable'];

describe.each(lanes)('a userspace tunnel in the %s lane', (lane) => {
  it('carries 8 MB both ways at once, with a rekey in the middle', async () => {
    const { client, server } = await ends(lane);
    const port = await listening(server, (socket) => socket.pipe(socket));
    const events: TunnelEvent['type'][] = [];
    client.events((event) => void events.push(event.type));
    const socket = await openConnection(client.network, { host: SERVER, port, allowHalfOpen: true });
    const sent = randomBytes(8_000_000);
    const hash = createHash('sha256');
    let received = 0;
    let begun = 0;
    socket.end(sent);
    for await (const chunk of socket) {
      hash.update(chunk as Uint8Array);
      received += (chunk as Uint8Array).length;
      if (begun === 0 && received > 2_000_000) begun = await client.rekey();
    }
    expect(hash.digest('hex')).toBe(createHash('sha256').update(sent).digest('hex'));
    expect(begun).toBe(1);
    expect(events.filter((type) => type === 'session')).toHaveLength(2);
    const status = await client.status();
    expect(status).toMatchObject({ kind: lane, up: true, faults: {} });
    expect(status.device.peers[0]!.sessions).toBe(2);
  });

  it('tells where its peer has moved to', async () => {
    const { client, server } = await ends(lane);
    const ports: number[] = [];
    server.on('roamed', ({ endpoint }) => void ports.push(endpoint.port));
    const port = await listening(server, (socket) => socket.pipe(socket));
    const hear = async (): Promise<void> => {
      const socket = await openConnection(client.network, { host: SERVER, port });
      socket.end('x');
      await once(socket.resume(), 'close');
    };
    await hear();
    const { listenPort } = await client.status();
    await client.configure({ listenPort: 0 });
    const now = (await client.status()).listenPort;
    expect(now).not.toBe(listenPort);
    await hear();
    // It is told of the first address, too: nobody knew it.
    await until('the move', () => ports.length >= 2);
    expect(ports).toEqual([listenPort, now]);
  });

  it('tells that all keys of a peer are erased, nine minutes after its last session', async () => {
    const { client, server } = await ends(lane);
    const events: string[] = [];
    for (const [name, tunnel] of Object.entries({ client, server })) {
      tunnel.on('expired', ({ publicKey }) => void events.push(`${name}: ${publicKey.length}`));
    }
    const port = await listening(server, (socket) => socket.end('x'));
    const socket = await openConnection(client.network, { host: SERVER, port });
    await once(socket.resume(), 'close');
    expect((await client.status()).device.peers[0]!.session).toBeDefined();
    // As after the sleep of a computer whose clock goes on.
    const now = performance.now.bind(performance);
    const later = vi.spyOn(performance, 'now').mockImplementation(() => now() + 541_000);
    try {
      await until('both to expire', async () => {
        await Promise.all([client.configure({}), server.configure({})]);
        return events.length >= 2;
      });
    } finally {
      later.mockRestore();
    }
    expect(events.toSorted()).toEqual(['client: 32', 'server: 32']);
  });

  it('exchanges datagrams of every size that fits, fragments included', async () => {
    const { client, server } = await ends(lane);
    const echo = server.createSocket('udp4').bind(7_000);
    echo.on('message', (message: Uint8Array, from: { port: number; address: string }) =>
      echo.send(message, from.port, from.address),
    );
    const socket = client.createSocket('udp4');
    for (const size of [0, 1, 1_392, 1_393, 9_000, 65_507]) {
      const sent = randomBytes(size);
      const answered = once(socket, 'message') as Promise<[Uint8Array]>;
      socket.send(sent, 7_000, SERVER);
      expect(Buffer.compare((await answered)[0], sent)).toBe(0);
    }
  });

  it('says at once that a destination is outside of the allowed IPs, and follows their changes', async () => {
    const { client } = await ends(lane);
    const outside = { host: '127.88.9.9', port: 80 };
    await expect(openConnection(client.network, outside)).rejects.toMatchObject({ code: 'ENETUNREACH' });
    const { device } = await client.status();
    await client.configure({
      peers: [{ publicKey: device.peers[0]!.publicKey, allowedIps: [parsePrefix('127.88.9.0/24')!] }],
    });
    // The peer holds it for a packet that is not for itself: nothing answers, but it went out.
    await expect(openConnection(client.network, { ...outside, timeoutMs: 300 })).rejects.toMatchObject({
      code: 'ETIMEDOUT',
    });
  });

  it('refuses a port in use and values that are none, and leaves nothing open', async () => {
    const other = createSocket('udp4').bind(0, '0.0.0.0');
    await once(other, 'listening');
    const { port } = other.address();
    const ends = [
      { key: newKey(), address: CLIENT },
      { key: newKey(), address: SERVER },
    ] as const;
    await expect(openTunnel(configOf(...ends, { listenPort: port }), { lane })).rejects.toThrow(
      `UDP port ${port} (IPv4) is in use`,
    );
    other.close();
    await once(other, 'close');
    const tunnel = await openTunnel(configOf(...ends, { listenPort: port }), { lane });
    open.push(tunnel);
    await expect(tunnel.configure({ listenPort: 70_000 })).rejects.toThrow(RangeError);
    expect((await tunnel.status()).listenPort).toBe(port);
    await tunnel.configure({ listenPort: 0 });
    expect((await tunnel.status()).listenPort).not.toBe(port);
    await expect(openTunnel(configOf(...ends, { addresses: [] }), { lane })).rejects.toThrow('Address');
  });

  it('ends with its sockets, once, and takes nothing after that', async () => {
    const { client, server } = await ends(lane);
    const port = await listening(server, (socket) => socket.resume());
    const socket = await openConnection(client.network, { host: SERVER, port });
    const closed = once(socket, 'close');
    let ended = 0;
    client.on('closed', () => void ended++);
    await Promise.all([client.close(), client.close(), closed]);
    expect(ended).toBe(1);
    await expect(client.configure({})).rejects.toThrow('closed');
  });
});

describe('several tunnels of one process', () => {
  it('have the same addresses without meeting each other', async () => {
    const worlds = await Promise.all([ends('auto'), ends('auto')]);
    const answers = await Promise.all(
      worlds.map(async ({ client, server }, i) => {
        const tcp = server.createServer((socket) => socket.end(`world ${i}`));
        tcp.listen({ port: 80 });
        await once(tcp, 'listening');
        const socket = client.connect({ host: SERVER, port: 80 });
        let text = '';
        for await (const chunk of socket) text += String(chunk);
        return text;
      }),
    );
    expect(answers).toEqual(['world 0', 'world 1']);
    // Each lane of the faster kind holds a thread: beyond a few the portable one serves.
    if (process.platform === 'linux') {
      expect(worlds.flatMap(({ client, server }) => [client.lane, server.lane]).toSorted()).toEqual([
        'linux',
        'linux',
        'portable',
        'portable',
      ]);
    }
  });
});
