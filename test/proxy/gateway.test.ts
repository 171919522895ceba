import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import * as net from 'node:net';
import { randomBytes } from 'node:crypto';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { type IpAddress, parseAddress as parseIpAddress } from '@sealane/netstack';
import { PacketBatch } from '@sealane/protocol';
import { openConnection, type PacketDevice, parseAddress, StackDevice, TunnelNetwork } from '@sealane/tunnel';
import { afterEach, describe, expect, it } from 'vitest';
import { until } from '../support/lab.ts';
import { type GatewayOptions, startUserspaceGateway } from '../../packages/server/src/userspace/gateway.ts';
import { parseRule, type Rule } from '../../packages/server/src/userspace/policy.ts';

/** The peers' network lies in the loopback range too: a slip stays on this computer. */
const SERVER = '127.77.0.1';
const PEER = '127.77.0.2';

let closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.toReversed()) await close();
  closers = [];
});

interface World {
  readonly peer: TunnelNetwork;
  readonly peerDevice: StackDevice;
  readonly gateway: StackDevice;
}

/** A peer's stack wired to a gateway; `allow` has to name loopback for anything to be reached. */
function world({
  peerAddresses = [PEER, 'fd77::2'],
  ...options
}: Partial<GatewayOptions> & { readonly peerAddresses?: readonly string[] } = {}): World {
  const gateway = startUserspaceGateway({
    addresses: [`${SERVER}/24`],
    mtu: 1420,
    allow: rules('127.0.0.0/8', '::1/128'),
    ...options,
  });
  const peerDevice = new StackDevice({
    name: 'peer',
    mtu: 1420,
    addresses: peerAddresses.map((text) => parseAddress(text)!),
  });
  wire(gateway, peerDevice);
  closers.push(() => Promise.all([gateway.close(), peerDevice.close()]));
  return { peer: new TunnelNetwork(peerDevice, { families: [4, 6] }), peerDevice, gateway };
}

function rules(...texts: readonly string[]): readonly Rule[] {
  return texts.map((text) => parseRule(text)!);
}

function ipAddress(text: string): IpAddress {
  return parseIpAddress(text)!;
}

function wire(a: PacketDevice, b: PacketDevice): void {
  for (const [from, to] of [
    [a, b],
    [b, a],
  ] as const) {
    const batch = new PacketBatch(new Uint8Array(128 * 1_600), 128);
    from.start({
      readable: () => {
        for (;;) {
          batch.clear();
          if (from.read(batch) === 0) return;
          for (let i = 0; i < batch.count; i++) to.write(batch.buffer, batch.offsets[i]!, batch.lengths[i]!);
        }
      },
      link: () => undefined,
      closed: () => undefined,
    });
  }
}

async function serve(listener: (socket: net.Socket) => void, host = '127.0.0.1'): Promise<number> {
  const server = net.createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => undefined);
    listener(socket);
  });
  server.listen(0, host);
  await once(server, 'listening');
  closers.push(() => server.close());
  return (server.address() as net.AddressInfo).port;
}

