/** Two connections joined into one, with the end of each direction passed on by itself. */
import type { StreamSocket } from './types.ts';

/** How long a silent connection stays before the other side is asked whether it is still there. */
const KEEP_ALIVE_MS = 60_000;

/**
 * Joins two half-open sockets. What ends on one side ends on the other, what breaks on one is reset on the other, and
 * the slower side sets the pace.
 */
export function joinConnections(a: StreamSocket, b: StreamSocket): void {
  for (const [from, to] of [
    [a, b],
    [b, a],
  ] as const) {
    from.setKeepAlive(true, KEEP_ALIVE_MS);
    from.setNoDelay(true);
    from.on('error', () => undefined);
    from.on('close', () => {
      if (!from.readableEnded || !to.readableEnded) abortConnection(to);
    });
    if (from.destroyed) abortConnection(to);
    else if (from.readableEnded) to.end();
    else from.pipe(to);
  }
}

/** Ends a connection so that its far side knows that something is missing. */
export function abortConnection(socket: StreamSocket): void {
  if (socket.destroyed) return;
  // Unix sockets have no reset.
  if (socket.remoteAddress === undefined) socket.destroy();
  else socket.resetAndDestroy();
}
