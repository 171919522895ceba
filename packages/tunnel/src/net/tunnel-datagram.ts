/** A UDP socket of a tunnel, shaped and behaving like dgram.Socket. */
import { EventEmitter } from 'node:events';
import { isIP } from 'node:net';
import {
  parseAddress,
  type Endpoint,
  type IpAddress,
  UNREACHABLE_ERRORS,
  type UdpSocket,
  type UnreachableReason,
} from '@sealane/netstack';
import type { Deliverable, StackDevice } from '../devices/netstack.ts';
import { networkError, NotRoutedError } from './errors.ts';
import type { DatagramSocket, RemoteAddress, SocketAddress } from './types.ts';

/** Datagrams beyond what may wait for the program are dropped, as a kernel's receive buffer does it. */
const RECEIVE_BYTES = 2 ** 20;

type Sent = (error: Error | null) => void;

/** What a socket needs to know of its network. */
export interface DatagramPaths {
  resolve(name: string): Promise<readonly string[]>;
  isRouted(address: IpAddress): boolean;
}

export class TunnelDatagramSocket extends EventEmitter implements DatagramSocket, Deliverable {
  readonly #device: StackDevice;
  readonly #type: 'udp4' | 'udp6';
  readonly #paths: DatagramPaths;
  #socket: UdpSocket | undefined;
  #queue: { readonly data: Uint8Array; readonly remote: Endpoint }[] = [];
  #queuedBytes = 0;
  #isScheduled = false;
  #isClosed = false;
  /** Where it is connected to; 'connecting' while the name is looked up. */
  #remote: Endpoint | 'connecting' | undefined;

