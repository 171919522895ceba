import { randomBytes } from 'node:crypto';
import {
  type CipherSuite,
  formatKey,
  generatePrivateKey,
  MAX_PEERS,
  nobleCrypto,
  parseKey,
  wipe,
} from '@sealane/protocol';
import { formatAddress, parseAddress } from '@sealane/tunnel';
import { renderUnicodeCompact } from 'uqr';
import { InputError, RefusedError } from '../errors.ts';
import { formatClientConfig } from '../output/client-config.ts';
import { note, print } from '../output/print.ts';
import { createFile, removeFile } from '../state/file.ts';
import { stateFolder, type StateFolder } from '../state/folder.ts';
import { readPrivateKey } from '../state/keys.ts';
import { whileChanging } from '../state/lock.ts';
import { nextFree, serverAddress } from '../state/pool.ts';
import {
  networksOf,
  peerNamed,
  readRegistry,
  sealingOf,
  writeRegistry,
  type Registry,
} from '../state/registry-file.ts';
import { informServer } from '../running/live.ts';

export interface PeerAddOptions {
  readonly state: string;
  readonly out?: string;
  /** base64 of the key that the peer made itself. */
  readonly publicKey?: string;
  readonly psk: boolean;
  /** What the client sends through the tunnel; the pool when absent. */
  readonly allowedIps?: readonly string[];
  readonly keepalive: number;
  readonly postQuantum: boolean;
  readonly cipher: CipherSuite;
}

interface AddedPeer {
  readonly config: string;
  readonly addresses: readonly string[];
}

/** Adds a peer, tells the running server, and hands over the peer's configuration: the only time that its keys appear. */
export async function peerAdd(name: string, options: PeerAddOptions): Promise<void> {
  const folder = stateFolder(options.state);
  const { config, addresses } = await whileChanging(folder, () => add(folder, name, options));
  const isStock = options.cipher === 'chacha20poly1305';
  // An app that is not Sealane would take the configuration and then find no server.
  if (options.out === undefined) await printConfig(config, options.publicKey === undefined && isStock);
  else await print(`added ${name} (${addresses.join(', ')}): its configuration is in ${options.out}`);
  if (!isStock)
    note(`${options.cipher} is not WireGuard-compatible: ${name} has to use Sealane, no app takes this as a QR code`);
  const live = await informServer(folder, `${name} is added`);
  if (options.out === undefined) {
    note(`added ${name} (${addresses.join(', ')})${live ? ', the running server knows' : ''}`);
  }
}

/** Everything under the lock. The configuration is on disk before the peer is: no peer without a way to use it. */
function add(folder: StateFolder, name: string, options: PeerAddOptions): AddedPeer {
  const registry = readRegistry(folder);
  if (peerNamed(registry, name) !== undefined) throw new RefusedError(`there is a peer ${name} already`);
  if (registry.peers.length >= MAX_PEERS) throw new RefusedError(`a server has at most ${MAX_PEERS} peers`);
  const addresses = freeAddresses(registry);
  const serverKey = readPrivateKey(folder);
  const privateKey = options.publicKey === undefined ? generatePrivateKey(random) : undefined;
  const presharedKey = options.psk ? random(32) : undefined;
  try {
    const publicKey =
      privateKey === undefined ? ownKey(options.publicKey!, serverKey) : nobleCrypto.publicKey(privateKey);
    const serverPublicKey = formatKey(nobleCrypto.publicKey(serverKey));
    const key = formatKey(publicKey);
    const other = registry.peers.find((peer) => peer.publicKey === key);
    if (other !== undefined) throw new RefusedError(`the key belongs to the peer ${other.name} already`);
    if (key === serverPublicKey) throw new InputError("--public-key: this is the server's own key");
    const psk = presharedKey === undefined ? {} : { presharedKey: formatKey(presharedKey) };
    const { endpoint, dns, mtu, pool } = registry.server;
    const config = formatClientConfig({
      name,
      ...(privateKey === undefined ? {} : { privateKey: formatKey(privateKey) }),
      ...psk,
      addresses,
      dns,
      mtu,
      serverPublicKey,
      gateways: networksOf(registry).map((network) => formatAddress(serverAddress(network))),
      allowedIps: options.allowedIps ?? pool,
      endpoint,
      keepalive: options.keepalive,
      postQuantum: options.postQuantum,
      cipher: options.cipher,
    });
    const added = new Date().toISOString();
    const sealing = sealingOf(options.cipher, options.postQuantum);
    const peer = { name, publicKey: key, ...psk, ...sealing, addresses, added };
    const next = { ...registry, peers: [...registry.peers, peer] };
    commit(folder, next, config, options.out);
    return { config, addresses };
  } finally {
    wipe(serverKey, privateKey, presharedKey);
  }
}

function commit(folder: StateFolder, next: Registry, config: string, out: string | undefined): void {
  if (out !== undefined) createFile(out, config);
  try {
    writeRegistry(folder, next);
  } catch (error) {
    if (out !== undefined) removeFile(out);
    throw error;
  }
}

/** The next free address of each block. */
function freeAddresses(registry: Registry): readonly string[] {
  const taken = registry.peers.flatMap((peer) => peer.addresses.map((address) => parseAddress(address)!));
  return networksOf(registry).map((network) => {
    const address = nextFree(network, taken);
    if (address === undefined)
      throw new RefusedError(`the pool ${network.text} has no free address: remove a peer first`);
    return formatAddress(address);
  });
}

/** Keys of low order would make every session's secret known to all (RFC 7748 section 6.1). */
function ownKey(text: string, serverKey: Uint8Array): Uint8Array {
  const key = parseKey(text);
  // The text is not repeated: a private key may have been pasted by mistake.
  if (key === undefined) throw new InputError('--public-key: expected a base64 key of 32 bytes');
  if (nobleCrypto.dh(serverKey, key) === undefined) throw new InputError('--public-key: this is not a usable key');
  return key;
}

async function printConfig(config: string, complete: boolean): Promise<void> {
  await print(config);
  // Without its private key the peer could not use what it scans.
  if (process.stdout.isTTY && complete) await print(`\n${renderUnicodeCompact(config, { ecc: 'L', border: 2 })}`);
}

function random(length: number): Uint8Array {
  return new Uint8Array(randomBytes(length));
}
