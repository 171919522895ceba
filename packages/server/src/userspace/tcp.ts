import {
  abortConnection,
  type ConnectionRequest,
  joinConnections,
  openConnection,
  relayNetwork,
  type Rejection,
} from '@sealane/tunnel';
import { errorCode } from '../errors.ts';

/** Dials where the peer wants to go, and answers the peer as the destination answers. */
export async function carryConnection(
  request: ConnectionRequest,
  connectMs: number,
  open: Set<{ close(): void }>,
): Promise<void> {
  const gone = new AbortController();
  const entry = { close: () => gone.abort(new Error('closed')) };
  open.add(entry);
  request.onAbort = entry.close;
  const { address: host, port } = request;
  try {
    const far = await openConnection(relayNetwork, {
      host,
      port,
      allowHalfOpen: true,
      timeoutMs: connectMs,
      signal: gone.signal,
    });
    far.once('close', () => open.delete(entry));
    if (!request.isOpen || gone.signal.aborted) {
      abortConnection(far);
      return;
    }
    const near = request.accept();
    entry.close = () => {
      near.destroy();
      far.destroy();
    };
    joinConnections(near, far);
  } catch (error) {
    open.delete(entry);
    request.reject(rejectionFor(error));
  }
}

/** What an own connection would have seen of the same failure. */
const REJECTIONS: Readonly<Record<string, Rejection>> = {
  ECONNREFUSED: 'reset',
  ECONNRESET: 'reset',
  ENETUNREACH: 'network-unreachable',
  EADDRNOTAVAIL: 'network-unreachable',
  EACCES: 'prohibited',
  EPERM: 'prohibited',
  // Ours to solve: the peer may well try again.
  EMFILE: 'drop',
  ENFILE: 'drop',
  ENOBUFS: 'drop',
};

function rejectionFor(error: unknown): Rejection {
  return REJECTIONS[errorCode(error) ?? ''] ?? 'host-unreachable';
}
