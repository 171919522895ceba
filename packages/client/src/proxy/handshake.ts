import type { StreamSocket } from '@sealane/tunnel';

/** The client said something that is no request, too slowly, or not to its end. */
export class HandshakeError extends Error {
  override readonly name = 'HandshakeError';
}

/** Reads a request from a paused socket, byte-exactly: what the client sends right behind it stays in the socket. */
export class HandshakeReader {
  readonly #socket: StreamSocket;
  readonly #timer: NodeJS.Timeout;
  #isLate = false;
  #wake: () => void = () => undefined;
  readonly #onChange = (): void => this.#wake();

  constructor(socket: StreamSocket, timeoutMs: number) {
    this.#socket = socket;
    this.#timer = setTimeout(() => {
      this.#isLate = true;
      this.#wake();
    }, timeoutMs);
    for (const event of ['readable', 'end', 'close']) socket.on(event, this.#onChange);
  }

  /** The next `length` bytes; HandshakeError when they do not come. */
  async read(length: number): Promise<Uint8Array> {
    if (length === 0) return new Uint8Array(0);
    const socket = this.#socket;
    for (;;) {
      if (this.#isLate) throw new HandshakeError('the request took too long');
      const bytes = socket.read(length) as Uint8Array | null;
      if (bytes?.length === length) return bytes;
      if (bytes !== null || socket.destroyed || socket.readableEnded) {
        throw new HandshakeError('the request is not complete');
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  /** Call when the request is complete or given up. */
  dispose(): void {
    clearTimeout(this.#timer);
    for (const event of ['readable', 'end', 'close']) this.#socket.removeListener(event, this.#onChange);
  }
}
