/** What brings HTTP through a network: agents for node:http and node:https, a connector for undici. */
import { Agent as HttpAgentBase, type AgentOptions as HttpAgentOptions } from 'node:http';
import { Agent as HttpsAgentBase, type AgentOptions as HttpsAgentOptions } from 'node:https';
import { isIP, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { connect as connectTls, type ConnectionOptions } from 'node:tls';
import { openConnection } from './open-connection.ts';
import type { NetworkStack, StreamSocket } from './types.ts';

type Network = Pick<NetworkStack, 'connect'>;
/** What both agents take beside what node's own take. */
interface ConnectTimeout {
  /** How long the far side may take to answer, in milliseconds. */
  readonly connectTimeoutMs?: number;
}

type Created = (error: Error | null, socket: Duplex) => void;

/**
 * Carries `http:` requests through a network. A request with `agent: false` or `agent: undefined` does not use it and
 * reaches the computer's own network: pass this agent with every request.
 */
export class HttpAgent extends HttpAgentBase {
  readonly #network: Network;
  readonly #timeout: { readonly timeoutMs?: number };

  constructor(network: Network, options: HttpAgentOptions & ConnectTimeout = {}) {
    const { connectTimeoutMs, ...rest } = options;
    super(rest);
    this.#network = network;
    this.#timeout = connectTimeoutMs === undefined ? {} : { timeoutMs: connectTimeoutMs };
  }

  /** @internal Called by node:http. */
  override createConnection(options: object, created?: Created): undefined {
    openConnection(this.#network, { ...destinationOf(options), ...this.#timeout }).then(
      (socket) => created?.(null, socket),
      (error: unknown) => fail(created, error),
    );
    return undefined;
  }
}

/** Carries `https:` requests through a network; as with `HttpAgent`, every request has to name it. */
export class HttpsAgent extends HttpsAgentBase {
  readonly #network: Network;
  readonly #timeout: { readonly timeoutMs?: number };

  constructor(network: Network, options: HttpsAgentOptions & ConnectTimeout = {}) {
    const { connectTimeoutMs, ...rest } = options;
    super(rest);
    this.#network = network;
    this.#timeout = connectTimeoutMs === undefined ? {} : { timeoutMs: connectTimeoutMs };
  }

  /** @internal Called by node:https. */
  override createConnection(options: object, created?: Created): undefined {
    openConnection(this.#network, { ...destinationOf(options), ...this.#timeout }).then(
      (socket) => created?.(null, secure(options, socket)),
      (error: unknown) => fail(created, error),
    );
    return undefined;
  }
}

/** What undici calls to make a connection; `options.protocol` says whether it is to be secured. */
export type UndiciConnector = (
  options: {
    readonly hostname: string;
    readonly port: string;
    readonly protocol: string;
    readonly servername?: string | undefined;
  },
  callback: (...result: [error: null, socket: Socket] | [error: Error, socket: null]) => void,
) => void;

/** A `connect` option for undici's Agent, Client and Pool. */
export function undiciConnector(network: Network, tls: ConnectionOptions = {}): UndiciConnector {
  return (options, callback) => void connectForUndici(network, tls, options, callback);
}

async function connectForUndici(
  network: Network,
  tls: ConnectionOptions,
  { hostname, port, protocol, servername }: Parameters<UndiciConnector>[0],
  callback: Parameters<UndiciConnector>[1],
): Promise<void> {
  const isSecure = protocol === 'https:';
  const host = hostname.replace(/^\[(.*)\]$/, '$1');
  let socket: StreamSocket;
  try {
    socket = await openConnection(network, { host, port: port === '' ? (isSecure ? 443 : 80) : Number(port) });
  } catch (error) {
    callback(error as Error, null);
    return;
  }
  if (!isSecure) {
    // undici uses what both kinds of sockets have.
    callback(null, socket as unknown as Socket);
    return;
  }
  const name = servername ?? (isIP(host) === 0 ? host : undefined);
  const secured = connectTls({ ...tls, socket, host, ...(name !== undefined && { servername: name }) });
  const onError = (error: Error): void => callback(error, null);
  secured.once('error', onError);
  secured.once('secureConnect', () => {
    secured.removeListener('error', onError);
    callback(null, secured);
  });
}

function secure(options: object, socket: StreamSocket): Duplex {
  return connectTls({ ...options, socket });
}

function destinationOf(options: object): { readonly host: string; readonly port: number } {
  const { host, port } = options as { readonly host?: string; readonly port?: number | string };
  return { host: host ?? 'localhost', port: Number(port ?? 80) };
}

function fail(created: Created | undefined, error: unknown): void {
  (created as ((error: unknown) => void) | undefined)?.(error);
}
