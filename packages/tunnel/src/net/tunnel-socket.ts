/** A TCP connection of a tunnel, shaped and behaving like net.Socket. */
import { Duplex } from 'node:stream';
import type { ConnectionError, ConnectionHandler, TcpConnection } from '@sealane/netstack';
import type { Deliverable, StackDevice } from '../devices/netstack.ts';
import { networkError } from './errors.ts';
import { lend } from './lent-buffers.ts';
import type { SocketAddress, StreamSocket } from './types.ts';

const READ_BYTES = 65_536;
const HIGH_WATER_MARK = 65_536;
/** How long a reader may pause over what came before a reset, until that is told and the rest is lost. */
const UNREAD_MS = 60_000;
const NOTHING = new Uint8Array(0);

/**
 * `destroy` is close(2): what was written is still delivered, in the background; `resetAndDestroy` resets.
 * `ref` and `unref` change nothing: the tunnel keeps the process alive until it is closed.
 */
export class TunnelSocket extends Duplex implements StreamSocket, Deliverable {
  readonly #device: StackDevice;
  #connection: TcpConnection | undefined;
  #connecting = true;
  #isScheduled = false;
  #wantsRead = false;
  #hasPushedEnd = false;
  #isLending = false;
  #error: ConnectionError | undefined;
  #isClosed = false;
  #wasConnected = false;
  #write: { readonly chunk: Uint8Array; offset: number; readonly done: (error?: Error) => void } | undefined;
  #final: (() => void) | undefined;
  #timeout = 0;
  #timer: NodeJS.Timeout | undefined;
  #unreadTimer: NodeJS.Timeout | undefined;
  #noDelay = false;
  #keepAlive = 0;

  /** @internal Made by `connect` of a network and by its servers. */
  constructor(device: StackDevice, options: { readonly allowHalfOpen?: boolean | undefined }) {
    super({
      allowHalfOpen: options.allowHalfOpen === true,
      highWaterMark: HIGH_WATER_MARK,
      autoDestroy: true,
      emitClose: true,
    });
    this.#device = device;
  }

  get connecting(): boolean {
    return this.#connecting;
  }

  /** Not yet connected, as in node:net. */
  get pending(): boolean {
    return this.#connecting || this.#connection === undefined;
  }

