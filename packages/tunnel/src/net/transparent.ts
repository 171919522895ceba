/** A stack that answers for every destination: what a gateway hands its clients' connections and datagrams through. */
import type {
  IncomingConnection,
  Rejection,
  StackLimits,
  UdpFlow,
  UdpRequest,
  UnreachableReason,
} from '@sealane/netstack';
import { StackDevice } from '../devices/netstack.ts';
import { TunnelSocket } from './tunnel-socket.ts';
import type { StreamSocket } from './types.ts';

export type { Rejection, StackLimits, UnreachableReason };

interface Addresses {
  /** Who asks. */
  readonly sourceAddress: string;
  readonly sourcePort: number;
  /** Whom they want. */
  readonly address: string;
  readonly port: number;
}

/** A connection request that nobody has answered; the client waits until `accept` or `reject`. */
export interface ConnectionRequest extends Addresses {
  /** The client still waits. */
  readonly isOpen: boolean;
  /** Called when the client gave up first. */
  onAbort: (() => void) | undefined;
  /** A half-open socket. TypeError when the client does not wait any more. */
  accept(): StreamSocket;
  reject(reason: Rejection): void;
}

/** The first datagram to a destination; accept or reject it within the call. */
export interface FlowRequest extends Addresses {
  /** Calls `onMessage` with each datagram, the first one included; undefined when the limits forbid. */
  accept(handler: FlowHandler, idleMs?: number): Flow | undefined;
  reject(reason: UnreachableReason): void;
}

export interface FlowHandler {
  /** `data` is good only during the call, and so is what `flow` says of it. */
  onMessage(data: Uint8Array, flow: Flow): void;
  onClose(): void;
}

export interface Flow {
  /** Whether the datagram at hand must go whole or not at all. */
  readonly dontFragment: boolean;
  /** Sends a datagram back from where the client sent to; false when it had to be dropped. */
  send(data: Uint8Array): boolean;
  /** Tells the client that the destination cannot be reached. */
  unreachable(reason: UnreachableReason): void;
  /** Tells the client that a datagram of `length` bytes does not pass, as packets may have `mtu` bytes. */
  packetTooBig(length: number, mtu: number): void;
  close(): void;
}

export interface TransparentOptions {
  readonly name: string;
  readonly mtu: number;
  /** The gateway's own: they answer echo requests. */
  readonly addresses: readonly Uint8Array[];
  readonly limits?: Partial<StackLimits>;
  /** Whom an address belongs to: all addresses of one owner share what the limits give to a source. Each stands for itself by default. */
  readonly ownerOf?: (address: string) => string | undefined;
  readonly onConnection: (request: ConnectionRequest) => void;
  readonly onFlow: (request: FlowRequest) => void;
}

/** A packet device whose far side is every host there is. */
export function openTransparentDevice(options: TransparentOptions): StackDevice {
  const { onConnection, onFlow, limits, ownerOf, ...rest } = options;
  const device: StackDevice = new StackDevice({
    ...rest,
    ...(limits !== undefined && { limits }),
    anyDestination: true,
    sourceKey: (address) => {
      const text = address.toString();
      return ownerOf?.(text) ?? text;
    },
    onIncoming: (incoming) => onConnection(new Request(device, incoming)),
    onUdp: (request) => onFlow(flowRequest(request)),
  });
  return device;
}

class Request implements ConnectionRequest {
  readonly sourceAddress: string;
  readonly sourcePort: number;
  readonly address: string;
  readonly port: number;
  readonly #device: StackDevice;
  readonly #incoming: IncomingConnection;

  constructor(device: StackDevice, incoming: IncomingConnection) {
    this.#device = device;
    this.#incoming = incoming;
    this.sourceAddress = incoming.remote.toString();
    this.sourcePort = incoming.remotePort;
    this.address = incoming.local.toString();
    this.port = incoming.localPort;
  }

  get isOpen(): boolean {
    return this.#incoming.isOpen;
  }

  set onAbort(listener: (() => void) | undefined) {
    this.#incoming.onAbort = listener;
  }

  get onAbort(): (() => void) | undefined {
    return this.#incoming.onAbort;
  }

  accept(): StreamSocket {
    const socket = new TunnelSocket(this.#device, { allowHalfOpen: true });
    socket.attach(this.#incoming.accept(socket.handler()));
    return socket;
  }

  reject(reason: Rejection): void {
    this.#incoming.reject(reason);
  }
}

function flowRequest(request: UdpRequest): FlowRequest {
  return {
    sourceAddress: request.remote.address.toString(),
    sourcePort: request.remote.port,
    address: request.local.address.toString(),
    port: request.local.port,
    accept: (handler, idleMs): UdpFlow | undefined => request.accept(handler, idleMs),
    reject: (reason) => request.reject(reason),
  };
}
