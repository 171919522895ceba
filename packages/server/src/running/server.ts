import { formatKey, wipe } from '@sealane/protocol';
import {
  type ControlledTunnel,
  type FirewallState,
  formatAddress,
  type LaneKind,
  type Log,
  openTunnel,
  type PacketDevice,
  selectCrypto,
  serveControl,
  type Tunnel,
  type UserIds,
  watchFirewall,
} from '@sealane/tunnel';
import { errorCode, errorLine, RefusedError } from '../errors.ts';
import { recallEndpoints, rememberEndpoints } from '../hosting/endpoints.ts';
import { type HostedNetwork, hostNetwork } from '../hosting/host.ts';
import { giveAway, requireFolder, type StateFolder } from '../state/folder.ts';
import { readPrivateKey } from '../state/keys.ts';
import { lockRun } from '../state/lock.ts';
import { endpointPort } from '../state/names.ts';
import { serverAddress } from '../state/pool.ts';
import { networksOf, readRegistry } from '../state/registry-file.ts';
import type { GatewayLimits } from '../userspace/gateway.ts';
import type { Rule } from '../userspace/policy.ts';
import { AddressOwners } from './address-owners.ts';
import { peerChanges } from './changes.ts';
import { logEvent } from './events.ts';
import { openPacketDevice, type PacketDeviceOptions } from './packet-device.ts';
import { Roster } from './roster.ts';

export interface ServerOptions {
  readonly folder: StateFolder;
  readonly mode: PacketDeviceOptions['mode'];
  readonly interfaceName: string;
  readonly lane: LaneKind | 'auto';
  /** Threads that carry packets, with a TUN interface. */
  readonly lanes?: number;
  /** The UDP port: that of the endpoint when absent, any free one when 0. */
  readonly listenPort?: number;
  /** Where peers may and may not go. */
  readonly allow?: readonly Rule[];
  readonly deny?: readonly Rule[];
  /** What peers may hold, in userspace. */
  readonly limits?: Partial<GatewayLimits>;
  /** How a TUN interface is joined with the networks of this host; not at all when absent. */
  readonly forwarding?: { readonly peerToPeer: boolean; readonly nat: boolean };
  /** Whose the process becomes, who owns the state folder, and what it keeps then. */
  readonly user?: UserIds & { readonly capabilities: readonly number[] };
  readonly log: Log;
}

/** What is fixed for as long as a server runs. */
export interface ServerFacts {
  /** Inside the tunnel, with the length of their block. */
  readonly addresses: readonly string[];
  readonly port: number;
  readonly publicKey: string;
  readonly device: PacketDevice['kind'];
  readonly interface: string;
  readonly crypto: string;
  readonly lane: LaneKind;
  /** What this system lacks or what fell back. */
  readonly notes: readonly string[];
}

/** A server that runs: one tunnel for the peers of one registry. */
export interface RunningServer {
  /** Resolves when the packet device is gone although nobody closed the server; with the cause if there is one. */
  readonly ended: Promise<Error | undefined>;
  readonly facts: ServerFacts;
  /** Reads the registry again and applies what is different. */
  reload(): Promise<void>;
  close(): Promise<void>;
}

/**
 * Starts the server of a state folder.
 * @throws InputError when the state is not valid, RefusedError when the system or another server is in the way.
 */
