/** Datagrams of a port here to a target there and back (`-L .../udp`), or the other way round (`-R .../udp`). */
import { once } from 'node:events';
import type { DatagramSocket, NetworkStack, RemoteAddress } from '@sealane/tunnel';
import { formatTarget, type Forward } from './address.ts';
import type { ProxyLimits } from './context.ts';
import { listenError, type Listener } from './listener.ts';

/** Waits for datagrams in `from` and passes them on in `to`, a socket for each sender. CliError when it cannot listen. */
export async function forwardUdp(
  { listen: address, target }: Forward,
  from: NetworkStack,
  to: NetworkStack,
  limits: ProxyLimits,
): Promise<Listener> {
  if (address.kind === 'path' || target.kind === 'path') throw new TypeError('UDP needs ports, not paths');
  const near = from.createSocket(address.host.includes(':') ? 'udp6' : 'udp4');
  try {
    const listening = once(near, 'listening');
    near.bind(address.port, address.host === '' ? undefined : address.host);
    await listening;
  } catch (cause) {
    near.close();
    throw listenError(address, cause);
  }
  near.on('error', () => undefined);
  const flows = new UdpFlows(near, to, target, limits);
  const { port } = near.address();
  return {
    where: `${formatTarget({ ...address, port })}/udp`,
    close: async () => {
      flows.close();
      near.close();
    },
  };
}

interface Flow {
  readonly socket: DatagramSocket;
  /** What the target's name stands for, the first time it is looked up. */
  readonly address: Promise<string | undefined>;
  lastAt: number;
}

class UdpFlows {
  readonly #near: DatagramSocket;
  readonly #network: NetworkStack;
  readonly #target: { readonly host: string; readonly port: number };
  readonly #limits: ProxyLimits;
  readonly #flows = new Map<string, Flow>();
  readonly #sweeper: NodeJS.Timeout;

  constructor(
    near: DatagramSocket,
    network: NetworkStack,
    target: { readonly host: string; readonly port: number },
    limits: ProxyLimits,
  ) {
    this.#near = near;
    this.#network = network;
    this.#target = target;
    this.#limits = limits;
    near.on('message', (message: Uint8Array, sender: RemoteAddress) => void this.#forward(message, sender));
    this.#sweeper = setInterval(() => this.#sweep(), limits.udpIdleMs / 4);
    this.#sweeper.unref();
  }

  close(): void {
    clearInterval(this.#sweeper);
    for (const key of this.#flows.keys()) this.#end(key);
  }

  async #forward(message: Uint8Array, sender: RemoteAddress): Promise<void> {
    const key = `${sender.address} ${sender.port}`;
    let flow = this.#flows.get(key);
    if (flow === undefined) {
      if (this.#flows.size >= this.#limits.maxFlows) return;
      flow = this.#open(key, sender);
    }
    flow.lastAt = performance.now();
    const address = await flow.address;
    if (address === undefined) this.#end(key);
    else if (this.#flows.get(key) === flow) flow.socket.send(message, this.#target.port, address, () => undefined);
  }

  #open(key: string, sender: RemoteAddress): Flow {
    const { host } = this.#target;
    const family = (address: string): 'udp4' | 'udp6' => (address.includes(':') ? 'udp6' : 'udp4');
    const isAddress = host.includes(':') || /^[\d.]+$/.test(host);
    const socket = this.#network.createSocket(isAddress ? family(host) : 'udp4');
    const address = isAddress
      ? Promise.resolve(host)
      : this.#network.resolve(host).then(
          (found) => found.find((candidate) => family(candidate) === 'udp4'),
          () => undefined,
        );
    socket.on('error', () => undefined);
    socket.on(
      'message',
      (message: Uint8Array, from: RemoteAddress) => void this.#back(key, socket, sender, message, from),
    );
    const flow: Flow = { socket, address, lastAt: performance.now() };
    this.#flows.set(key, flow);
    return flow;
  }

  /** Only what the target itself says goes back. */
  async #back(
    key: string,
    socket: DatagramSocket,
    sender: RemoteAddress,
    message: Uint8Array,
    from: RemoteAddress,
  ): Promise<void> {
    const flow = this.#flows.get(key);
    if (flow?.socket !== socket || from.port !== this.#target.port || from.address !== (await flow.address)) return;
    flow.lastAt = performance.now();
    if (this.#flows.get(key) === flow) this.#near.send(message, sender.port, sender.address, () => undefined);
  }

  #sweep(): void {
    const deadline = performance.now() - this.#limits.udpIdleMs;
    for (const [key, flow] of this.#flows) if (flow.lastAt < deadline) this.#end(key);
  }

  #end(key: string): void {
    const flow = this.#flows.get(key);
    this.#flows.delete(key);
    flow?.socket.close();
  }
}
