import { finished } from 'node:stream/promises';
import { abortConnection, openConnection, type NetworkStack } from '@sealane/tunnel';

/**
 * Joins standard input and output with a connection, as ssh's ProxyCommand wants it; resolves when both directions have
 * ended. Rejects when the far side cannot be reached or breaks off.
 */
export async function carryStdio(
  network: NetworkStack,
  target: { readonly host: string; readonly port: number },
  timeoutMs: number,
  streams: { readonly input: NodeJS.ReadableStream; readonly output: NodeJS.WritableStream },
  signal: AbortSignal,
): Promise<void> {
  const { host, port } = target;
  const socket = await openConnection(network, { host, port, allowHalfOpen: true, timeoutMs, signal });
  const onAbort = (): void => abortConnection(socket);
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    socket.setNoDelay(true);
    // A reader that went away takes nothing more.
    streams.output.once('close', () => socket.destroy());
    streams.input.pipe(socket);
    socket.pipe(streams.output, { end: false });
    await finished(socket);
  } finally {
    signal.removeEventListener('abort', onAbort);
    streams.input.unpipe(socket);
  }
}
