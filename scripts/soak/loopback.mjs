/** The rig for anybody: servers and clients without an interface, joined over 127.0.0.1, the traffic through forwarded ports. */
import { createServer, connect } from 'node:net';
import { once } from 'node:events';
import { Builder } from './rig.mjs';

const PATIENCE = 1_000;

/** @returns {Promise<import('./rig.mjs').Rig>} */
export async function overLoopback(context) {
  const builder = new Builder(context);
  const tag = process.pid.toString(36);
  const [echoPort, firstPort, secondPort, clientPort, guestPort, roamerPort] = await freePorts(6);
  const [client, guest, roamer] = [`skc${tag}`, `skg${tag}`, `skr${tag}`];
  const behind = '127.0.0.1/32';
  const first = await builder.state('first', `127.0.0.1:${firstPort}`, '127.91.0.0/24', [client, guest], behind);
  const second = await builder.state('second', `127.0.0.1:${secondPort}`, '127.92.0.0/24', [roamer], behind);

  const serve = (name, state) =>
    builder.start(name, 'sealaned', [
      'run',
      '--json',
      '--userspace',
      '--allow',
      `${behind}:${echoPort}`,
      '--state',
      state,
    ]);
  const proxy = (name, config, port) => {
    const forward = `127.0.0.1:${port}:127.0.0.1:${echoPort}`;
    const options = name === 'client' ? ['--name', client] : [];
    return builder.start(name, 'sealane', ['proxy', config, '-L', forward, '-L', `${forward}/udp`, ...options]);
  };

  await builder.echo(echoPort);
  const server = serve('server', first.state);
  const secondServer = serve('second server', second.state);
  await Promise.all([builder.ready(server), builder.ready(secondServer)]);
  const lasting = [
    { name: 'server', running: server },
    { name: 'client', running: proxy('client', first.configs[0], clientPort) },
    { name: 'roamer', running: proxy('roamer', second.configs[0], roamerPort) },
  ];
  const restarted = [
    {
      name: 'guest',
      running: proxy('guest', first.configs[1], guestPort),
      start: () => proxy('guest', first.configs[1], guestPort),
      reach: () => echoes(guestPort),
    },
    {
      name: 'second server',
      running: secondServer,
      start: () => serve('second server', second.state),
      reach: () => echoes(roamerPort),
    },
  ];
  await builder.reached('the client', () => echoes(clientPort));
  for (const { name, reach } of restarted) await builder.reached(name, reach);
  return {
    kind: 'over loopback, without an interface',
    lasting,
    restarted,
    state: first.state,
    client,
    reloads: false,
    sender: builder.sender('127.0.0.1', clientPort),
    flaps: [],
  };
}

/** Whether a byte comes back from there within a second. */
function echoes(port) {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => socket.write('?'));
    const end = (result) => {
      clearTimeout(late);
      socket.destroy();
      resolve(result);
    };
    const late = setTimeout(() => end(false), PATIENCE);
    socket.on('data', () => end(true));
    // A refusal comes at once: asking again without a pause would be busy waiting.
    socket.on('error', () => undefined);
    socket.on('end', () => undefined);
  });
}

/** Ports that were free a moment ago. */
async function freePorts(count) {
  const servers = Array.from({ length: count }, () => createServer().listen(0, '127.0.0.1'));
  await Promise.all(servers.map((server) => once(server, 'listening')));
  const ports = servers.map((server) => /** @type {import('node:net').AddressInfo} */ (server.address()).port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}
