import { abortConnection, type ConnectionRequest, hostNetwork, joinConnections, openConnection, type Rejection } from '@sealane/tunnel';
import { errorCode } from '../errors.ts';

/** Dials where the peer wants to go, and answers the peer as the destination answers. */
export function carryConnection(
  request: ConnectionRequest,
  connectMs: number,
  open: Set<{ close(): void }>,
): void {
  const gone = new AbortController();
  const entry = { close: () => gone.abort(new Error('closed')) };
  open.add(entry);
  request.onAbort = entry.close;
  const { address: host, port } = request;
  openConnection(hostNetwork, { host, port, allowHalfOpen: true, timeoutMs: connectMs, signal: gone.signal }).then(
    (far) => {
      if (!request.isOpen || gone.signal.aborted) {
        abortConnection(far);
        open.delete(entry);
        return;
      }
      const near = request.accept();
      entry.close = () => {
        near.destroy();
        far.destroy();
      };
      far.once('close', () => open.delete(entry));
      joinConnections(near, far);
    },
    (error: unknown) => {
      open.delete(entry);
      request.reject(rejectionFor(error));
    },
  );
}

/** What an own connection would have seen of the same failure. */
function rejectionFor(error: unknown): Rejection {
  switch (errorCode(error)) {
    case 'ECONNREFUSED':
    case 'ECONNRESET':
      return 'reset';
    case 'ENETUNREACH':
    case 'EADDRNOTAVAIL':
      return 'network-unreachable';
    case 'EACCES':
    case 'EPERM':
      return 'prohibited';
    case 'EMFILE':
    case 'ENFILE':
    case 'ENOBUFS':
      // Ours to solve: the peer may well try again.
      return 'drop';
    default:
      return 'host-unreachable';
  }
}
