/**
 * Opens and closes a tunnel over a TUN interface N times under a flood of pings, all in this process and namespace:
 * `node tunnel-cycles.mjs IFNAME N`. Prints, as JSON, how many descriptors and threads there were at first and at last.
 */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { generatePrivateKey } from '@sealane/protocol';
import { EchoHost, memoryPair, openTun, openTunnel, selectCrypto } from '@sealane/tunnel';

const [name, count] = [process.argv[2], Number(process.argv[3])];
const [here, there] = [Uint8Array.of(10, 9, 0, 1), Uint8Array.of(10, 9, 0, 2)];
const [ours, theirs] = [1, 2].map(() => generatePrivateKey((length) => crypto.getRandomValues(new Uint8Array(length))));
const native = selectCrypto();
const [device, far] = memoryPair({ mtu: 1_420, name: 'far' });
const echo = new EchoHost({ device: far, addresses: [there] });
const peerOf = (key, address, endpoint) => ({
  publicKey: native.publicKey(key),
  allowedIps: [{ address, length: 32 }],
  ...(endpoint === undefined ? {} : { endpoint }),
});
const other = await openTunnel({ device, config: { privateKey: theirs, peers: [peerOf(ours, here)] } });
const endpoint = { address: Uint8Array.of(127, 0, 0, 1), port: (await other.status()).listenPort, scopeId: 0 };

let answered = 0;
async function cycle() {
  const config = { privateKey: ours, peers: [peerOf(theirs, there, endpoint)] };
  const tunnel = await openTunnel({ device: openTun({ name, mtu: 1_420 }), config });
  execFileSync('ip', ['address', 'add', '10.9.0.1/24', 'dev', name]);
  execFileSync('ip', ['link', 'set', 'up', 'dev', name]);
  const traffic = spawn('ping', ['-q', '-i', '0.002', '10.9.0.2'], { stdio: 'ignore' });
  const ended = once(traffic, 'exit');
  for (const end = Date.now() + 10_000; Date.now() < end; await sleep(5)) {
    if ((await tunnel.status()).device.peers[0].rxBytes <= 1_000) continue;
    answered += 1;
    break;
  }
  await tunnel.close();
  traffic.kill();
  await ended;
}

const counts = () => ({
  descriptors: readdirSync('/proc/self/fd').length,
  threads: readdirSync('/proc/self/task').length,
});
// What is loaded with the first use stays.
for (let i = 0; i < 3; i++) await cycle();
await sleep(200);
const first = counts();
answered = 0;
for (let i = 0; i < count; i++) await cycle();
await sleep(200);
const last = counts();
await Promise.all([other.close(), echo.close()]);
console.log(JSON.stringify({ first, last, answered }));
