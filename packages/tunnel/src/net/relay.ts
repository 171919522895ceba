/** Two connections joined into one, with the end of each direction passed on by itself. */
import { connect } from 'node:net';
import { giveBack, lend } from './lent-buffers.ts';
import { TunnelSocket } from './tunnel-socket.ts';
import type { ConnectOptions, StreamSocket } from './types.ts';

/** How long a silent connection stays before the other side is asked whether it is still there. */
const KEEP_ALIVE_MS = 300_000;
/** Bytes that may wait for the slower side. */
const MOST_WAITING = 256 << 10;
/** How long what came before a reset may wait for the other side, and for how many connections at once: those count for no limit any more. */
const LAST_WRITES_MS = 30_000;
const MOST_LAST_WRITES = 256;
const NOTHING = new Uint8Array(0);

/** What sockets of `relayNetwork` read into, one after the other, and who takes it from there. */
const READ_BUFFER: Uint8Array = new Uint8Array(64 << 10);
const receivers = new WeakMap<StreamSocket, (bytes: Uint8Array, length: number) => boolean>();

/** This computer's network for connections that only `joinConnections` with a tunnel's reads from: no memory for what passes through. */
export const relayNetwork = {
  connect(options: ConnectOptions): StreamSocket {
    const callback = (length: number): boolean => receivers.get(socket)?.(READ_BUFFER, length) ?? false;
    const socket: StreamSocket = connect({ ...options, onread: { buffer: READ_BUFFER, callback } });
    // Until somebody is there to take it.
    return socket.pause();
  },
};

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
      if (!from.readableEnded || !to.readableEnded) abortOnceWritten(to);
    });
    if (from.destroyed) abortConnection(to);
    else if (from.readableEnded) to.end();
    else carry(from, to);
  }
}

/** `pipe`, but for what it asks of memory: pieces are lent, and only what waits for the far side holds the near one up. */
function carry(from: StreamSocket, to: StreamSocket): void {
  if (to instanceof TunnelSocket) {
    receivers.set(from, (bytes, length) => {
      const taken = to.writeNow(bytes, length);
      if (taken === length) return true;
      const rest = lend(length - taken);
      rest.set(bytes.subarray(taken, length));
      to.write(rest, () => {
        giveBack(rest);
        from.resume();
      });
      return false;
    });
  }
  const isLent = from instanceof TunnelSocket;
  if (isLent) from.lendReads();
  let isHeld = false;
  from.on('data', (bytes: Uint8Array) => {
    if (isLent) to.write(bytes, () => giveBack(bytes));
    else to.write(bytes);
    if (to.writableLength < MOST_WAITING || isHeld) return;
    isHeld = true;
    from.pause();
  });
  to.on('drain', () => {
    if (!isHeld) return;
    isHeld = false;
    from.resume();
  });
  from.once('end', () => to.end());
  from.resume();
}

let lastWrites = 0;

/** Resets a connection once it has taken what the other one received before it broke. */
function abortOnceWritten(socket: StreamSocket): void {
  const abort = (): void => {
    if (socket instanceof TunnelSocket && !socket.destroyed) socket.resetOnceDelivered();
    else abortConnection(socket);
  };
  if (socket.destroyed || socket.writableLength === 0 || lastWrites >= MOST_LAST_WRITES) {
    abort();
    return;
  }
  lastWrites++;
  const timer = setTimeout(() => abortConnection(socket), LAST_WRITES_MS);
  socket.once('close', () => {
    lastWrites--;
    clearTimeout(timer);
  });
  if (socket.writableEnded) socket.once('finish', abort);
  else socket.write(NOTHING, abort);
}

/** Ends a connection so that its far side knows that something is missing. */
export function abortConnection(socket: StreamSocket): void {
  if (socket.destroyed) return;
  // Unix sockets have no reset.
  if (socket.remoteAddress === undefined) socket.destroy();
  else socket.resetAndDestroy();
}
