/** SaveConfig: the file takes over what was changed while the tunnel ran. */
import { randomBytes } from 'node:crypto';
import { open, realpath, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { formatKey, type PeerStatus, sameRemote, wipe } from '@sealane/protocol';
import {
  formatConfig,
  formatEndpoint,
  type PeerConfig,
  peerEndpoints,
  type ResolvedEndpoints,
  type Tunnel,
  type TunnelConfig,
} from '@sealane/tunnel';

/** Writes the tunnel as it is now over its file, as a whole and with mode 0600; comments in it are lost, as with wg-quick. */
export async function saveConfig(
  path: string,
  tunnel: Tunnel,
  config: TunnelConfig,
  resolved: ResolvedEndpoints,
): Promise<void> {
  const secrets = await tunnel.secrets();
  try {
    const { device, listenPort } = await tunnel.status();
    const presharedKeys = new Map(
      secrets.presharedKeys.map((entry) => [formatKey(entry.publicKey), entry.presharedKey]),
    );
    const text = formatConfig({
      interface: {
        ...config.interface,
        privateKey: secrets.privateKey ?? config.interface.privateKey,
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
