/** A tunnel for one program: no interface, no routes, no privileges; its network is used through sockets of its own. */
import { parseAddress } from '@sealane/netstack';
import type { Crypto, DeviceSecrets } from '@sealane/protocol';
import { loadConfig } from '../config/file.ts';
import type { TunnelConfig } from '../config/model.ts';
import { resolveEndpoints, toUpdate } from '../config/update.ts';
import { StackDevice } from '../devices/netstack.ts';
import { formatAddress } from '../ip-text.ts';
import type { LaneKind, TunnelEvent, TunnelUpdate } from '../model.ts';
import {
  openDeviceTunnel,
  type Tunnel,
  type TunnelEventType,
  type TunnelListener,
  type TunnelStatus,
} from '../tunnel.ts';
import { Routes } from './routes.ts';
import { TunnelNetwork } from './tunnel-network.ts';

export interface UserspaceOptions {
  /** For status; 'userspace' by default. */
  readonly name?: string;
  readonly lane?: LaneKind | 'auto';
  readonly crypto?: Crypto;
  /** Keeps the newest handshake timestamp across restarts. */
  readonly timestampFile?: string;
  /** Called once, before the first name is looked up outside of the tunnel because the configuration has no `DNS`. */
  readonly onNameLeak?: (name: string) => void;
}

const DEFAULT_MTU = 1_420;

/**
 * Opens a tunnel inside this process from a configuration or the path of one.
 * Throws ConfigError or ResolveError for a configuration that cannot be used, RangeError for one without an address.
 */
export async function openUserspaceTunnel(
  source: TunnelConfig | string,
  options: UserspaceOptions = {},
): Promise<UserspaceTunnel> {
  const config = typeof source === 'string' ? await loadConfig(source) : source;
  const { addresses, dns, mtu = DEFAULT_MTU } = config.interface;
  if (addresses.length === 0)
    throw new RangeError('Address: a tunnel without an interface needs an address of its own');
  const update = toUpdate(config, await resolveEndpoints(config));
  const { name = 'userspace', onNameLeak, lane, crypto, timestampFile } = options;
  const device = new StackDevice({ name, mtu, addresses: addresses.map(({ address }) => address) });
  const routes = new Routes();
  const network = new TunnelNetwork(device, {
    families: ([4, 6] as const).filter((family) =>
      addresses.some(({ address }) => address.length === (family === 4 ? 4 : 16)),
    ),
    dns: { servers: dns.servers.map(formatAddress), search: dns.search },
    isRouted: (address) => routes.includes(address),
    ...(onNameLeak !== undefined && { onNameLeak }),
  });
  const tunnel = await openDeviceTunnel({
    device,
    config: { ...update, mtu },
    ...(lane !== undefined && { lane }),
    ...(crypto !== undefined && { crypto }),
    ...(timestampFile !== undefined && { timestampFile }),
  });
  routes.adopt((await tunnel.status()).device.peers);
  return new UserspaceTunnel(tunnel, network, routes);
}

/** A running tunnel and the network behind it; made by `openTunnel`. */
export class UserspaceTunnel {
  readonly name: string;
  readonly lane: LaneKind;
  /** What `connect` and its like use, for code that takes any network. */
  readonly network: TunnelNetwork;
  readonly connect: TunnelNetwork['connect'];
  readonly createServer: TunnelNetwork['createServer'];
  readonly createSocket: TunnelNetwork['createSocket'];
  readonly resolve: TunnelNetwork['resolve'];
  readonly agent: TunnelNetwork['agent'];
  readonly httpsAgent: TunnelNetwork['httpsAgent'];
  readonly dispatcher: TunnelNetwork['dispatcher'];
  readonly #tunnel: Tunnel;
  readonly #routes: Routes;

  /** @internal */
  constructor(tunnel: Tunnel, network: TunnelNetwork, routes: Routes) {
    this.name = tunnel.name;
    this.lane = tunnel.lane;
    this.network = network;
    this.connect = network.connect.bind(network);
    this.createServer = network.createServer.bind(network);
    this.createSocket = network.createSocket.bind(network);
    this.resolve = network.resolve.bind(network);
    this.agent = network.agent.bind(network);
    this.httpsAgent = network.httpsAgent.bind(network);
    this.dispatcher = network.dispatcher.bind(network);
    this.#tunnel = tunnel;
    this.#routes = routes;
  }

  /** See `Tunnel.configure`. */
  async configure(update: TunnelUpdate): Promise<void> {
    await this.#tunnel.configure(update);
    this.#routes.adopt((await this.#tunnel.status()).device.peers);
  }

  /** Everything about the tunnel but its secrets. */
  status(): Promise<TunnelStatus> {
    return this.#tunnel.status();
  }

  /** The public key of the peer whose AllowedIPs hold an address; undefined when the tunnel does not lead there. */
  peerFor(address: string): Uint8Array | undefined {
    const parsed = parseAddress(address);
    return parsed === undefined ? undefined : this.#routes.peerFor(parsed);
  }

  /** Private and preshared keys: only for writing the configuration out. */
  secrets(): Promise<DeviceSecrets> {
    return this.#tunnel.secrets();
  }

  /** Begins a handshake with one peer, or with every peer that has an endpoint; resolves to how many were begun. */
  rekey(publicKey?: Uint8Array): Promise<number> {
    return this.#tunnel.rekey(publicKey);
  }

  /** Calls `listener` for each event of this type; returns the function that stops it. */
  on<T extends TunnelEventType>(type: T, listener: TunnelListener<T>): () => void {
    return this.#tunnel.on(type, listener);
  }

  /** Calls `listener` for every event; returns the function that stops it. */
  events(listener: (event: TunnelEvent) => void | Promise<void>): () => void {
    return this.#tunnel.events(listener);
  }

  /** Closes the tunnel and every socket in it; safe to call again. */
  close(): Promise<void> {
    return this.#tunnel.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
