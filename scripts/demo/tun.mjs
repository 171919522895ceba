import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { ms } from './display.mjs';
import { check, readyEntry } from './loopback.mjs';
import { observe, plural } from './observer.mjs';

const OUTER = { server: '192.0.2.1', client: '192.0.2.2' };
const POOL = '10.77.0.0/24';
const INNER = '10.77.0.1';
const PORT = 51820;
const PINGS = 50;

/** Server and client with TUN interfaces, each in a network namespace of its own, joined by a virtual cable; `ping` goes through. */
export async function overTun({ keep, directory, display, processes, undo }) {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) {
    throw new Error('--tun needs Linux and root: run it with sudo, or without --tun');
  }
  if (!existsSync('/dev/net/tun'))
    throw new Error('there is no /dev/net/tun: load the tun module, or run without --tun');
  const state = join(directory, 'server');
  const names = { server: `sealane-s-${process.pid}`, client: `sealane-c-${process.pid}` };
  const interfaces = { server: `sls${process.pid % 100_000}`, client: `slc${process.pid % 100_000}` };
  const config = join(directory, `${interfaces.client}.conf`);
  const ip = (...args) => processes.run(processes.command(['ip', ...args]));
  const inside = (role) => ['ip', 'netns', 'exec', names[role]];
  display.title('Sealane: a server and a client with TUN interfaces, in two network namespaces');

  for (const name of Object.values(names)) {
    await ip('netns', 'add', name);
    undo.unshift(() => ip('netns', 'del', name).catch(() => undefined));
  }
  await ip(
    'link',
    'add',
    'outer',
    'netns',
    names.server,
    'type',
    'veth',
    'peer',
    'name',
    'outer',
    'netns',
    names.client,
  );
  for (const role of ['server', 'client']) {
    await ip('-n', names[role], 'address', 'add', `${OUTER[role]}/24`, 'dev', 'outer');
    for (const link of ['lo', 'outer']) await ip('-n', names[role], 'link', 'set', link, 'up');
  }
  display.step('namespaces', `${names.server} and ${names.client}, joined by a veth pair`);

  const endpoint = `${OUTER.server}:${PORT}`;
  await processes.run(
    processes.program('sealaned', ['init', '--state', state, '--endpoint', endpoint, '--pool', POOL]),
  );
  await processes.run(processes.program('sealaned', ['peer', 'add', 'laptop', '--state', state, '--out', config]));
  const server = processes.program(
    'sealaned',
    ['run', '--state', state, '--interface', interfaces.server, '--no-forwarding', '--json'],
    inside('server'),
  );
  const ready = await processes.line(server, readyEntry);
  display.step(
    'sealaned runs',
    `interface ${ready.interface}, UDP port ${ready.port}, crypto ${ready.crypto}, lane ${ready.lane}`,
  );
  const client = processes.program('sealane', ['up', config], inside('client'));
  const observer = observe(join(state, 'control.sock'), display);
  await answered(processes, inside('client'), client);
  display.step('sealane up', `interface ${interfaces.client}, the first ping is answered`);

  const flood = processes.command([
    ...inside('client'),
    'ping',
    '-n',
    '-q',
    '-i',
    '0.05',
    '-c',
    String(PINGS),
    '-s',
    '1372',
    INNER,
  ]);
  await new Promise((resolve) => setTimeout(resolve, (PINGS * 50) / 2));
  await processes.run(processes.program('sealane', ['rekey', interfaces.client], inside('client')));
  const report = await processes.run(flood);
  await observer.stop();
  const status = JSON.parse(
    await processes.run(processes.program('sealane', ['status', interfaces.client, '--json'], inside('client'))),
  );
  const peer = findPeer(status);
  const received = Number(/(\d+) received/.exec(report)?.[1]);
  const average = Number(/= [\d.]+\/([\d.]+)\//.exec(report)?.[1]);
  if (peer?.handshakeMs !== undefined) display.step('handshake', ms(peer.handshakeMs));
  display.step('ping', `${received} of ${PINGS} packets of 1,400 bytes answered, ${ms(average)} on average`);
  display.step('rekey', `in the middle of it: ${plural(peer?.sessions ?? 0, 'session')}`);
  check(received === PINGS, 'packets were lost');
  check((peer?.sessions ?? 0) >= 2, 'there was no rekey');

  display.summary(`The system's own ping went through both TUN interfaces, with a rekey and without a lost packet.`);
  if (!keep) return;
  display.note('Both run until Ctrl-C. Try, in another terminal:');
  display.note(`  ip netns exec ${names.client} ping ${INNER}`);
  display.note(`  ip netns exec ${names.client} wg show ${interfaces.client}`);
  const ended = await Promise.race([server.done, client.done]);
  throw new Error(`a side of the tunnel ended by itself with exit code ${ended.code}`);
}

/** Waits for the first echo; throws when the client ends before. */
async function answered(processes, inside, client) {
  for (let attempt = 0; attempt < 20; attempt++) {
    const ping = processes.command([...inside, 'ping', '-n', '-c', '1', '-W', '1', INNER]);
    const first = await Promise.race([
      ping.done,
      client.done.then(({ code, stderr }) => ({ code: -1, stderr, ended: code })),
    ]);
    if (first.code === 0) return;
    if ('ended' in first) throw new Error(`sealane up ended with exit code ${first.ended}: ${first.stderr.trim()}`);
    await new Promise((resolve) => setTimeout(resolve, 250));
  }
  throw new Error('no ping was answered through the tunnel');
}

function findPeer(status) {
  const report = Array.isArray(status) ? status[0] : status;
  return report?.peers?.[0];
}
