import { connect } from 'node:net';
import { connected, openConnection, type NetworkStack, type StreamSocket } from '@sealane/tunnel';
import type { Target } from './address.ts';
import type { ProxyVoice } from './context.ts';

/**
 * A half-open connection to the target, once it has answered. Rejects with an errno as `code`, after `explain`, and when
 * `client` goes away first.
 */
export async function dial(
  network: NetworkStack,
  target: Target,
  timeoutMs: number,
  client: StreamSocket,
  explain: ProxyVoice['explain'],
): Promise<StreamSocket> {
  const gone = new AbortController();
  const onClose = (): void => gone.abort(new Error('the client went away'));
  client.once('close', onClose);
  if (client.destroyed) onClose();
  try {
    if (target.kind === 'port') {
      const { host, port } = target;
      return await openConnection(network, { host, port, allowHalfOpen: true, timeoutMs, signal: gone.signal });
    }
    const socket = connect({ path: target.path, allowHalfOpen: true });
    return await connected(socket, { host: target.path }, timeoutMs, gone.signal);
  } catch (error) {
    throw await explain(error);
  } finally {
    client.removeListener('close', onClose);
  }
}
