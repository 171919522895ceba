/** What becomes of datagrams whose target has another address family, no address, or nobody who listens. */
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { hostNetwork, type NetworkStack, type RemoteAddress, TunnelNetwork } from '@sealane/tunnel';
import { afterEach, expect, it } from 'vitest';
import { until } from '../../../../test/support/lab.ts';
import { stackOf, wire } from '../../../tunnel/test/support/stacks.ts';
import { parseLocalForward, parseRemoteForward } from '../../src/proxy/address.ts';
import { Complaints } from '../../src/proxy/complaints.ts';
import { openProxy } from '../../src/proxy/open-proxy.ts';

let closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.toReversed()) await close();
  closers = [];
});

/** The computer's network, but for its names. */
function naming(resolve: NetworkStack['resolve']): NetworkStack {
  return { ...hostNetwork, resolve };
}

/** Forwards to `target`; resolves to a client's socket, and to what the person at the screen reads. */
async function forward(target: string, network: NetworkStack): Promise<{ client: Socket; said: string[] }> {
  const said: string[] = [];
  const complaints = new Complaints((line) => said.push(line));
  const proxy = await openProxy({ local: [parseLocalForward(`0:${target}/udp`)] }, network, { complaints });
  closers.push(() => proxy.close());
  const client = createSocket('udp4');
  closers.push(() => client.close());
  client.connect(Number(/:(\d+)\/udp/.exec(proxy.listening[0]!)![1]), '127.0.0.1');
  await once(client, 'connect');
  return { client, said };
}

async function echo(type: 'udp4' | 'udp6', port = 0): Promise<number> {
  const socket = createSocket(type);
  socket.on('message', (message, from) => socket.send(message, from.port, from.address));
  socket.bind(port, type === 'udp4' ? '127.0.0.1' : '::1');
  await once(socket, 'listening');
  closers.push(() => socket.close());
  return socket.address().port;
}

async function closedPort(): Promise<number> {
  const socket = createSocket('udp4').bind(0, '127.0.0.1');
  await once(socket, 'listening');
  const { port } = socket.address();
  socket.close();
  await once(socket, 'close');
  return port;
}

it('goes to an IPv6 address when the name has no other', async () => {
  const port = await echo('udp6');
  const { client, said } = await forward(
    `six.test:${port}`,
    naming(() => Promise.resolve(['::1'])),
  );
  client.send('hello');
  const [answer] = (await once(client, 'message')) as [Buffer];
  expect([answer.toString(), said]).toEqual(['hello', []]);
});

it('goes to the IPv4 address of a name that has both', async () => {
  const port = await echo('udp4');
  const { client } = await forward(
    `both.test:${port}`,
    naming(() => Promise.resolve(['::1', '127.0.0.1'])),
  );
  client.send('hello');
  expect(String(((await once(client, 'message')) as [Buffer])[0])).toBe('hello');
});

it('says once that a name has no address, and how many datagrams that cost when it has one', async () => {
  const port = await echo('udp4');
  let lookups = 0;
  let isKnown = false;
  const network = naming((name) => {
    lookups++;
    const error = Object.assign(new Error(`getaddrinfo ENOTFOUND ${name}`), { code: 'ENOTFOUND' });
    return isKnown ? Promise.resolve(['127.0.0.1']) : Promise.reject(error);
  });
  const { client, said } = await forward(`late.test:${port}`, network);
  for (let i = 1; i <= 3; i++) {
    client.send('lost');
    await until(`lookup ${i}`, () => lookups === i);
  }
  expect(said).toEqual([`late.test:${port}/udp: the name has no address: datagrams are lost`]);
  isKnown = true;
  client.send('found');
  expect(String(((await once(client, 'message')) as [Buffer])[0])).toBe('found');
  expect(said.slice(1)).toEqual([`late.test:${port}/udp answers again: 3 datagrams were lost`]);
});

it('says once that nobody listens at the target', async () => {
  const port = await closedPort();
  const { client, said } = await forward(`127.0.0.1:${port}`, hostNetwork);
  const line = `127.0.0.1:${port}/udp: the port is closed: datagrams are lost`;
  await until('the refusal', () => {
    client.send('lost');
    return said.length > 0;
  });
  await echo('udp4', port);
  const answered = once(client, 'message');
  const again = setInterval(() => client.send('found'), 25);
  await answered;
  clearInterval(again);
  expect(said).toEqual([line, expect.stringMatching(/ answers again: \d+ datagrams? w(as|ere) lost$/)]);
});

it('answers from the address that was spoken to, whichever of the tunnel it is', async () => {
  const addresses = ['127.88.0.2', '127.88.0.3', 'fd88::2', 'fd88::3'];
  const peers = { udp4: '127.88.0.9', udp6: 'fd88::9' } as const;
  const [own, far] = [stackOf('own', ...addresses), stackOf('far', ...Object.values(peers))];
  closers.push(
    () => own.close(),
    () => far.close(),
  );
  wire(own, far);
  const [tunnel, peer] = [own, far].map((device) => new TunnelNetwork(device, { families: [4, 6] }));
  const forwards = [`53:127.0.0.1:${await echo('udp4')}/udp`, `54:127.0.0.1:${await closedPort()}/udp`];
  const proxy = await openProxy({ remote: forwards.map((text) => parseRemoteForward(text)) }, tunnel!);
  closers.push(() => proxy.close());
  for (const type of ['udp4', 'udp6'] as const) {
    const sender = peer!.createSocket(type);
    sender.bind(4000, peers[type]);
    for (const address of addresses.filter((text) => text.includes(':') === (type === 'udp6'))) {
      sender.send(Buffer.from(`to ${address}`), 53, address);
      const [answer, from] = (await once(sender, 'message')) as [Buffer, RemoteAddress];
      expect([answer.toString(), from.address, from.port]).toEqual([`to ${address}`, address, 53]);
      const asking = peer!.createSocket(type);
      const refused = once(asking, 'error');
      asking.connect(54, address, () => asking.send(Buffer.from('x')));
      expect((await refused)[0]).toMatchObject({ code: 'ECONNREFUSED', address, port: 54 });
    }
  }
});
