/** Datagrams of a port here to a target there and back (`-L .../udp`), or the other way round (`-R .../udp`). */
import { once } from 'node:events';
import { isIP } from 'node:net';
import { type DatagramSocket, type NetworkStack, type RemoteAddress, unreachableReason } from '@sealane/tunnel';
import { errorCode, errorLine } from '../errors.ts';
import { formatTarget, type Forward } from './address.ts';
import { type ForwardContext, LOOKUP_FAILURES } from './context.ts';
import { listenError, type Listener } from './listener.ts';
import { NoSessionError, notRoutedIn } from './tunnel-health.ts';

/** Datagrams of a flow that may wait until its target is known. */
const MAX_WAITING = 32;

/**
 * Waits for datagrams in `from` and passes them on in `to`, a connected socket for each sender, who is told of a target
 * that refuses where `from` can. Answers leave from the address that was spoken to where `from` knows its addresses.
 * CliError when it cannot listen.
 */
export async function forwardUdp(
  { listen: address, target }: Forward,
  from: NetworkStack,
  to: NetworkStack,
  context: ForwardContext,
): Promise<Listener> {
  if (address.kind === 'path' || target.kind === 'path') throw new TypeError('UDP needs ports, not paths');
  const hosts = address.host === '' ? (from.addresses ?? ['0.0.0.0']) : [address.host];
  const nears: DatagramSocket[] = [];
  let { port } = address;
  try {
    for (const host of hosts) {
      const near = from.createSocket(host.includes(':') ? 'udp6' : 'udp4');
      nears.push(near);
      const listening = once(near, 'listening');
      near.bind(port, host);
      await listening;
      near.on('error', () => undefined);
      ({ port } = near.address());
    }
  } catch (cause) {
    for (const near of nears) near.close();
    throw listenError(address, cause);
  }
  const flows = new UdpFlows(nears, to, target, context);
  return {
    where: `${formatTarget({ ...address, port })}/udp`,
    close: async () => {
      flows.close();
      for (const near of nears) near.close();
    },
  };
}

class UdpFlows {
  readonly #network: NetworkStack;
  readonly #target: { readonly host: string; readonly port: number };
  readonly #where: string;
  readonly #context: ForwardContext;
  readonly #flows = new Map<string, UdpFlow>();
  readonly #sweeper: NodeJS.Timeout;

  constructor(
    nears: readonly DatagramSocket[],
    network: NetworkStack,
    target: { readonly host: string; readonly port: number },
    context: ForwardContext,
  ) {
    this.#network = network;
    this.#target = target;
    this.#where = `${formatTarget({ kind: 'port', ...target })}/udp`;
    this.#context = context;
    for (const [i, near] of nears.entries()) {
      near.on('message', (message: Uint8Array, sender: RemoteAddress) => {
        this.#forward(`${i} ${sender.address} ${sender.port}`, near, message, sender);
      });
    }
    this.#sweeper = setInterval(() => this.#sweep(), context.limits.udpIdleMs / 4);
    this.#sweeper.unref();
  }

