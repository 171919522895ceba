/**
 * A peer that comes anew again and again, for measurements: `node honest-peer.mjs CONFIG TARGET`; for each line on standard input it connects
 * afresh and prints, as JSON, the milliseconds until its first echo came back (absent after 20 s) and how many cookies it took.
 */
import { createInterface } from 'node:readline';
import {
  EchoClient,
  loadConfig,
  memoryPair,
  openTunnel,
  parseAddress,
  resolveEndpoints,
  toUpdate,
} from '@sealane/tunnel';

const [, , file = '', target = ''] = process.argv;
const config = await loadConfig(file);
const read = async () => toUpdate(await loadConfig(file), await resolveEndpoints(config));
const [device, far] = memoryPair({ mtu: 1_420, name: 'honest' });
const update = await read();
const tunnel = await openTunnel({ device, lane: 'portable', config: { ...update, listenPort: 0 } });
const echo = new EchoClient({ device: far, addresses: config.interface.addresses.map(({ address }) => address) });
let cookies = 0;
tunnel.events((event) => (cookies += Number(event.type === 'cookie-received')));
console.log('ready');
for await (const line of createInterface({ input: process.stdin })) {
  if (line !== 'connect') break;
  cookies = 0;
  const fresh = await read();
  await tunnel.configure({ peers: (fresh.peers ?? []).map(({ publicKey }) => ({ publicKey, remove: true })) });
  await tunnel.configure({ peers: fresh.peers ?? [] });
  const from = performance.now();
  const answered = await echo.ping({ target: parseAddress(target) ?? new Uint8Array(4), timeoutMs: 20_000 });
  console.log(JSON.stringify({ ...(answered !== undefined && { ms: performance.now() - from }), cookies }));
}
await tunnel.close();
process.exit(0);