  /** @internal Made by `createSocket` of a network. */
  constructor(device: StackDevice, type: 'udp4' | 'udp6', paths: DatagramPaths) {
    super();
    this.#device = device;
    this.#type = type;
    this.#paths = paths;
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

  /** Emits 'connect', or 'error' when the name has no address; a destination that refuses is an 'error' later on. */
  connect(port: number, address: string, callback?: () => void): void {
    this.#check();
    checkPort(port);
    if (this.#remote !== undefined) throw socketError('ERR_SOCKET_DGRAM_IS_CONNECTED', 'Already connected');
    if (callback !== undefined) this.once('connect', callback);
    this.#remote = 'connecting';
    void this.#connect(port, address);
  }

  disconnect(): void {
    this.#connectedTo();
    this.#remote = undefined;
  }

  remoteAddress(): SocketAddress {
    const { address, port } = this.#connectedTo();
    return { address: address.toString(), family: this.#family, port };
  }

  /** Sends one datagram to where the socket is connected to. */
  send(message: Uint8Array | string, callback?: Sent): void;
  /**
   * Sends one datagram; a name is looked up first. Without a callback a failure is an 'error' event. What the stack has
   * no room for is lost, as with any datagram.
   */
  send(message: Uint8Array | string, port: number, address: string, callback?: Sent): void;
  send(message: Uint8Array | string, first?: number | Sent, address?: string, last?: Sent): void {
    this.#check();
    const data = typeof message === 'string' ? Buffer.from(message) : message;
    if (typeof first !== 'number' || address === undefined) {
      const remote = this.#connectedTo();
      this.#sendTo(data, remote.port, remote.address.toString(), typeof first === 'function' ? first : last);
      return;
    }
    if (this.#remote !== undefined) throw socketError('ERR_SOCKET_DGRAM_IS_CONNECTED', 'Already connected');
    this.#sendUnconnected(data, first, address, last);
  }

  #sendUnconnected(data: Uint8Array, port: number, address: string, callback: Sent | undefined): void {
    checkPort(port);
    if (isIP(address) !== 0) {
      this.#sendTo(data, port, address, callback);
      return;
    }
    void this.#sendToName(Uint8Array.from(data), port, address, callback);
  }

  unreachable(port: number, address: string, reason: UnreachableReason): void {
    this.#check();
    checkPort(port);
    const remote = parseAddress(address);
    if (remote === undefined) throw new TypeError(`address must be an IP address, got '${address}'`);
    this.#socket?.unreachable({ address: remote, port }, reason);
  }

  address(): SocketAddress {
    this.#check();
    const socket = this.#socket;
    if (socket === undefined) throw networkError('EBADF', { syscall: 'getsockname' });
    const family = this.#family;
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
      const from: RemoteAddress = { address, family: this.#family, port: remote.port, size: data.length };
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
        onUnreachable: (remote, reason) => this.#unreachable(remote, reason),
      });
    } catch (cause) {
      throw networkError('EADDRINUSE', { syscall: 'bind', address: address ?? '0.0.0.0', port, cause });
    }
    process.nextTick(() => {
      if (!this.#isClosed) this.emit('listening');
    });
    return this.#socket;
  }

  async #connect(port: number, name: string): Promise<void> {
    try {
      const address = parseAddress(await this.#lookup(name, port, 'connect'))!;
      if (this.#isClosed) return;
      if (this.#socket === undefined) this.#open(0, undefined);
      this.#remote = { address, port };
      this.emit('connect');
    } catch (error) {
      this.#remote = undefined;
      this.#report(error as Error, undefined);
    }
  }

  async #sendToName(data: Uint8Array, port: number, name: string, callback: Sent | undefined): Promise<void> {
    try {
      const address = await this.#lookup(name, port, 'send');
      if (!this.#isClosed) this.#sendTo(data, port, address, callback);
    } catch (error) {
      this.#report(error as Error, callback);
    }
  }

  async #lookup(name: string, port: number, syscall: string): Promise<string> {
    const found = await this.#paths.resolve(name);
    const match = found.find((candidate) => candidate.includes(':') === (this.#type === 'udp6'));
    if (match === undefined) throw networkError('ENETUNREACH', { syscall, address: name, port });
    return match;
  }

  #sendTo(data: Uint8Array, port: number, address: string, callback: Sent | undefined): void {
    const remote = parseAddress(address);
    const family = this.#type === 'udp4' ? 4 : 6;
    if (remote?.family !== family) {
      this.#report(networkError('EINVAL', { syscall: 'send', address, port }), callback);
      return;
    }
    if (!this.#paths.isRouted(remote)) {
      const cause = new NotRoutedError(address);
      this.#report(networkError('ENETUNREACH', { syscall: 'send', address, port, cause }), callback);
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

  #report(error: Error, callback: Sent | undefined): void {
    process.nextTick(() => {
      if (callback !== undefined) callback(error);
      else if (!this.#isClosed) this.emit('error', error);
    });
  }

  #received(data: Uint8Array, remote: Endpoint): void {
    if ((remote.address.family === 4) !== (this.#type === 'udp4') || !this.#isFrom(remote)) return;
    if (this.#queuedBytes + data.length > RECEIVE_BYTES) return;
    this.#queuedBytes += data.length;
    this.#queue.push({ data: Buffer.from(data), remote });
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    this.#device.schedule(this);
  }

  /** As with any system, only a socket that is connected is told. */
  #unreachable(remote: Endpoint, reason: UnreachableReason): void {
    if (typeof this.#remote !== 'object' || !this.#isFrom(remote)) return;
    const details = { syscall: 'recvmsg', address: remote.address.toString(), port: remote.port };
    this.#report(networkError(UNREACHABLE_ERRORS[reason], details), undefined);
  }

  #isFrom({ address, port }: Endpoint): boolean {
    const remote = this.#remote;
    return typeof remote !== 'object' || (remote.port === port && remote.address.equals(address));
  }

  #connectedTo(): Endpoint {
    this.#check();
    if (typeof this.#remote !== 'object') throw socketError('ERR_SOCKET_DGRAM_NOT_CONNECTED', 'Not connected');
    return this.#remote;
  }

  get #family(): 'IPv4' | 'IPv6' {
    return this.#type === 'udp4' ? 'IPv4' : 'IPv6';
  }

  #check(): void {
    if (this.#isClosed) throw socketError('ERR_SOCKET_DGRAM_NOT_RUNNING', 'Not running');
  }
}

function checkPort(port: number): void {
  if (!Number.isInteger(port) || port < 1 || port > 65_535)
    throw new RangeError(`port must be 1 to 65535, got ${port}`);
}

function socketError(code: string, message: string): Error {
  return Object.assign(new Error(message), { code });
}