  get readyState(): 'opening' | 'open' | 'readOnly' | 'writeOnly' | 'closed' {
    if (this.#connecting) return 'opening';
    if (this.readable && this.writable) return 'open';
    if (this.readable) return 'readOnly';
    return this.writable ? 'writeOnly' : 'closed';
  }

  get localAddress(): string | undefined {
    return this.#connection?.local.address.toString();
  }

  get localPort(): number | undefined {
    return this.#connection?.local.port;
  }

  get localFamily(): string | undefined {
    return familyOf(this.localAddress);
  }

  get remoteAddress(): string | undefined {
    return this.#connection?.remote.address.toString();
  }

  get remotePort(): number | undefined {
    return this.#connection?.remote.port;
  }

  get remoteFamily(): string | undefined {
    return familyOf(this.remoteAddress);
  }

  get bytesRead(): number {
    return this.#connection?.bytesRead ?? 0;
  }

  get bytesWritten(): number {
    return (this.#connection?.bytesWritten ?? 0) + this.writableLength - (this.#write?.offset ?? 0);
  }

  /** Milliseconds of inactivity after which 'timeout' is emitted; 0 for never. */
  get timeout(): number {
    return this.#timeout;
  }

  address(): SocketAddress | Record<string, never> {
    const { localAddress: address, localPort: port } = this;
    if (address === undefined || port === undefined) return {};
    return { address, port, family: address.includes(':') ? 'IPv6' : 'IPv4' };
  }

  setNoDelay(noDelay = true): this {
    this.#noDelay = noDelay;
    this.#connection?.setNoDelay(noDelay);
    return this;
  }

  setKeepAlive(enable = false, initialDelay = 0): this {
    this.#keepAlive = enable ? (initialDelay > 0 ? initialDelay : 7_200_000) : 0;
    if (!this.#connecting) this.#connection?.setKeepAlive(this.#keepAlive);
    return this;
  }

  setTimeout(timeout: number, callback?: () => void): this {
    if (!(timeout >= 0 && timeout <= 2 ** 31 - 1))
      throw new RangeError(`timeout must be 0 to 2147483647, got ${timeout}`);
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#timeout = timeout;
    if (timeout > 0 && !this.destroyed) {
      this.#timer = setTimeout(() => this.emit('timeout'), timeout);
      if (callback !== undefined) this.once('timeout', callback);
    } else if (callback !== undefined) {
      this.removeListener('timeout', callback);
    }
    return this;
  }

  ref(): this {
    return this;
  }

  unref(): this {
    return this;
  }

  resetAndDestroy(): this {
    this.#connection?.abort();
    return this.destroy();
  }

  destroySoon(): void {
    if (this.writable) this.end();
    if (this.writableFinished) this.destroy();
    else this.once('finish', () => this.destroy());
  }

  /** @internal As `resetAndDestroy`, once the far side has everything written; both ends are over at once here. */
  resetOnceDelivered(): void {
    this.#connection?.abortOnceDelivered();
    this.destroy();
  }

  /** @internal What a connection of this socket reports to. */
  handler(onConnect?: () => void, onFailure?: (error: ConnectionError) => void): ConnectionHandler {
    return {
      onConnect: (connection) => {
        if (this.destroyed) return;
        this.#adopt(connection);
        onConnect?.();
        this.#schedule();
      },
      onReadable: () => this.#schedule(),
      onWritable: () => this.#schedule(),
      onClose: (_connection, error) => {
        if (this.#connecting && error !== undefined && onFailure !== undefined) {
          onFailure(error);
          return;
        }
        this.#error = error;
        this.#isClosed = true;
        this.#schedule();
      },
    };
  }

  /** @internal A connection that stands, or that is being accepted. */
  attach(connection: TcpConnection): void {
    this.#connection = connection;
  }

  /** @internal From now on whoever gets a piece from 'data' is alone with it, and calls `giveBack` when done. */
  lendReads(): void {
    this.#isLending = true;
  }

  /** @internal Takes what the connection takes at once of the first `length` bytes, and only when nothing else waits; returns how much. */
  writeNow(bytes: Uint8Array, length: number): number {
    const connection = this.#connection;
    if (connection === undefined || this.#connecting || this.#isClosed) return 0;
    if (this.writableLength > 0 || this.writableEnded || this.destroyed) return 0;
    const taken = connection.write(bytes, 0, length);
    if (taken > 0) this.#touch();
    return taken;
  }

  /** @internal Called by the device, outside the stack. */
  deliver(): void {
    this.#isScheduled = false;
    if (this.destroyed) return;
    if (this.#wasConnected && this.#connecting) {
      this.#connecting = false;
      this.emit('connect');
      this.emit('ready');
    }
    const connection = this.#connection;
    if (connection === undefined || this.destroyed) return;
    if (this.#error !== undefined) {
      this.#awaitReader(connection, this.#error);
      return;
    }
    if (this.#wantsRead) this.#pull(connection);
    if (this.destroyed) return;
    this.#flush(connection);
    if (this.#isClosed && !this.destroyed && connection.readableLength === 0) this.#finishClosed();
  }

  override _read(): void {
    this.#wantsRead = true;
    if (this.#connection === undefined || this.#connecting) return;
    this.#pull(this.#connection);
    if (this.#error !== undefined && this.#wantsRead && !this.destroyed) this.#tellOnceRead(this.#error);
  }

  override _write(chunk: Uint8Array, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#write = { chunk, offset: 0, done };
    if (this.#connection !== undefined && !this.#connecting) this.#flush(this.#connection);
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#final = done;
    if (this.#connection !== undefined && !this.#connecting) this.#flush(this.#connection);
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    clearTimeout(this.#timer);
    clearTimeout(this.#unreadTimer);
    this.#connecting = false;
    this.#connection?.close();
    done(error);
    const write = this.#write;
    this.#write = undefined;
    write?.done(error ?? networkError('ECANCELED', { syscall: 'write' }));
  }

  #adopt(connection: TcpConnection): void {
    this.#connection = connection;
    this.#wasConnected = true;
    if (this.#noDelay) connection.setNoDelay(true);
    if (this.#keepAlive > 0) connection.setKeepAlive(this.#keepAlive);
  }

  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    this.#device.schedule(this);
  }

  #pull(connection: TcpConnection): void {
    while (this.#wantsRead) {
      const { readableLength } = connection;
      if (readableLength === 0) break;
      const bytes = this.#isLending ? lend(readableLength) : Buffer.allocUnsafe(Math.min(READ_BYTES, readableLength));
      connection.readInto(bytes);
      this.#touch();
      this.#unreadTimer?.refresh();
      // `push` may call `_read`, or a listener may destroy us.
      this.#wantsRead = false;
      if (this.push(bytes)) this.#wantsRead = true;
      if (this.destroyed) return;
    }
    if (connection.hasEnded && !this.#hasPushedEnd) {
      this.#hasPushedEnd = true;
      this.push(null);
    }
  }

  /** The connection broke: the reader first gets what came before. */
  #awaitReader(connection: TcpConnection, error: ConnectionError): void {
    if (!this.#wasConnected || connection.readableLength + this.readableLength === 0) {
      this.#fail(error);
      return;
    }
    if (this.#unreadTimer === undefined) {
      this.#unreadTimer = setTimeout(() => this.#fail(error), UNREAD_MS).unref();
      this.once('end', () => this.#fail(error));
      // Who has not begun to read by now may never do.
      setImmediate(() => {
        if (this.readableFlowing === null && !this.destroyed) this.#fail(error);
      });
    }
    if (this.#wantsRead) this._read();
  }

  /** Called when the connection has nothing left: what the stream itself still holds is read before it is destroyed. */
  #tellOnceRead(error: ConnectionError): void {
    if (this.readableLength === 0) {
      this.#fail(error);
      return;
    }
    // Without an answer the stream would not ask again.
    this.#wantsRead = false;
    this.push(NOTHING);
  }

  #flush(connection: TcpConnection): void {
    // The error is about to be told, and in time for every write.
    if (this.#error !== undefined) return;
    const write = this.#write;
    if (write !== undefined) {
      if (this.#isClosed) {
        this.#write = undefined;
        write.done(networkError('EPIPE', { syscall: 'write' }));
        return;
      }
      const taken = connection.write(write.chunk, write.offset);
      write.offset += taken;
      if (taken > 0) this.#touch();
      if (write.offset < write.chunk.length) return;
      this.#write = undefined;
      write.done();
    }
    const final = this.#final;
    if (final !== undefined && this.#write === undefined) {
      this.#final = undefined;
      connection.end();
      final();
    }
  }

  /** Both directions are over. */
  #finishClosed(): void {
    if (this.#hasPushedEnd) return;
    this.#hasPushedEnd = true;
    this.push(null);
  }

  #fail(code: ConnectionError): void {
    const { remoteAddress, remotePort } = this;
    if (!this.#wasConnected) {
      this.destroy(
        networkError(code, {
          syscall: 'connect',
          ...(remoteAddress !== undefined && { address: remoteAddress }),
          ...(remotePort !== undefined && { port: remotePort }),
        }),
      );
    } else {
      this.destroy(networkError(code, { syscall: 'read' }));
    }
  }

  #touch(): void {
    this.#timer?.refresh();
  }
}

function familyOf(address: string | undefined): string | undefined {
  if (address === undefined) return undefined;
  return address.includes(':') ? 'IPv6' : 'IPv4';
}