async function closedPort(): Promise<number> {
  const server = net.createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as net.AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

async function udpEcho(): Promise<Socket> {
  const echo = createSocket('udp4');
  echo.on('message', (message, from) => echo.send(message, from.port, from.address));
  echo.bind(0, '127.0.0.1');
  await once(echo, 'listening');
  closers.push(() => echo.close());
  return echo;
}

describe('the gateway', () => {
  it('carries connections of both families with their half-closes', async () => {
    const { peer } = world();
    for (const host of ['127.0.0.1', '::1']) {
      const port = await serve((socket) => {
        let length = 0;
        socket.on('data', (chunk: Buffer) => (length += chunk.length));
        socket.once('end', () => socket.end(`got ${length}`));
      }, host);
      const socket = await openConnection(peer, { host, port, allowHalfOpen: true });
      socket.end(randomBytes(1_000_000));
      let answer = '';
      for await (const chunk of socket) answer += String(chunk);
      expect(answer).toBe('got 1000000');
    }
  });

  it('keeps what many connections carry at once apart, and waits for whoever reads slowly', async () => {
    const { peer } = world();
    const port = await serve((socket) => void socket.pipe(socket));
    const exchanges = Array.from({ length: 12 }, async (_, i) => {
      const sent = randomBytes(1_500_000 + 4_099 * i);
      const socket = await openConnection(peer, { host: '127.0.0.1', port, allowHalfOpen: true });
      socket.end(sent);
      const pieces: Buffer[] = [];
      for await (const piece of socket) {
        // A copy, as the comparison comes at the end.
        pieces.push(Buffer.from(piece as Buffer));
        if (pieces.length % (3 + i) === 0) await sleep(i % 4);
      }
      return Buffer.concat(pieces).equals(sent);
    });
    expect(await Promise.all(exchanges)).toEqual(exchanges.map(() => true));
  });

  it('refuses with what the destination said, after it has', async () => {
    const { peer } = world();
    await expect(openConnection(peer, { host: '127.0.0.1', port: await closedPort() })).rejects.toMatchObject({
      code: 'ECONNREFUSED',
    });
    // A link-local address without its link: the system knows no way, and nothing leaves this computer.
    const linked = world({ allow: rules('fe80::/10') });
    await expect(openConnection(linked.peer, { host: 'fe80::1', port: 80 })).rejects.toMatchObject({
      code: 'EHOSTUNREACH',
    });
  });

  it('keeps peers from what the policy does not allow, and from each other', async () => {
    const port = await serve((socket) => socket.end('secret'));
    const { peer } = world({ allow: [] });
    for (const host of ['127.0.0.1', '::1', '169.254.169.254', '127.77.0.9']) {
      await expect(openConnection(peer, { host, port })).rejects.toMatchObject({ code: 'EACCES' });
    }
    await expect(openConnection(peer, { host: SERVER, port })).rejects.toMatchObject({ code: 'ECONNREFUSED' });

    // All of loopback is opened here, where the peers' own network lies, too: that stays closed.
    const wide = world({ allow: rules('127.0.0.0/8') });
    await expect(openConnection(wide.peer, { host: '127.77.0.9', port })).rejects.toMatchObject({ code: 'EACCES' });
    const socket = await openConnection(wide.peer, { host: '127.0.0.1', port });
    expect(await text(socket)).toBe('secret');
  });

  it('answers echo requests to the server alone', async () => {
    const { peerDevice } = world();
    const replies: string[] = [];
    peerDevice.stack.onEchoReply = ({ remote }) => replies.push(remote.toString());
    for (const text of [SERVER, '127.0.0.1']) peerDevice.stack.ping(ipAddress(text), 1, 1, Buffer.from('hello'));
    await sleep(100);
    expect(replies).toEqual([SERVER]);
  });

  it('carries datagrams, each flow through a socket of its own', async () => {
    const echo = await udpEcho();
    const senders = new Set<number>();
    echo.on('message', (_message, from) => senders.add(from.port));
    const { peer } = world();
    for (let i = 0; i < 3; i++) {
      const socket = peer.createSocket('udp4');
      const reply = once(socket, 'message') as Promise<[Uint8Array]>;
      socket.send(Buffer.from(`flow ${i}`), echo.address().port, '127.0.0.1');
      expect(Buffer.from((await reply)[0]).toString()).toBe(`flow ${i}`);
      socket.close();
    }
    expect(senders.size).toBe(3);
  });

  it('tells by ICMP that a port is closed once the system has said so', async () => {
    const { peerDevice } = world();
    const told: string[] = [];
    const socket = peerDevice.stack.bindUdp({
      onMessage: () => undefined,
      onUnreachable: (_remote, reason) => told.push(reason),
    });
    const remote = { address: ipAddress('127.0.0.1'), port: await closedPort() };
    socket.send(Buffer.from('x'), remote);
    for (let i = 0; i < 100 && told.length === 0; i++) await sleep(10);
    expect(told).toEqual(['port-unreachable']);
  });

  it('brings what the system or the policy says of a destination to the socket of the peer', async () => {
    const { peer } = world({ allow: rules('127.0.0.1/32', 'fe80::/10') });
    for (const [address, port, code] of [
      ['127.0.0.1', await closedPort(), 'ECONNREFUSED'],
      // Without its link the system knows no way to it.
      ['fe80::1', 9, 'EHOSTUNREACH'],
      ['127.0.0.9', 9, 'EACCES'],
      ['fd00:ec2::254', 80, 'EACCES'],
      [SERVER, 9, 'ECONNREFUSED'],
    ] as const) {
      const socket = peer.createSocket(address.includes(':') ? 'udp6' : 'udp4');
      socket.connect(port, address);
      await once(socket, 'connect');
      socket.send(Buffer.from('x'));
      const [error] = (await once(socket, 'error')) as unknown[];
      expect(error, address).toMatchObject({ code, address, port });
      socket.close();
    }
  });

  it('bounds the connections and flows of one peer', async () => {
    const port = await serve((socket) => socket.resume());
    const echo = await udpEcho();
    const { peer, gateway } = world({ limits: { maxConnectionsPerSource: 3, maxUdpFlowsPerSource: 2 } });
    const standing = await Promise.all(
      Array.from({ length: 3 }, () => openConnection(peer, { host: '127.0.0.1', port })),
    );
    await expect(openConnection(peer, { host: '127.0.0.1', port, timeoutMs: 300 })).rejects.toMatchObject({
      code: 'ETIMEDOUT',
    });
    const ended = standing.map((socket) => once(socket, 'close'));
    for (const socket of standing) socket.resetAndDestroy();
    await Promise.all(ended);
    (await openConnection(peer, { host: '127.0.0.1', port, timeoutMs: 5_000 })).destroy();
    const refused = gateway.stack.drops['limit-source'];
    let answers = 0;
    for (let i = 0; i < 4; i++) {
      const socket = peer.createSocket('udp4');
      socket.on('message', () => answers++);
      socket.send(Buffer.from('x'), echo.address().port, '127.0.0.1');
    }
    // What comes after them finds them decided.
    await until('two flows to be refused', () => gateway.stack.drops['limit-source'] >= refused + 2);
    await until('the others to be answered', () => answers >= 2);
    expect(answers).toBe(2);
  });

  it('gives a peer one allowance for all of its addresses, and every peer its own', async () => {
    const port = await serve((socket) => socket.resume());
    const echo = await udpEcho();
    const owners = new Map([
      [PEER, 'ann'],
      ['fd77::2', 'ann'],
      ['127.77.0.3', 'ann'],
      ['127.77.0.4', 'bob'],
    ]);
    const { peer, gateway } = world({
      addresses: [`${SERVER}/24`, 'fd77::1/64'],
      peerAddresses: [...owners.keys()],
      limits: { maxConnectionsPerSource: 3, maxUdpFlowsPerSource: 2, maxHalfOpenPerSource: 4 },
      peerOf: (address) => owners.get(address),
    });
    const from = (localAddress: string): Promise<unknown> =>
      openConnection(peer, { host: '127.0.0.1', port, localAddress });
    const port6 = await serve((socket) => socket.resume(), '::1');
    await openConnection(peer, { host: '::1', port: port6, localAddress: 'fd77::2' });
    await from(PEER);
    await from('127.77.0.3');
    for (const address of ['127.77.0.3', PEER]) {
      const refused = gateway.stack.drops['limit-source'];
      void from(address).catch((error: unknown) => error);
      await until('the peer to be held to its limit', () => gateway.stack.drops['limit-source'] > refused);
    }
    for (let i = 0; i < 3; i++) await from('127.77.0.4');
    expect(gateway.stack.status()).toMatchObject({ connections: 6, sources: 2 });

    const before = gateway.stack.drops['limit-source'];
    let answers = 0;
    for (const [i, address] of [PEER, '127.77.0.3', PEER, '127.77.0.4', '127.77.0.4'].entries()) {
      const socket = peer.createSocket('udp4');
      socket.on('message', () => answers++);
      socket.bind(4_000 + i, address);
      await once(socket, 'listening');
      socket.send(Buffer.from('x'), echo.address().port, '127.0.0.1');
    }
    await until('one flow to be refused', () => gateway.stack.drops['limit-source'] > before);
    await until('the others to be answered', () => answers >= 4);
    expect([answers, gateway.stack.status().udpFlows]).toEqual([4, 4]);
  });

  it('lets a destination go when the peer resets, and the peer when the destination does', async () => {
    const gone = new Promise<unknown>((resolve) => {
      void serve((socket) => {
        socket.resume();
        socket.once('error', resolve);
      }).then(async (port) => {
        const { peer } = world();
        const socket = await openConnection(peer, { host: '127.0.0.1', port });
        socket.write('x');
        await sleep(50);
        socket.resetAndDestroy();
        return undefined;
      });
    });
    expect(await gone).toMatchObject({ code: 'ECONNRESET' });
    const port = await serve((socket) => socket.resetAndDestroy());
    const socket = await openConnection(world().peer, { host: '127.0.0.1', port }).catch((error: unknown) => error);
    if (socket instanceof Error) expect(socket).toMatchObject({ code: 'ECONNREFUSED' });
    else {
      const stream = socket as net.Socket;
      stream.resume();
      const [error] = (await once(stream, 'error')) as unknown[];
      expect(error).toMatchObject({ code: 'ECONNRESET' });
    }
  });

  it('ends everything when it closes', async () => {
    const echo = await udpEcho();
    let ended = 0;
    const port = await serve((socket) => {
      socket.resume();
      socket.once('end', () => ended++);
    });
    const { peer, gateway } = world();
    await openConnection(peer, { host: '127.0.0.1', port });
    const flow = peer.createSocket('udp4');
    flow.send(Buffer.from('x'), echo.address().port, '127.0.0.1');
    await once(flow, 'message');
    await gateway.close();
    for (let i = 0; i < 100 && ended === 0; i++) await sleep(10);
    expect(ended).toBe(1);
  });
});
