import { createSocket, type Socket } from 'node:dgram';
import type { Flow, FlowRequest } from '@sealane/tunnel';
import { errorCode } from '../errors.ts';

/** One question and its answer: such flows are many and short. */
const SHORT_IDLE_MS = 15_000;
const SHORT_PORTS: ReadonlySet<number> = new Set([53, 123]);
/** Datagrams that may wait until the socket has its port. */
const MAX_WAITING = 32;

/** Gives the peer's flow a socket of its own, connected so that the system reports what cannot be reached. */
export function carryFlow(request: FlowRequest, idleMs: number, open: Set<{ close(): void }>): void {
  const carrier = new FlowCarrier(request, open);
  const flow = request.accept(carrier, SHORT_PORTS.has(request.port) ? Math.min(idleMs, SHORT_IDLE_MS) : idleMs);
  if (flow === undefined) carrier.onClose();
  else carrier.flow = flow;
}

class FlowCarrier {
  flow: Flow | undefined;
  readonly #socket: Socket;
  readonly #open: Set<{ close(): void }>;
  #waiting: Uint8Array[] | undefined = [];
  #isClosed = false;

  constructor({ address, port }: FlowRequest, open: Set<{ close(): void }>) {
    this.#open = open;
    const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4');
    this.#socket = socket;
    open.add(this);
    socket.on('connect', () => {
      const waiting = this.#waiting ?? [];
      this.#waiting = undefined;
      for (const data of waiting) this.#send(data);
    });
    socket.on('message', (data) => this.flow?.send(data));
    socket.on('error', (error) => this.#failed(error));
    socket.connect(port, address);
  }

  onMessage(data: Uint8Array): void {
    if (this.#waiting === undefined) this.#send(Uint8Array.from(data));
    else if (this.#waiting.length < MAX_WAITING) this.#waiting.push(Uint8Array.from(data));
  }

  /** The flow was idle for long. */
  onClose(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#open.delete(this);
    this.#socket.close();
  }

  close(): void {
    this.flow?.close();
    this.onClose();
  }

  #send(data: Uint8Array): void {
    if (this.#isClosed) return;
    this.#socket.send(data, (error) => {
      if (error !== null) this.#failed(error);
    });
  }

  #failed(error: Error): void {
    const code = errorCode(error);
    if (this.#isClosed || code === 'EMSGSIZE') return;
    const isRefused = code === 'ECONNREFUSED';
    this.flow?.unreachable(
      isRefused
        ? 'port-unreachable'
        : code === 'EACCES' || code === 'EPERM'
          ? 'prohibited'
          : code === 'ENETUNREACH'
            ? 'network-unreachable'
            : 'host-unreachable',
    );
    if (!isRefused) this.close();
  }
}