export async function startServer(options: ServerOptions): Promise<RunningServer> {
  const { folder, log } = options;
  const closers: (() => unknown)[] = [];
  const close = async (): Promise<void> => {
    const failures: unknown[] = [];
    for (const closer of closers.splice(0).toReversed()) {
      try {
        await closer();
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length > 0) throw failures[0];
  };
  try {
    requireFolder(folder);
    const lock = await lockRun(folder);
    closers.push(() => lock.release());
    const registry = readRegistry(folder);
    const { server, peers: registered } = registry;
    const { endpoint, mtu } = server;
    const addresses = networksOf(registry).map(
      (network) => `${formatAddress(serverAddress(network))}/${network.length}`,
    );

    const owners = new AddressOwners(registered);
    const { device, fallback } = await openPacketDevice({
      ...options,
      addresses,
      mtu,
      peerOf: (address) => owners.ownerOf(address),
    });
    closers.push(() => device.close());
    if (fallback !== undefined) log.entry('fallback', `running in userspace: ${fallback}`, { reason: fallback });

    const { forwarding, allow = [], deny = [] } = options;
    if (device.kind === 'tun' && forwarding !== undefined) {
      const networks = networksOf(registry);
      const host = { interfaceName: device.name, networks, allow, deny, ...forwarding, recordFile: folder.hosting };
      const hosted = await hostNetwork(host);
      closers.push(() => hosted.undo());
      closers.push(keepRestored(hosted, log));
      for (const text of hosted.notes) log.entry('note', text);
    }

    const listenPort = options.listenPort ?? endpointPort(endpoint)!;
    const privateKey = readPrivateKey(folder);
    const publicKey = formatKey(selectCrypto().publicKey(privateKey));
    const remembered = recallEndpoints(folder.endpoints, Date.now());
    const lastEndpoints = new Map(remembered.map((peer) => [formatKey(peer.publicKey), peer.endpoint]));
    const peers = peerChanges([], registered).map((peer) => {
      const last = lastEndpoints.get(formatKey(peer.publicKey));
      return last === undefined ? peer : { ...peer, endpoint: last };
    });
    const tunnel = await openTunnel({
      device,
      config: { privateKey, listenPort, mtu, peers },
      lane: options.lane,
      timestampFile: folder.timestamp,
    })
      .catch((error: unknown) => {
        throw openError(error, listenPort);
      })
      .finally(() => wipe(privateKey, ...peers.map(({ presharedKey }) => presharedKey)));
    closers.push(() => tunnel.close());
    // Only peers that were here a moment ago have an endpoint now; they think that their session lives.
    await tunnel.rekey();
    closers.push(rememberEndpoints(folder.endpoints, tunnel, log));

    const roster = new Roster(folder, tunnel, registry, owners, log);
    const ended = new Promise<Error | undefined>((resolve) => {
      tunnel.events((event) => {
        if (event.type === 'closed') resolve(event.error);
        else logEvent(log, event, (key) => roster.nameOf(key));
      });
    });

    const reload = (): Promise<void> => roster.reload();
    const { user } = options;
    if (user !== undefined) {
      giveAway(folder, user);
      await tunnel.becomeUser(user, user.capabilities);
    }
    const control = await serveControl(readOnly(tunnel), folder.controlSocket, { reload });
    closers.push(() => control.close());
    // A change that was written before the socket was there could not be told.
    await reload();
    const { crypto, listenPort: port, kind: lane, notes } = await tunnel.status();
    const facts = { addresses, port, publicKey, device: device.kind, interface: device.name, crypto, lane, notes };
    return { ended, facts, reload, close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Who loads a firewall often flushes everybody's first: ours is put back. */
function keepRestored(hosted: HostedNetwork, log: Log): () => Promise<void> {
  let last: Promise<FirewallState> | undefined;
  const restore = async (): Promise<FirewallState> => {
    try {
      const state = await hosted.restore();
      const what = 'somebody changed our nftables table: it is as it was again';
      if (state === 'restored') log.limited('firewall-restored', what);
      return state;
    } catch (error) {
      log.limited('firewall-failed', `our nftables table cannot be put back: ${errorLine(error)}`);
      return 'failed';
    }
  };
  const stop = watchFirewall(() => (last = restore()));
  return async () => {
    stop();
    await last;
  };
}

/** Peers change through the registry alone, and the server's secrets stay with it. */
function readOnly(tunnel: Tunnel): ControlledTunnel {
  return {
    configure: () => Promise.reject(new Error('the registry says which peers there are')),
    status: () => tunnel.status(),
    secrets: () => Promise.resolve({ presharedKeys: [] }),
    rekey: (publicKey) => tunnel.rekey(publicKey),
  };
}

function openError(error: unknown, port: number): Error {
  for (let cause: unknown = error; cause instanceof Error; cause = cause.cause) {
    if (errorCode(cause) === 'EADDRINUSE') {
      return new RefusedError(`UDP port ${port} is in use: choose another one with --listen`, { cause });
    }
    if (errorCode(cause) === 'EACCES') {
      return new RefusedError(`UDP port ${port} may not be used: choose one above 1023 with --listen`, { cause });
    }
  }
  return new RefusedError(`the tunnel cannot be opened: ${errorLine(error)}`, { cause: error });
}