  close(): void {
    clearInterval(this.#sweeper);
    for (const flow of this.#flows.values()) flow.close();
    this.#flows.clear();
    this.#context.complaints.settle(this.#where, (times) => `${this.#where}: ${lost(times)}`);
  }

  #forward(key: string, near: DatagramSocket, message: Uint8Array, sender: RemoteAddress): void {
    let flow = this.#flows.get(key);
    if (flow === undefined) {
      if (this.#flows.size >= this.#context.limits.maxFlows) return;
      flow = new UdpFlow(near);
      this.#flows.set(key, flow);
      void this.#open(key, flow, sender);
    }
    flow.send(message, (error) => void this.#failed(flow, sender, error));
  }

  async #open(key: string, flow: UdpFlow, sender: RemoteAddress): Promise<void> {
    try {
      const address = await this.#resolve();
      if (flow.isClosed) return;
      const socket = this.#network.createSocket(address.includes(':') ? 'udp6' : 'udp4');
      socket.on('error', (error: Error) => void this.#failed(flow, sender, error));
      socket.on('message', (message: Uint8Array) => {
        flow.lastAt = performance.now();
        flow.near.send(message, sender.port, sender.address, () => undefined);
        this.#settle();
      });
      flow.connect(socket, this.#target.port, address, (error) => void this.#failed(flow, sender, error));
    } catch (error) {
      if (this.#flows.get(key) === flow) this.#flows.delete(key);
      for (let i = flow.close(); i > 0; i--) await this.#failed(flow, sender, error);
    }
  }

  /** An IPv4 address rather than another one. */
  async #resolve(): Promise<string> {
    const { host } = this.#target;
    if (isIP(host) !== 0) return host;
    const found = await this.#network.resolve(host);
    return found.find((address) => !address.includes(':')) ?? found[0]!;
  }

  /** One datagram did not arrive. */
  async #failed(flow: UdpFlow, sender: RemoteAddress, error: unknown): Promise<void> {
    const { explain, complaints } = this.#context;
    const code = errorCode(error);
    try {
      flow.near.unreachable?.(sender.port, sender.address, unreachableReason(code));
    } catch {
      // The listener closes.
      return;
    }
    if (flow.isClosed && LOOKUP_FAILURES[code ?? ''] === undefined) return;
    const cause = await explain(error);
    if (notRoutedIn(cause) !== undefined) return;
    const known = LOOKUP_FAILURES[code ?? ''] ?? FAILURES[code ?? ''];
    const why = cause instanceof NoSessionError ? cause.message : (known ?? errorLine(error));
    complaints.raise(this.#where, `${this.#where}: ${why}: datagrams are lost`);
  }

  #settle(): void {
    this.#context.complaints.settle(this.#where, (times) => `${this.#where} answers again: ${lost(times)}`);
  }

  #sweep(): void {
    const deadline = performance.now() - this.#context.limits.udpIdleMs;
    for (const [key, flow] of this.#flows) {
      if (flow.lastAt >= deadline) continue;
      flow.close();
      this.#flows.delete(key);
    }
  }
}

/** One sender's datagrams, and the socket that speaks for it once the target is known. */
class UdpFlow {
  /** Where the sender spoke to. */
  readonly near: DatagramSocket;
  lastAt: number = performance.now();
  isClosed = false;
  #socket: DatagramSocket | undefined;
  #isConnected = false;
  readonly #waiting: Uint8Array[] = [];

  constructor(near: DatagramSocket) {
    this.near = near;
  }

  send(message: Uint8Array, failed: (error: Error) => void): void {
    this.lastAt = performance.now();
    if (!this.#isConnected) {
      if (this.#waiting.length < MAX_WAITING) this.#waiting.push(message);
      return;
    }
    this.#socket?.send(message, (error) => {
      if (error !== null) failed(error);
    });
  }

  connect(socket: DatagramSocket, port: number, address: string, failed: (error: Error) => void): void {
    this.#socket = socket;
    socket.connect(port, address, () => {
      if (this.isClosed) return;
      this.#isConnected = true;
      for (const message of this.#waiting.splice(0)) this.send(message, failed);
    });
  }

  /** Returns how many datagrams are lost with it. */
  close(): number {
    if (this.isClosed) return 0;
    this.isClosed = true;
    this.#socket?.close();
    return this.#waiting.splice(0).length;
  }
}

/** Beside those of a lookup, by errno. */
const FAILURES: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'the port is closed',
  EHOSTUNREACH: 'it cannot be reached',
  ENETUNREACH: 'it cannot be reached',
  EACCES: 'the server does not allow it',
};

function lost(datagrams: number): string {
  return datagrams === 1 ? '1 datagram was lost' : `${datagrams} datagrams were lost`;
}
