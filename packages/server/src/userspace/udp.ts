import { createSocket, type Socket } from 'node:dgram';
import { type Flow, type FlowRequest, parseAddress, pathMtuTo, unreachableReason } from '@sealane/tunnel';
import { errorCode } from '../errors.ts';

/** One question and its answer: such flows are many and short. */
const SHORT_IDLE_MS = 15_000;
const SHORT_PORTS: ReadonlySet<number> = new Set([53, 123]);
/** Datagrams that may wait until the socket has its port. */
const MAX_WAITING = 32;
/** IP and UDP headers, and the largest packet that every path carries (RFC 1122 §3.3.3, RFC 8200 §5). */
const HEADERS = { 4: 28, 6: 48 } as const;
const EVERY_PATH = { 4: 576, 6: 1_280 } as const;

/** Gives the peer's flow a socket of its own, connected so that the system reports what cannot be reached. */
export function carryFlow(request: FlowRequest, idleMs: number, open: Set<{ close(): void }>): void {
  const carrier = new FlowCarrier(request, open);
  const flow = request.accept(carrier, SHORT_PORTS.has(request.port) ? Math.min(idleMs, SHORT_IDLE_MS) : idleMs);
  if (flow === undefined) carrier.onClose();
  else carrier.flow = flow;
}

class FlowCarrier {
  flow: Flow | undefined;
  readonly #address: Uint8Array;
  readonly #family: 4 | 6;
  readonly #socket: Socket;
  readonly #open: Set<{ close(): void }>;
  #waiting: { readonly data: Uint8Array; readonly dontFragment: boolean }[] | undefined = [];
  #isClosed = false;
  /** Packets that the path is known to carry. */
  #pathMtu: number;
  /** Of the datagrams that must not be cut up: the largest since the path's limit was last told. */
  #largest = 0;

  constructor({ address, port }: FlowRequest, open: Set<{ close(): void }>) {
    this.#open = open;
    this.#address = parseAddress(address)!;
    this.#family = this.#address.length === 4 ? 4 : 6;
    this.#pathMtu = EVERY_PATH[this.#family];
    const socket = createSocket(`udp${this.#family}`);
    this.#socket = socket;
    open.add(this);
    socket.on('connect', () => {
      const waiting = this.#waiting ?? [];
      this.#waiting = undefined;
      for (const { data, dontFragment } of waiting) this.#send(data, dontFragment);
    });
    socket.on('message', (data) => this.flow?.send(data));
    socket.on('error', (error) => this.#failed(error));
    socket.connect(port, address);
  }

  onMessage(data: Uint8Array, { dontFragment }: Flow): void {
    if (this.#waiting === undefined) this.#send(Uint8Array.from(data), dontFragment);
    else if (this.#waiting.length < MAX_WAITING) this.#waiting.push({ data: Uint8Array.from(data), dontFragment });
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

  #send(data: Uint8Array, dontFragment: boolean): void {
    if (this.#isClosed || (dontFragment && !this.#fits(data.length))) return;
    this.#socket.send(data, (error) => {
      if (error !== null) this.#failed(error);
    });
  }

  /** A router would say so itself; the system rather cuts the datagram up. */
  #fits(length: number): boolean {
    const packet = length + HEADERS[this.#family];
    if (packet <= EVERY_PATH[this.#family]) return true;
    if (packet > this.#pathMtu) {
      this.#pathMtu = pathMtuTo(this.#address) ?? Infinity;
      if (packet > this.#pathMtu) {
        this.flow?.packetTooBig(length, this.#pathMtu);
        return false;
      }
    }
    this.#largest = Math.max(this.#largest, length);
    return true;
  }

  /** One of the datagrams that went out met a narrower link on its way. */
  #narrowed(): void {
    this.#pathMtu = pathMtuTo(this.#address) ?? EVERY_PATH[this.#family];
    if (this.#largest + HEADERS[this.#family] > this.#pathMtu) this.flow?.packetTooBig(this.#largest, this.#pathMtu);
    this.#largest = 0;
  }

  #failed(error: Error): void {
    const code = errorCode(error);
    if (this.#isClosed) return;
    if (code === 'EMSGSIZE') {
      this.#narrowed();
      return;
    }
    this.flow?.unreachable(unreachableReason(code));
    if (code !== 'ECONNREFUSED') this.close();
  }
}
