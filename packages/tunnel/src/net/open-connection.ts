import { networkError } from './errors.ts';
import type { ConnectOptions, NetworkStack, StreamSocket } from './types.ts';

export interface OpenConnectionOptions extends ConnectOptions {
  /** How long the far side may take, in milliseconds; as long as the network waits by itself when absent. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

/**
 * Resolves to a connection once the far side has answered; rejects with the errno as `code` (ETIMEDOUT after the
 * time-out), or with the signal's reason. Errors after that are the socket's own 'error' events.
 */
export function openConnection(
  network: Pick<NetworkStack, 'connect'>,
  options: OpenConnectionOptions,
): Promise<StreamSocket> {
  const { timeoutMs, signal, ...destination } = options;
  return connected(network.connect(destination), destination, timeoutMs, signal);
}

/** Waits for a socket that is connecting. */
export function connected(
  socket: StreamSocket,
  where: { readonly host: string; readonly port?: number },
  timeoutMs?: number,
  signal?: AbortSignal,
): Promise<StreamSocket> {
  return new Promise((resolve, reject) => {
    const settle = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
      socket.removeListener('connect', onConnect);
      socket.removeListener('error', onError);
      socket.removeListener('close', onClose);
    };
    const onConnect = (): void => {
      settle();
      resolve(socket);
    };
    const onError = (error: Error): void => {
      settle();
      reject(error);
    };
    // Destroyed by someone else, such as a tunnel that closes.
    const onClose = (): void => {
      settle();
      const { host, port } = where;
      reject(networkError('ECANCELED', { syscall: 'connect', address: host, ...(port !== undefined && { port }) }));
    };
    const give = (error: Error): void => {
      settle();
      socket.on('error', () => undefined);
      socket.destroy();
      reject(error);
    };
    const onAbort = (): void => give(signal?.reason as Error);
    const timer =
      timeoutMs === undefined
        ? undefined
        : setTimeout(() => {
            const { host, port } = where;
            give(networkError('ETIMEDOUT', { syscall: 'connect', address: host, ...(port !== undefined && { port }) }));
          }, timeoutMs);
    socket.once('connect', onConnect);
    socket.once('error', onError);
    socket.once('close', onClose);
    if (signal?.aborted === true) onAbort();
    else signal?.addEventListener('abort', onAbort, { once: true });
  });
}
