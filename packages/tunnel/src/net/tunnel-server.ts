/** A TCP listener of a tunnel, shaped and behaving like net.Server. */
import { EventEmitter } from 'node:events';
import { randomInt } from 'node:crypto';
import { parseAddress, type IncomingConnection, type TcpListener } from '@sealane/netstack';
import type { StackDevice } from '../devices/netstack.ts';
import { networkError } from './errors.ts';
import { TunnelSocket } from './tunnel-socket.ts';
import type { ListenOptions, ServerOptions, SocketAddress, StreamServer } from './types.ts';

const FIRST_EPHEMERAL_PORT = 32_768;
/** A closing server waits so long for handshakes whose last part is under way, instead of for as long as they may take. */
const LAST_HANDSHAKES_MS = 1_000;
const PORT_TRIES = 64;

export class TunnelServer extends EventEmitter implements StreamServer {
  /** Connections beyond are refused; no bound but the stack's own when 0. */
  maxConnections = 0;
  readonly #device: StackDevice;
  readonly #allowHalfOpen: boolean;
  readonly #sockets = new Set<TunnelSocket>();
  #listener: TcpListener | undefined;
  #host: string | undefined;
  #closing = false;

  /** @internal Made by `createServer` of a network. */
  constructor(device: StackDevice, options: ServerOptions) {
    super();
    this.#device = device;
    this.#allowHalfOpen = options.allowHalfOpen === true;
  }

  get listening(): boolean {
    return this.#listener !== undefined;
  }

  /** Connections that are open. */
  get connections(): number {
    return this.#sockets.size;
  }

  /** Emits 'listening', or 'error' with code EADDRINUSE or EADDRNOTAVAIL. Throws TypeError when it listens already. */
  listen(where: ListenOptions | number, hostOrCallback?: string | (() => void), callback?: () => void): this {
    if (this.#listener !== undefined) throw new TypeError('listen: the server listens already');
    const options = typeof where === 'number' ? { port: where } : where;
    const host = typeof hostOrCallback === 'string' ? hostOrCallback : 'host' in options ? options.host : undefined;
    const done = typeof hostOrCallback === 'function' ? hostOrCallback : callback;
    if (done !== undefined) this.once('listening', done);
    try {
      this.#listener = this.#bind(options.port, host);
      this.#host = host;
      this.#closing = false;
      process.nextTick(() => {
        if (this.#listener !== undefined) this.emit('listening');
      });
    } catch (error) {
      process.nextTick(() => this.emit('error', error));
    }
    return this;
  }

  address(): SocketAddress | null {
    if (this.#listener === undefined) return null;
    const address = this.#host ?? '0.0.0.0';
    return { address, family: address.includes(':') ? 'IPv6' : 'IPv4', port: this.#listener.port };
  }

  /** Takes no more connections; 'close' and the callback come when those that are open have ended. */
  close(callback?: (error?: Error) => void): this {
    const listener = this.#listener;
    if (callback !== undefined) {
      if (listener === undefined) {
        process.nextTick(() =>
          callback(Object.assign(new Error('Server is not running.'), { code: 'ERR_SERVER_NOT_RUNNING' })),
        );
      } else {
        this.once('close', callback);
      }
    }
    if (listener === undefined) return this;
    this.#listener = undefined;
    this.#closing = true;
    listener.close();
    const halfOpen = [...this.#sockets].filter((socket) => socket.connecting);
    if (halfOpen.length > 0) {
      const resetRest = (): void => {
        for (const socket of halfOpen) if (socket.connecting) socket.resetAndDestroy();
      };
      setTimeout(resetRest, LAST_HANDSHAKES_MS).unref();
    }
    this.#closeIfIdle();
    return this;
  }

  /** @internal The tunnel is gone: ends the connections too. */
  destroy(): void {
    this.close();
    for (const socket of this.#sockets) socket.destroy();
  }

  ref(): this {
    return this;
  }

  unref(): this {
    return this;
  }

  #bind(port: number, host: string | undefined): TcpListener {
    if (!Number.isInteger(port) || port < 0 || port > 65_535)
      throw new RangeError(`port must be 0 to 65535, got ${port}`);
    const address = host === undefined ? undefined : parseAddress(host);
    if (host !== undefined && address === undefined)
      throw networkError('EADDRNOTAVAIL', { syscall: 'listen', address: host, port });
    for (let i = 0; ; i++) {
      const chosen = port === 0 ? randomInt(FIRST_EPHEMERAL_PORT, 65_536) : port;
      try {
        return this.#device.stack.listen({ port: chosen, ...(address !== undefined && { address }) }, (incoming) =>
          this.#accept(incoming),
        );
      } catch (cause) {
        if (port === 0 && i < PORT_TRIES) continue;
        throw networkError('EADDRINUSE', { syscall: 'listen', address: host ?? '0.0.0.0', port, cause });
      }
    }
  }

  #accept(incoming: IncomingConnection): void {
    if (this.#closing || (this.maxConnections > 0 && this.#sockets.size >= this.maxConnections)) {
      incoming.reject('reset');
      return;
    }
    const socket = new TunnelSocket(this.#device, { allowHalfOpen: this.#allowHalfOpen });
    this.#sockets.add(socket);
    socket.once('connect', () => this.emit('connection', socket));
    socket.once('close', () => {
      this.#sockets.delete(socket);
      this.#closeIfIdle();
    });
    // Nobody knows of a connection that fails before it stands.
    const onEarlyError = (): void => undefined;
    socket.on('error', onEarlyError);
    socket.prependOnceListener('connect', () => socket.removeListener('error', onEarlyError));
    socket.attach(incoming.accept(socket.handler()));
  }

  #closeIfIdle(): void {
    if (!this.#closing || this.#sockets.size > 0) return;
    this.#closing = false;
    process.nextTick(() => this.emit('close'));
  }
}
