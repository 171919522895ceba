import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { join } from 'node:path';
import { mebibytes, megabits, ms } from './display.mjs';
import { observe, plural } from './observer.mjs';
import { fetchThroughProxy, serveWeb } from './web.mjs';

const ECHOES = 10;

/** Server and client as processes of this user, packets inside the client and the server process: nothing needs root. */
export async function overLoopback({ bulk, file, keep, directory, display, processes, undo }) {
  const state = join(directory, 'server');
  const config = join(directory, 'laptop.conf');
  const port = await freePort();
  display.title('Sealane: a server and a client, two processes, one encrypted tunnel over 127.0.0.1');

  const pool = '127.77.0.0/24';
  await processes.run(
    processes.program('sealaned', ['init', '--state', state, '--endpoint', `127.0.0.1:${port}`, '--pool', pool]),
  );
  // The web server is behind the server: the client reaches it through the tunnel, which leads 127.0.0.1 there.
  const routes = `${pool},127.0.0.1/32`;
  await processes.run(
    processes.program('sealaned', [
      'peer',
      'add',
      'laptop',
      '--state',
      state,
      '--out',
      config,
      '--allowed-ips',
      routes,
    ]),
  );
  const web = await serveWeb(file, undo);
  display.step('server made', `fresh keys, pool ${pool}, one peer; all in ${directory}`);

  const server = processes.program('sealaned', [
    'run',
    '--state',
    state,
    '--userspace',
    '--json',
    '--allow',
    `127.0.0.1/32:${web.port}`,
  ]);
  const ready = await processes.line(server, readyEntry);
  display.step(
    'sealaned runs',
    `process ${server.child.pid}, UDP port ${ready.port}, crypto ${ready.crypto}, lane ${ready.lane}`,
  );

  const observer = observe(join(state, 'control.sock'), display);
  const options = ['--force', '--count', String(ECHOES), '--bulk', bulk, '--rekey', '--json'];
  const client = processes.program('sealane', ['ping', config, ...options]);
  const { code, stdout, stderr } = await client.done;
  await observer.stop();
  const result = lastJson(stdout);
  if (result === undefined)
    throw new Error(`sealane ended with exit code ${code}: ${stderr.trim() || 'it said nothing'}`);
  if (code !== 0 || result.ok !== true) throw new Error(`sealane ping: ${result.message ?? `exit code ${code}`}`);
  const { bulk: transfer, sessions, roundTripsMs, handshakeMs, sent } = result;

  display.step('handshake', `${ms(handshakeMs)}, process ${client.child.pid} with ${result.crypto}`);
  const sorted = roundTripsMs.toSorted((a, b) => a - b);
  display.step(
    'round trip',
    `${ms(sorted[Math.floor(sorted.length / 2)])} median of ${roundTripsMs.length} ICMP echoes, ${sent - roundTripsMs.length} lost`,
  );
  display.step(
    'bulk',
    `${mebibytes(transfer.bytes)} there and back in ${plural(transfer.packets, 'packet')}: ` +
      `${megabits(transfer.bytes, transfer.elapsedMs)} each way, ${transfer.lost} lost, ${transfer.wrong} wrong`,
  );
  display.step(
    'rekey',
    `in the middle of it: ${plural(sessions, 'session')}, ${plural(sessions - 1, 'rekey')}, fresh keys each`,
  );
  check(sent === ECHOES && roundTripsMs.length === ECHOES, 'echoes were lost');
  check(transfer.lost === 0 && transfer.wrong === 0, 'the bulk transfer lost or altered packets');
  check(sessions >= 2, 'there was no rekey');

  const fetched = await fetchThroughProxy({ web, config, state, directory, display, processes });
  display.summary(
    `${plural(transfer.packets + sent, 'packet')} each way and ${mebibytes(fetched)} of a file through the tunnel, ` +
      'every byte as it was sent, with a rekey in the middle of each.',
  );
  if (!keep) return;
  display.note(`The server runs until Ctrl-C. Try, in another terminal of this checkout:`);
  display.note(`  node packages/client/bin/sealane.js ping ${config} --bulk 20M`);
  display.note(`  node packages/client/bin/sealane.js proxy ${config} --socks5 1080`);
  display.note(`  curl --socks5 127.0.0.1:1080 http://127.0.0.1:${web.port}/`);
  display.note(`  node packages/server/bin/sealaned.js peer list --state ${state}`);
  const { code: ended } = await server.done;
  throw new Error(`sealaned ended by itself with exit code ${ended}`);
}

export function readyEntry(line) {
  try {
    const entry = JSON.parse(line);
    return entry.event === 'ready' ? entry : undefined;
  } catch {
    return undefined;
  }
}

export function check(condition, message) {
  if (!condition) throw new Error(message);
}

function lastJson(text) {
  try {
    return JSON.parse(text.trim().split('\n').at(-1) ?? '');
  } catch {
    return undefined;
  }
}

/** A UDP port that was free a moment ago. */
async function freePort() {
  const socket = createSocket('udp4');
  socket.bind(0);
  await once(socket, 'listening');
  const { port } = socket.address();
  socket.close();
  return port;
}
