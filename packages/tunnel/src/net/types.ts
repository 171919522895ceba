/** The shape of a network for programs, that of node:net and node:dgram: the computer's own and a tunnel's have it alike. */
import type { EventEmitter } from 'node:events';
import type { Duplex } from 'node:stream';
import type { UnreachableReason } from '@sealane/netstack';

export interface ConnectOptions {
  /** An IPv4 or IPv6 address, or a name. */
  readonly host: string;
  /** 1 to 65535. */
  readonly port: number;
  /** One of the network's own addresses. */
  readonly localAddress?: string;
  /** Keeps the socket writable when the far side has ended; false by default, as in node:net. */
  readonly allowHalfOpen?: boolean;
}

export interface SocketAddress {
  readonly address: string;
  readonly family: string;
  readonly port: number;
}

/** A TCP connection; net.Socket is one. Emits 'connect', 'timeout' and what a Duplex emits. */
export interface StreamSocket extends Duplex {
  readonly connecting: boolean;
  readonly localAddress?: string | undefined;
  readonly localPort?: number | undefined;
  readonly remoteAddress?: string | undefined;
  readonly remotePort?: number | undefined;
  readonly bytesRead: number;
  readonly bytesWritten: number;
  /** Ends the connection with a reset instead of delivering what was written. */
  resetAndDestroy(): this;
  setNoDelay(noDelay?: boolean): this;
  setKeepAlive(enable?: boolean, initialDelay?: number): this;
  setTimeout(timeout: number, callback?: () => void): this;
  ref(): this;
  unref(): this;
}

export interface ListenOptions {
  /** 0 lets the network choose. */
  readonly port: number;
  /** One of the network's own addresses; all of them when absent. */
  readonly host?: string;
}

export interface ServerOptions {
  readonly allowHalfOpen?: boolean;
}

/** A TCP listener; net.Server is one. Emits 'listening', 'connection' (a StreamSocket), 'error' and 'close'. */
export interface StreamServer extends EventEmitter {
  readonly listening: boolean;
  listen(options: ListenOptions, callback?: () => void): this;
  address(): SocketAddress | string | null;
  close(callback?: (error?: Error) => void): this;
  ref(): this;
  unref(): this;
}

export interface RemoteAddress {
  readonly address: string;
  readonly family: 'IPv4' | 'IPv6';
  readonly port: number;
  /** Bytes of the datagram. */
  readonly size: number;
}

/**
 * A UDP socket; dgram.Socket is one. Emits 'listening', 'connect', 'message' (Uint8Array, RemoteAddress), 'error' and
 * 'close'. One that is connected hears that its destination refuses, as an 'error' with code ECONNREFUSED.
 */
export interface DatagramSocket extends EventEmitter {
  bind(port?: number, address?: string, callback?: () => void): this;
  /** Sends and receives only there from now on. */
  connect(port: number, address: string, callback?: () => void): void;
  disconnect(): void;
  remoteAddress(): SocketAddress;
  /** When connected. */
  send(message: Uint8Array, callback?: (error: Error | null) => void): void;
  send(message: Uint8Array, port: number, address: string, callback?: (error: Error | null) => void): void;
  /** Tells a sender why its datagrams do not arrive; absent where programs cannot say so. */
  unreachable?(port: number, address: string, reason: UnreachableReason): void;
  address(): SocketAddress;
  close(callback?: () => void): this;
  ref(): this;
  unref(): this;
}

export interface NetworkStack {
  /** Its own, where they are known for good. */
  readonly addresses?: readonly string[];
  /** Begins a connection; it emits 'connect' or 'error', the latter with the errno as `code`. */
  connect(options: ConnectOptions): StreamSocket;
  createServer(options: ServerOptions, listener?: (socket: StreamSocket) => void): StreamServer;
  createSocket(type: 'udp4' | 'udp6'): DatagramSocket;
  /** The addresses of a name, the preferred first. Rejects with code ENOTFOUND when it has none, EAI_AGAIN when nobody answers. */
  resolve(name: string): Promise<readonly string[]>;
}
