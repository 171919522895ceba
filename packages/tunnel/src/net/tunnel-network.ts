/** The network behind a tunnel, for programs: sockets, names, agents. */
import { lookup } from 'node:dns/promises';
import type { AgentOptions as HttpAgentOptions } from 'node:http';
import type { AgentOptions as HttpsAgentOptions } from 'node:https';
import { createRequire } from 'node:module';
import { isIP } from 'node:net';
import type { ConnectionOptions } from 'node:tls';
import { type ConnectionError, type IpAddress, parseAddress } from '@sealane/netstack';
import type { StackDevice } from '../devices/netstack.ts';
import { HttpAgent, HttpsAgent, type UndiciConnector, undiciConnector } from './agents.ts';
import { DnsResolver } from './dns-resolver.ts';
import { lookupError, networkError, NotRoutedError } from './errors.ts';
import { TunnelDatagramSocket } from './tunnel-datagram.ts';
import { TunnelServer } from './tunnel-server.ts';
import { TunnelSocket } from './tunnel-socket.ts';
import type { ConnectOptions, NetworkStack, ServerOptions, StreamSocket } from './types.ts';

export interface TunnelNetworkOptions {
  /** Addresses of name servers inside the tunnel; without one names are looked up by this computer and so leave the tunnel. */
  readonly dns?: { readonly servers: readonly string[]; readonly search?: readonly string[] };
  readonly families: readonly (4 | 6)[];
  /** Whether the tunnel leads there: what it does not carry fails at once instead of after a time-out. */
  readonly isRouted?: (address: IpAddress) => boolean;
  /** Called once, before the first name leaves the tunnel. */
  readonly onNameLeak?: (name: string) => void;
}

/** How long one of several addresses of a name may take. */
const ATTEMPT_MS = 2_500;

/** What undici's Agent, Pool and their like have in common. */
export type DispatcherClass<Options extends object, Dispatcher> = new (
  options: Options & { connect: UndiciConnector },
) => Dispatcher;

export interface ClosableDispatcher {
  close(): Promise<void>;
  destroy(): Promise<void>;
}

export class TunnelNetwork implements NetworkStack {
  readonly #device: StackDevice;
  readonly #options: TunnelNetworkOptions;
  readonly #resolver: DnsResolver | undefined;
  readonly #open = new Set<{ destroy(): void }>();
  readonly #agents: { destroy(): void }[] = [];
  #hasLeaked = false;

  constructor(device: StackDevice, options: TunnelNetworkOptions) {
    this.#device = device;
    this.#options = options;
    const { dns, families } = options;
    if (dns !== undefined && dns.servers.length > 0) {
      this.#resolver = new DnsResolver({ network: this, families, ...dns });
    }
    device.onClose = (): void => this.#closeAll();
  }

  get addresses(): readonly string[] {
    return this.#device.addresses.map(String);
  }

