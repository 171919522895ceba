/** A UDP socket of a tunnel, shaped and behaving like dgram.Socket. */
import { EventEmitter } from 'node:events';
import { isIP } from 'node:net';
import { parseAddress, type Endpoint, type UdpSocket } from '@sealane/netstack';
import type { Deliverable, StackDevice } from '../devices/netstack.ts';
import { networkError } from './errors.ts';
import type { DatagramSocket, RemoteAddress, SocketAddress } from './types.ts';

/** Datagrams beyond what may wait for the program are dropped, as a kernel's receive buffer does it. */
const RECEIVE_BYTES = 2 ** 20;

export class TunnelDatagramSocket extends EventEmitter implements DatagramSocket, Deliverable {
  readonly #device: StackDevice;
  readonly #type: 'udp4' | 'udp6';
  readonly #resolve: (name: string) => Promise<readonly string[]>;
  #socket: UdpSocket | undefined;
  #queue: { readonly data: Uint8Array; readonly remote: Endpoint }[] = [];
  #queuedBytes = 0;
  #isScheduled = false;
  #isClosed = false;

  /** @internal Made by `createSocket` of a network. */
  constructor(device: StackDevice, type: 'udp4' | 'udp6', resolve: (name: string) => Promise<readonly string[]>) {
    super();
    this.#device = device;
    this.#type = type;
    this.#resolve = resolve;
  }

  /** Emits 'listening', or 'error' with code EADDRINUSE or EADDRNOTAVAIL. */
  bind(port = 0, address?: string, callback?: () => void): this {
    this.#check();
    if (this.#socket !== undefined) throw new TypeError('bind: the socket is bound already');
    if (callback !== undefined) this.once('listening', callback);
    try {
      this.#open(port, address);
    } catch (error) {
      process.nextTick(() => this.emit('error', error));
    }
    return this;
  }

  /**
   * Sends one datagram; a name is looked up first. Without a callback a failure is an 'error' event. What the stack has
   * no room for is lost, as with any datagram.
   */
  send(message: Uint8Array | string, port: number, address: string, callback?: (error: Error | null) => void): void {
    this.#check();
    const data = typeof message === 'string' ? Buffer.from(message) : message;
    if (!Number.isInteger(port) || port < 1 || port > 65_535)
      throw new RangeError(`port must be 1 to 65535, got ${port}`);
    if (isIP(address) !== 0) {
      this.#sendTo(data, port, address, callback);
      return;
    }
    void this.#sendToName(Uint8Array.from(data), port, address, callback);
  }

  address(): SocketAddress {
    this.#check();
    const socket = this.#socket;
    if (socket === undefined) throw networkError('EBADF', { syscall: 'getsockname' });
    const family = this.#type === 'udp4' ? 'IPv4' : 'IPv6';
    return { address: socket.address?.toString() ?? (family === 'IPv4' ? '0.0.0.0' : '::'), family, port: socket.port };
  }

  close(callback?: () => void): this {
    this.#check();
    this.#isClosed = true;
    if (callback !== undefined) this.once('close', callback);
    this.#socket?.close();
    this.#queue = [];
    process.nextTick(() => this.emit('close'));
    return this;
  }

  /** @internal The tunnel is gone. */
  destroy(): void {
    if (!this.#isClosed) this.close();
  }

  ref(): this {
    return this;
  }

  unref(): this {
    return this;
  }

  /** @internal Called by the device, outside the stack. */
  deliver(): void {
    this.#isScheduled = false;
    const queue = this.#queue;
    this.#queue = [];
    this.#queuedBytes = 0;
    for (const { data, remote } of queue) {
      if (this.#isClosed) return;
      const address = remote.address.toString();
      const family = this.#type === 'udp4' ? 'IPv4' : 'IPv6';
      const from: RemoteAddress = { address, family, port: remote.port, size: data.length };
      this.emit('message', data, from);
    }
  }

  #open(port: number, address: string | undefined): UdpSocket {
    const isAny = address === undefined || address === '0.0.0.0' || address === '::';
    const own = isAny ? undefined : parseAddress(address);
    if (!isAny && own === undefined) throw networkError('EADDRNOTAVAIL', { syscall: 'bind', address, port });
    try {
      this.#socket = this.#device.stack.bindUdp({
        port,
        ...(own !== undefined && { address: own }),
        onMessage: (data, remote) => this.#received(data, remote),
      });
    } catch (cause) {
      throw networkError('EADDRINUSE', { syscall: 'bind', address: address ?? '0.0.0.0', port, cause });
    }
    process.nextTick(() => {
      if (!this.#isClosed) this.emit('listening');
    });
    return this.#socket;
  }

  async #sendToName(
    data: Uint8Array,
    port: number,
    name: string,
    callback: ((error: Error | null) => void) | undefined,
  ): Promise<void> {
    try {
      const found = await this.#resolve(name);
      const match = found.find((candidate) => candidate.includes(':') === (this.#type === 'udp6'));
      if (match === undefined) throw networkError('ENETUNREACH', { syscall: 'send', address: name, port });
      if (!this.#isClosed) this.#sendTo(data, port, match, callback);
    } catch (error) {
      this.#report(error as Error, callback);
    }
  }

  #sendTo(
    data: Uint8Array,
    port: number,
    address: string,
    callback: ((error: Error | null) => void) | undefined,
  ): void {
    const remote = parseAddress(address);
    const family = this.#type === 'udp4' ? 4 : 6;
    if (remote?.family !== family) {
      this.#report(networkError('EINVAL', { syscall: 'send', address, port }), callback);
      return;
    }
    try {
      (this.#socket ?? this.#open(0, undefined)).send(data, { address: remote, port });
    } catch (cause) {
      const code = cause instanceof RangeError ? 'EMSGSIZE' : 'ENETUNREACH';
      this.#report(networkError(code, { syscall: 'send', address, port, cause }), callback);
      return;
    }
    if (callback !== undefined) process.nextTick(() => callback(null));
  }

  #report(error: Error, callback: ((error: Error | null) => void) | undefined): void {
    process.nextTick(() => {
      if (callback !== undefined) callback(error);
      else if (!this.#isClosed) this.emit('error', error);
    });
  }

  #received(data: Uint8Array, remote: Endpoint): void {
    if ((remote.address.family === 4) !== (this.#type === 'udp4')) return;
    if (this.#queuedBytes + data.length > RECEIVE_BYTES) return;
    this.#queuedBytes += data.length;
    this.#queue.push({ data: Buffer.from(data), remote });
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    this.#device.schedule(this);
  }

  #check(): void {
    if (this.#isClosed) throw Object.assign(new Error('Not running'), { code: 'ERR_SOCKET_DGRAM_NOT_RUNNING' });
  }
}
