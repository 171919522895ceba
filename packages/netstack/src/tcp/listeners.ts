/** Who wants to hear of connection requests: listeners by port and address. */
import type { IpAddress } from '../address.ts';
import type { IpPacket } from '../ip.ts';
import type { IncomingConnection } from './incoming.ts';

/** Decides on each connection request: `accept` or `reject` it, now or later. */
export type IncomingHandler = (incoming: IncomingConnection) => void;

export interface TcpListener {
  readonly port: number;
  /** Undefined for every local address. */
  readonly address: IpAddress | undefined;
  close(): void;
}

interface Entry {
  readonly listener: TcpListener;
  readonly handler: IncomingHandler;
}

export class Listeners {
  readonly #byPort = new Map<number, readonly Entry[]>();

  /** Throws RangeError when the port is taken. */
  add(port: number, address: IpAddress | undefined, handler: IncomingHandler): TcpListener {
    const list = this.#byPort.get(port) ?? [];
    if (list.some(({ listener }) => isSame(listener.address, address))) {
      throw new RangeError(`port: ${port} is in use on this address`);
    }
    const listener: TcpListener = {
      port,
      address,
      close: () => {
        const left = (this.#byPort.get(port) ?? []).filter((other) => other.listener !== listener);
        if (left.length > 0) this.#byPort.set(port, left);
        else this.#byPort.delete(port);
      },
    };
    this.#byPort.set(port, [...list, { listener, handler }]);
    return listener;
  }

  /** The handler for a packet to one of our addresses: that of its very address before that of every address. */
  find(packet: IpPacket, port: number): IncomingHandler | undefined {
    const list = this.#byPort.get(port);
    if (list === undefined) return undefined;
    const exact = list.find(({ listener: { address } }) => address !== undefined && isDestination(address, packet));
    return (exact ?? list.find(({ listener }) => listener.address === undefined))?.handler;
  }
}

function isSame(a: IpAddress | undefined, b: IpAddress | undefined): boolean {
  return a === undefined || b === undefined ? a === b : a.equals(b);
}

function isDestination(address: IpAddress, packet: IpPacket): boolean {
  return address.d === packet.d3 && address.c === packet.d2 && address.b === packet.d1 && address.a === packet.d0;
}