  /** Begins a connection, as net.connect does. Throws RangeError for a port that is none. */
  connect(options: ConnectOptions, listener?: () => void): TunnelSocket {
    const { host, port, localAddress, allowHalfOpen } = options;
    if (!Number.isInteger(port) || port < 1 || port > 65_535)
      throw new RangeError(`port must be 1 to 65535, got ${port}`);
    const local = localAddress === undefined ? undefined : parseAddress(localAddress);
    if (localAddress !== undefined && local === undefined) {
      throw new TypeError(`localAddress must be an IP address, got '${localAddress}'`);
    }
    const socket = new TunnelSocket(this.#device, { allowHalfOpen });
    this.#open.add(socket);
    socket.once('close', () => this.#open.delete(socket));
    if (listener !== undefined) socket.once('connect', listener);
    this.#establish(socket, host, port, local).catch((error: unknown) => socket.destroy(error as Error));
    return socket;
  }

  /** A server like net.Server; hand its connections to an http.Server with `http.emit('connection', socket)`. */
  createServer(listener?: (socket: StreamSocket) => void): TunnelServer;
  createServer(options: ServerOptions, listener?: (socket: StreamSocket) => void): TunnelServer;
  createServer(
    first: ServerOptions | ((socket: StreamSocket) => void) = {},
    second?: (socket: StreamSocket) => void,
  ): TunnelServer {
    const options = typeof first === 'function' ? {} : first;
    const listener = typeof first === 'function' ? first : second;
    const server = new TunnelServer(this.#device, options);
    if (listener !== undefined) server.on('connection', listener);
    server.on('listening', () => this.#open.add(server));
    server.on('close', () => this.#open.delete(server));
    return server;
  }

  createSocket(type: 'udp4' | 'udp6'): TunnelDatagramSocket {
    if (type !== 'udp4' && type !== 'udp6') throw new TypeError(`type must be 'udp4' or 'udp6', got '${String(type)}'`);
    const socket = new TunnelDatagramSocket(this.#device, type, {
      resolve: (name) => this.resolve(name),
      isRouted: (address) => this.#options.isRouted?.(address) ?? true,
    });
    this.#open.add(socket);
    socket.once('close', () => this.#open.delete(socket));
    return socket;
  }

  /** The addresses of a name; rejects with code ENOTFOUND or EAI_AGAIN. */
  async resolve(name: string): Promise<readonly string[]> {
    if (isIP(name) !== 0) return [name];
    if (this.#resolver !== undefined) return this.#resolver.resolve(name);
    if (!this.#hasLeaked) {
      this.#hasLeaked = true;
      this.#options.onNameLeak?.(name);
    }
    const found = await lookup(name, { all: true });
    return found.map(({ address }) => address);
  }

  /** An agent for node:http. Every request must name it: `agent: false` reaches the computer's own network. */
  agent(options?: HttpAgentOptions): HttpAgent {
    return this.#keep(new HttpAgent(this, { keepAlive: true, ...options }));
  }

  /** An agent for node:https; see `agent`. */
  httpsAgent(options?: HttpsAgentOptions): HttpsAgent {
    return this.#keep(new HttpsAgent(this, { keepAlive: true, ...options }));
  }

  /**
   * An undici dispatcher: of the Agent of the undici that is installed beside this package, or, as `dispatcher(Agent)`, of any class
   * that takes `connect`, which may be a Pool or another version's. Throws a TypeError when there is no undici.
   */
  dispatcher<Dispatcher = ClosableDispatcher>(): Dispatcher;
  dispatcher<Options extends object, Dispatcher>(
    Agent: DispatcherClass<Options, Dispatcher>,
    options?: Options,
    tls?: ConnectionOptions,
  ): Dispatcher;
  dispatcher<Options extends object, Dispatcher>(
    Agent: DispatcherClass<Options, Dispatcher> = installedAgent(),
    options?: Options,
    tls?: ConnectionOptions,
  ): Dispatcher {
    return new Agent({ ...(options as Options), connect: undiciConnector(this, tls) });
  }

  async #establish(socket: TunnelSocket, host: string, port: number, local: IpAddress | undefined): Promise<void> {
    const texts = await this.resolve(host);
    const addresses = texts.flatMap((text) => parseAddress(text) ?? []);
    let failure: unknown = lookupError('ENOTFOUND', host);
    for (const [i, address] of addresses.entries()) {
      if (socket.destroyed) return;
      try {
        await this.#attempt(socket, address, port, local, i < addresses.length - 1);
        return;
      } catch (error) {
        failure = error;
      }
    }
    throw failure;
  }

  #attempt(
    socket: TunnelSocket,
    remote: IpAddress,
    port: number,
    local: IpAddress | undefined,
    isOneOfSeveral: boolean,
  ): Promise<void> {
    return new Promise((resolve, reject) => {
      const address = remote.toString();
      const fail = (code: ConnectionError | 'EADDRNOTAVAIL', cause?: unknown): void => {
        clearTimeout(timer);
        socket.removeListener('close', resolve);
        reject(networkError(code, { syscall: 'connect', address, port, ...(cause !== undefined && { cause }) }));
      };
      if (this.#options.isRouted?.(remote) === false) {
        reject(networkError('ENETUNREACH', { syscall: 'connect', address, port, cause: new NotRoutedError(address) }));
        return;
      }
      let timer: NodeJS.Timeout | undefined;
      const done = (): void => {
        clearTimeout(timer);
        socket.removeListener('close', resolve);
        resolve();
      };
      try {
        const connection = this.#device.stack.connect(
          { address: remote, port },
          socket.handler(done, fail),
          local === undefined ? {} : { local },
        );
        socket.attach(connection);
        if (isOneOfSeveral) {
          timer = setTimeout(() => {
            connection.abort();
            fail('ETIMEDOUT');
          }, ATTEMPT_MS);
        }
        socket.once('close', resolve);
      } catch (cause) {
        fail(cause instanceof TypeError ? 'ENETUNREACH' : 'EADDRNOTAVAIL', cause);
      }
    });
  }

  #keep<T extends { destroy(): void }>(agent: T): T {
    this.#agents.push(agent);
    return agent;
  }

  #closeAll(): void {
    for (const agent of this.#agents) agent.destroy();
    for (const socket of this.#open) socket.destroy();
  }
}

function installedAgent<Options extends object, Dispatcher>(): DispatcherClass<Options, Dispatcher> {
  try {
    const { Agent } = createRequire(import.meta.url)('undici') as {
      readonly Agent: DispatcherClass<Options, Dispatcher>;
    };
    return Agent;
  } catch (error) {
    throw new TypeError(
      'undici is not installed: `npm install undici`, or call dispatcher(Agent) with a class like its Agent',
      {
        cause: error,
      },
    );
  }
}
