import { createSocket } from 'node:dgram';
import type { Socket } from 'node:dgram';
import type { Endpoint } from '@sealane/protocol';
import { errorCode } from '../os-error.ts';
import type { EndpointTable } from './endpoint-table.ts';

export interface UdpHandlers {
  /** The bytes are the callee's to keep. */
  readonly onDatagram: (bytes: Uint8Array, endpoint: Endpoint) => void;
  /** A fault of the system side, to be counted: never fatal. */
  readonly onFault: (name: string) => void;
  /** A datagram left; `queuedBytes` may have shrunk. */
  readonly onSent: () => void;
}

/** What the kernel grants of it is up to net.core.rmem_max and wmem_max. */
const BUFFER_BYTES = 7 * 2 ** 20;
/** Past this much in libuv's queue datagrams are dropped, as a full network card would. */
const MOST_QUEUED_BYTES = 8 * 2 ** 20;
const PORT_ATTEMPTS = 32;
/** Milliseconds. */
const FAULT_PAUSE = 10;
const NEVER = new Int32Array(new SharedArrayBuffer(4));

type Family = 'udp4' | 'udp6';

/** One UDP port on IPv4 and IPv6, through node:dgram. */
export class UdpSockets {
  readonly port: number;
  /** What this host lacks. */
  readonly notes: readonly string[];
  readonly #udp4: Socket | undefined;
  readonly #udp6: Socket | undefined;
  readonly #endpoints: EndpointTable;
  readonly #handlers: UdpHandlers;
  readonly #sent: (error: Error | null) => void;
  #closed = false;

  private constructor(
    port: number,
    sockets: { readonly udp4: Socket | undefined; readonly udp6: Socket | undefined },
    endpoints: EndpointTable,
    handlers: UdpHandlers,
  ) {
    this.port = port;
    this.#udp4 = sockets.udp4;
    this.#udp6 = sockets.udp6;
    this.#endpoints = endpoints;
    this.#handlers = handlers;
    this.#sent = (error) => {
      if (this.#closed) return;
      if (error !== null) handlers.onFault(`send-failed ${nameOf(error)}`);
      handlers.onSent();
    };
    this.notes = [
      ...(sockets.udp4 === undefined ? ['This host has no IPv4: peers are reached over IPv6 only.'] : []),
      ...(sockets.udp6 === undefined ? ['This host has no IPv6: peers are reached over IPv4 only.'] : []),
    ];
    for (const socket of [sockets.udp4, sockets.udp6]) if (socket !== undefined) this.#listen(socket);
  }

  /** Port 0 takes one that is free in both families. Throws when the port cannot be had. */
  static async open(port: number, endpoints: EndpointTable, handlers: UdpHandlers): Promise<UdpSockets> {
    for (let attempt = 1; ; attempt++) {
      const udp4 = await bind('udp4', port);
      const bound = udp4?.address().port ?? port;
      try {
        const udp6 = await bind('udp6', bound);
        const chosen = bound === 0 ? udp6?.address().port : bound;
        if (chosen === undefined || (udp4 === undefined && udp6 === undefined)) {
          throw new Error('this host has neither IPv4 nor IPv6: no UDP socket can be opened');
        }
        return new UdpSockets(chosen, { udp4, udp6 }, endpoints, handlers);
      } catch (error) {
        udp4?.close();
        const taken = error instanceof Error && errorCode(error.cause) === 'EADDRINUSE';
        if (!(port === 0 && taken && attempt < PORT_ATTEMPTS)) throw error;
      }
    }
  }

  /** Bytes that wait in this process for the kernel to take them; their buffers must not be changed meanwhile. */
  get queuedBytes(): number {
    if (this.#closed) return 0;
    return (this.#udp4?.getSendQueueSize() ?? 0) + (this.#udp6?.getSendQueueSize() ?? 0);
  }

  /** Sends from where the bytes lie: they must stay as they are while `queuedBytes` is not 0. */
  send(buffer: Uint8Array, offset: number, length: number, endpoint: Endpoint): void {
    const socket = endpoint.address.length === 4 ? this.#udp4 : this.#udp6;
    if (socket === undefined || this.#closed) {
      this.#handlers.onFault('send-failed EAFNOSUPPORT');
    } else if (this.queuedBytes > MOST_QUEUED_BYTES) {
      this.#handlers.onFault('send-queue-full');
    } else {
      socket.send(buffer, offset, length, endpoint.port, this.#endpoints.target(endpoint), this.#sent);
    }
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    const open = [this.#udp4, this.#udp6].filter((socket) => socket !== undefined);
    await Promise.all(open.map(closeSocket));
  }

  #listen(socket: Socket): void {
    let failing = false;
    socket.on('error', (error) => {
      this.#handlers.onFault(`receive-failed ${nameOf(error)}`);
      // What could not be received is tried again in each turn of the event loop, and node:dgram cannot stop that: a fault
      // that lasts holds the event loop up instead of keeping a core busy.
      if (failing) Atomics.wait(NEVER, 0, 0, FAULT_PAUSE);
      failing = true;
    });
    socket.on('message', (bytes, from) => {
      failing = false;
      if (this.#closed) return;
      const endpoint = this.#endpoints.intern(from.address, from.port);
      if (endpoint !== undefined) this.#handlers.onDatagram(bytes, endpoint);
    });
  }
}

/** A bound socket, or undefined when the host does not have the address family. */
function bind(family: Family, port: number): Promise<Socket | undefined> {
  return new Promise((resolve, reject) => {
    const socket = createSocket({
      type: family,
      ipv6Only: family === 'udp6',
      // Endpoints are addresses, never names: answering at once keeps sends synchronous.
      lookup: (address, _options, callback) => callback(null, address, family === 'udp4' ? 4 : 6),
    });
    socket.once('error', (error) => {
      socket.close();
      if (lacksFamily(error)) resolve(undefined);
      else reject(new Error(explain(family, port, error), { cause: error }));
    });
    socket.bind({ port, address: family === 'udp4' ? '0.0.0.0' : '::', exclusive: true }, () => {
      socket.removeAllListeners('error');
      enlargeBuffers(socket);
      resolve(socket);
    });
  });
}

function enlargeBuffers(socket: Socket): void {
  try {
    socket.setRecvBufferSize(BUFFER_BYTES);
    socket.setSendBufferSize(BUFFER_BYTES);
  } catch {
    // Some systems refuse instead of granting less; their default serves.
  }
}

function closeSocket(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    socket.close(() => resolve());
  });
}

function lacksFamily(error: Error): boolean {
  return ['EAFNOSUPPORT', 'EPROTONOSUPPORT', 'EADDRNOTAVAIL'].includes(nameOf(error));
}

function explain(family: Family, port: number, error: Error): string {
  const where = `UDP port ${port} (${family === 'udp4' ? 'IPv4' : 'IPv6'})`;
  switch (nameOf(error)) {
    case 'EADDRINUSE':
      return `${where} is in use: choose another listen port or stop the program that has it`;
    case 'EACCES':
      return `${where} needs privileges: choose a listen port above 1023`;
    default:
      return `${where} cannot be opened: ${error.message}`;
  }
}

function nameOf(error: Error): string {
  return errorCode(error) ?? error.name;
}
