/**
 * One process of the rows with many connections: what `sealaned run --userspace` and `sealane proxy --socks5` are made of, with room for
 * more connections than one peer may have there, or the origin behind them. Started by fork(), told what to be, asked for its state.
 */
import { once } from 'node:events';
import { createServer } from 'node:net';
import { openTunnel, parsePrefix, StackDevice, TunnelNetwork } from '@sealane/tunnel';
import { openProxy } from '../../packages/client/dist/proxy/open-proxy.js';
import { startUserspaceGateway } from '../../packages/server/dist/userspace/gateway.js';
import { parseRule } from '../../packages/server/dist/userspace/policy.js';

const MANY = 50_000;
const limits = { maxConnections: MANY, maxConnectionsPerSource: MANY, maxHalfOpen: MANY, maxHalfOpenPerSource: MANY };
/** @type {import('@sealane/netstack').Stack | undefined} */
let stack;

/** @param {{ role: string, keys: Record<string, Uint8Array>, origin?: number, port?: number, socks?: string }} order */
async function become({ role, keys, origin, port = 0, socks = '' }) {
  if (role === 'origin') {
    // Answers with what it hears, and ends when the other side does.
    const server = createServer(
      { allowHalfOpen: true },
      (socket) => void socket.on('error', () => socket.destroy()).pipe(socket),
    );
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return server.address().port;
  }
  const everything = { allowedIps: [parsePrefix('127.0.0.0/8')] };
  if (role === 'server') {
    const rule = parseRule(`127.0.0.1/32:${origin}`);
    const device = startUserspaceGateway({ addresses: ['127.78.0.1/24'], mtu: 1420, allow: [rule], limits });
    stack = device.stack;
    const peers = [{ publicKey: keys.client, ...everything }];
    const tunnel = await openTunnel({ device, config: { privateKey: keys.server, listenPort: 0, peers } });
    return (await tunnel.status()).listenPort;
  }
  const device = new StackDevice({ name: 'bench', mtu: 1420, addresses: [Uint8Array.of(127, 78, 0, 2)], limits });
  stack = device.stack;
  const network = new TunnelNetwork(device, { families: [4] });
  const endpoint = { address: Uint8Array.of(127, 0, 0, 1), port, scopeId: 0 };
  const peers = [{ publicKey: keys.serverPublic, endpoint, ...everything }];
  await openTunnel({ device, config: { privateKey: keys.clientPrivate, listenPort: 0, peers } });
  await openProxy({ socks5: [{ kind: 'path', path: socks }], limits: { maxClients: MANY } }, network);
  return 0;
}

/** What the process holds, after a collection. */
function state() {
  for (let i = 0; i < 3; i++) globalThis.gc?.();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  const { connections, halfOpen, timeWaits, udpFlows, reassemblies, sources, timers } = stack?.status() ?? {};
  const entries = { connections, halfOpen, timeWaits, udpFlows, reassemblies, sources, timers };
  return { heap: heapUsed + arrayBuffers, entries, resources: process.getActiveResourcesInfo().length };
}

process.on('message', (/** @type {any} */ order) => {
  const answer = order.role === undefined ? Promise.resolve(state()) : become(order);
  void answer.then((value) => process.send?.(value));
});
process.on('disconnect', () => process.exit(0));
