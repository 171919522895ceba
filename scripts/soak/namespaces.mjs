/** The rig as root on Linux: TUN interfaces in network namespaces that this run makes and removes. */
import { readFileSync, writeFileSync } from 'node:fs';
import { Builder } from './rig.mjs';

const ECHO_PORT = 7_007;
const POOLS = ['10.91.0.0/24', '10.92.0.0/24'];
const PORTS = [51_820, 51_821];
const OUTER = { client: '192.0.2.1', guest: '192.0.2.65' };

/** @returns {Promise<import('./rig.mjs').Rig>} */
export async function inNamespaces(context) {
  const builder = new Builder(context);
  const tag = process.pid.toString(36);
  const hosts = await makeHosts(builder, tag);
  const inside = (role) => ['ip', 'netns', 'exec', hosts[role]];
  const [client, guest, roamer] = [`skc${tag}`, `skg${tag}`, `skr${tag}`];
  const first = await builder.state('first', `${OUTER.client}:${PORTS[0]}`, POOLS[0], [client, guest]);
  const second = await builder.state('second', `${OUTER.client}:${PORTS[1]}`, POOLS[1], [roamer]);
  const guestConfig = first.configs[1];
  const moved = readFileSync(guestConfig, 'utf8').replace(/^Endpoint = .*$/m, `Endpoint = ${OUTER.guest}:${PORTS[0]}`);
  writeFileSync(guestConfig, moved, { mode: 0o600 });

  const serve = (name, state, device) =>
    builder.start(name, 'sealaned', ['run', '--json', '--state', state, '--interface', device], inside('server'));
  const up = (name, config, role) => builder.start(name, 'sealane', ['up', config], inside(role));
  const reaches = (role, target) => async () => {
    const ping = builder.processes.command([...inside(role), 'ping', '-n', '-c', '1', '-W', '1', target]);
    return (await ping.done).code === 0;
  };

  await builder.echo(ECHO_PORT, inside('server'));
  const server = serve('server', first.state, `sks${tag}`);
  const secondServer = serve('second server', second.state, `skt${tag}`);
  await Promise.all([builder.ready(server), builder.ready(secondServer)]);
  const lasting = [
    { name: 'server', running: server },
    { name: 'client', running: up('client', first.configs[0], 'client') },
    { name: 'roamer', running: up('roamer', second.configs[0], 'client') },
  ];
  const restarted = [
    {
      name: 'guest',
      running: up('guest', guestConfig, 'guest'),
      start: () => up('guest', guestConfig, 'guest'),
      reach: reaches('guest', '10.91.0.1'),
    },
    {
      name: 'second server',
      running: secondServer,
      start: () => serve('second server', second.state, `skt${tag}`),
      reach: reaches('client', '10.92.0.1'),
    },
  ];
  await builder.reached('the client', reaches('client', '10.91.0.1'));
  for (const { name, reach } of restarted) await builder.reached(name, reach);

  const link = (role, device, state) => builder.ip('-n', hosts[role], 'link', 'set', device, state);
  return {
    kind: 'TUN interfaces in network namespaces',
    lasting,
    restarted,
    state: first.state,
    client,
    reloads: true,
    sender: builder.sender('10.91.0.1', ECHO_PORT, inside('client')),
    flaps: [
      { name: 'cable', down: () => link('client', 'outer', 'down'), up: () => link('client', 'outer', 'up') },
      {
        name: "server's interface",
        down: () => link('server', `sks${tag}`, 'down'),
        up: () => link('server', `sks${tag}`, 'up'),
      },
      {
        name: "client's interface",
        down: () => link('client', client, 'down'),
        up: async () => {
          await link('client', client, 'up');
          // Routes go with the link, as for any interface.
          await builder.ip('-n', hosts.client, 'route', 'replace', POOLS[0], 'dev', client);
        },
      },
    ],
  };
}

/** A host for the servers with a cable to each of two others. */
async function makeHosts(builder, tag) {
  const hosts = { server: `soak-s-${tag}`, client: `soak-c-${tag}`, guest: `soak-g-${tag}` };
  for (const name of Object.values(hosts)) {
    await builder.ip('netns', 'add', name);
    builder.undo.unshift(() => builder.ip('netns', 'del', name).catch(() => undefined));
    await builder.ip('-n', name, 'link', 'set', 'lo', 'up');
  }
  for (const [i, role] of ['client', 'guest'].entries()) {
    const cable = `to-${role}`;
    const ends = ['netns', hosts.server, 'type', 'veth', 'peer', 'name', 'outer', 'netns', hosts[role]];
    await builder.ip('link', 'add', cable, ...ends);
    await builder.ip('-n', hosts.server, 'address', 'add', `192.0.2.${64 * i + 1}/26`, 'dev', cable);
    await builder.ip('-n', hosts[role], 'address', 'add', `192.0.2.${64 * i + 2}/26`, 'dev', 'outer');
    await builder.ip('-n', hosts.server, 'link', 'set', cable, 'up');
    await builder.ip('-n', hosts[role], 'link', 'set', 'outer', 'up');
  }
  return hosts;
}
