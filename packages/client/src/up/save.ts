/** SaveConfig: the file takes over what was changed while the tunnel ran. */
import { randomBytes } from 'node:crypto';
import { open, realpath, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { formatKey, type PeerStatus, sameRemote, wipe } from '@sealane/protocol';
import {
  formatConfig,
  formatEndpoint,
  formatPrefix,
  type InterfaceConfig,
  type PeerConfig,
  peerEndpoints,
  type ResolvedEndpoints,
  type Tunnel,
} from '@sealane/tunnel';
import { liveAddresses } from '../system/address.ts';
import { liveServers } from '../system/dns.ts';
import type { State } from './change.ts';

/**
 * Writes the tunnel as it is now over its file, as a whole and with mode 0600; comments in it are lost, as with wg-quick.
 * `dns`: whether the name servers of the file were set.
 */
export async function saveConfig(
  { path, config, resolved, layout }: State,
  tunnel: Tunnel,
  dns: boolean,
): Promise<void> {
  const own = config.interface;
  const secrets = await tunnel.secrets();
  try {
    const { device, listenPort, fwmark, mtu } = await tunnel.status();
    const presharedKeys = new Map(
      secrets.presharedKeys.map((entry) => [formatKey(entry.publicKey), entry.presharedKey]),
    );
    const text = formatConfig({
      interface: {
        ...own,
        privateKey: secrets.privateKey ?? own.privateKey,
        addresses: await addressesNow(tunnel.name, own),
        ...(dns ? { dns: await dnsNow(tunnel.name, own) } : {}),
        // One that was chosen for the way to the endpoint is chosen anew each time, and so is the mark.
        ...(own.mtu === undefined ? {} : { mtu }),
        ...(fwmark === layout.mark ? {} : { fwmark }),
        ...(listenPort === 0 ? {} : { listenPort }),
      },
      peers: device.peers.map((status) => {
        const key = formatKey(status.publicKey);
        const before = config.peers.find((peer) => formatKey(peer.publicKey) === key);
        return livePeer(status, before, presharedKeys.get(key), resolved);
      }),
    });
    // What a link leads to takes the changes, as with wg-quick.
    await replaceFile(await realpath(path), text);
  } finally {
    wipe(...(secrets.privateKey === undefined ? [] : [secrets.privateKey]), ...presharedKeysOf(secrets));
  }
}

function presharedKeysOf(secrets: Awaited<ReturnType<Tunnel['secrets']>>): readonly Uint8Array[] {
  return secrets.presharedKeys.map(({ presharedKey }) => presharedKey);
}

/** In the order of the file, then what came to it; the kernel gives a link-local address to every interface. */
async function addressesNow(name: string, { addresses }: InterfaceConfig): Promise<InterfaceConfig['addresses']> {
  const live = new Map((await liveAddresses(name)).map((prefix) => [formatPrefix(prefix), prefix]));
  const kept = addresses.filter((prefix) => live.delete(formatPrefix(prefix)));
  return [...kept, ...[...live.values()].filter(({ address }) => !isLinkLocal(address))];
}

/** Where no record is kept it is the file that knows; so it is for search domains, which wg-quick loses. */
async function dnsNow(name: string, { dns }: InterfaceConfig): Promise<InterfaceConfig['dns']> {
  return { ...dns, servers: (await liveServers(name)) ?? dns.servers };
}

/** fe80::/10 (RFC 4291 §2.5.6). */
function isLinkLocal(address: Uint8Array): boolean {
  return address.length === 16 && address[0] === 0xfe && (address[1]! & 0xc0) === 0x80;
}

function livePeer(
  status: PeerStatus,
  before: PeerConfig | undefined,
  presharedKey: Uint8Array | undefined,
  resolved: ResolvedEndpoints,
): PeerConfig {
  const { presharedKey: _psk, persistentKeepalive: _keepalive, ...kept } = before ?? { publicKey: status.publicKey };
  const own = before === undefined ? [] : peerEndpoints(before, resolved);
  const { endpoint, persistentKeepalive } = status;
  // A name says more than the address that it stands for now.
  const isOwn = endpoint === undefined || own.some((candidate) => sameRemote(candidate, endpoint));
  return {
    ...kept,
    ...(presharedKey === undefined ? {} : { presharedKey }),
    allowedIps: status.allowedIps,
    endpoints: isOwn ? (before?.endpoints ?? []) : [formatEndpoint(endpoint)],
    ...(persistentKeepalive === 0 ? {} : { persistentKeepalive }),
  };
}

async function replaceFile(path: string, text: string): Promise<void> {
  const temporary = join(dirname(path), `.${basename(path)}.${randomBytes(8).toString('hex')}`);
  const file = await open(temporary, 'wx', 0o600);
  try {
    await file.writeFile(text);
    await file.sync();
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  } finally {
    await file.close();
  }
}
