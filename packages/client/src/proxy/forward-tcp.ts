/** One port here for one target there (`-L`), or the other way round (`-R`). */
import { once } from 'node:events';
import { createServer } from 'node:net';
import { abortConnection, joinConnections, type NetworkStack, type StreamSocket } from '@sealane/tunnel';
import { formatTarget, type Forward, type Target } from './address.ts';
import { errorCode } from '../errors.ts';
import { type ForwardContext, LOOKUP_FAILURES, type ProxyContext } from './context.ts';
import { dial } from './dial.ts';
import { listen, listenError, type Listener } from './listener.ts';
import { notRoutedIn } from './tunnel-health.ts';

/** Listens on this computer and connects through the context's network. CliError when it cannot listen. */
export function forwardLocalTcp({ listen: address, target }: Forward, context: ProxyContext): Promise<Listener> {
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (client) => {
    void carry(client, context.network, target, context);
  });
  return listen(server, address, context.limits.maxClients);
}

/** Listens in the tunnel and connects from this computer. CliError when it cannot listen. */
export async function forwardRemoteTcp(
  { listen: address, target }: Forward,
  tunnel: NetworkStack,
  host: NetworkStack,
  context: ForwardContext,
): Promise<Listener> {
  if (address.kind === 'path') throw new TypeError('listen must be a port: tunnels have no paths');
  const clients = new Set<StreamSocket>();
  const server = tunnel.createServer({ allowHalfOpen: true }, (client) => {
    if (clients.size >= context.limits.maxClients) {
      abortConnection(client);
      return;
    }
    clients.add(client);
    client.once('close', () => clients.delete(client));
    void carry(client, host, target, context);
  });
  try {
    const listening = once(server, 'listening');
    server.listen({ port: address.port, ...(address.host !== '' && { host: address.host }) });
    await listening;
  } catch (cause) {
    throw listenError(address, cause);
  }
  const bound = server.address();
  const port = bound !== null && typeof bound === 'object' ? bound.port : address.port;
  // Not until the server says that it is closed: a handshake whose other side is gone would hold it up.
  const close = async (): Promise<void> => {
    server.close();
    for (const client of clients) client.destroy();
  };
  return { where: `${formatTarget({ ...address, port })} of the tunnel`, close };
}

async function carry(
  client: StreamSocket,
  network: NetworkStack,
  target: Target,
  { limits, explain, complaints }: ForwardContext,
): Promise<void> {
  client.on('error', () => undefined);
  const where = formatTarget(target);
  try {
    const far = await dial(network, target, limits.connectMs, client, explain);
    complaints.settle(where, (times) => `${where} can be reached again, after ${times} failed connections`);
    joinConnections(client, far);
  } catch (error) {
    // A reset is all that a forward can say to the client.
    abortConnection(client);
    const why = LOOKUP_FAILURES[errorCode(error) ?? ''];
    if (why !== undefined && notRoutedIn(error) === undefined) complaints.raise(where, `${where}: ${why}`);
  }
}
