/**
 * Checks a `DeviceUpdate` before anything of it is applied (what is wrong is the caller's fault and named), and applies what
 * of it concerns handshakes with a peer.
 */
import {
  MAX_PEERS,
  MAX_POST_QUANTUM_INTERVAL,
  MIN_POST_QUANTUM_INTERVAL,
  MIN_REKEY_INTERVAL,
  REKEY_AFTER_TIME,
} from './constants.ts';
import type { DeviceContext } from './context.ts';
import type { CipherSuite } from './crypto.ts';
import { CIPHER_SUITES } from './crypto.ts';
import type { Endpoint } from './endpoint.ts';
import { KEY_LENGTH, keyId } from './keys.ts';
import type { DeviceUpdate, PeerUpdate, Prefix } from './model.ts';
import type { Peer } from './peer.ts';
import { PostQuantum } from './post-quantum.ts';

const MAX_KEEPALIVE = 65_535;
const MAX_MTU = 65_535;
const MAX_PORT = 65_535;

/** Throws a RangeError that names the field. `known` are the peers that there are, by the ids of their keys. */
export function checkUpdate(update: DeviceUpdate, known: ReadonlyMap<string, unknown>): void {
  if (update.privateKey !== undefined) checkKey(update.privateKey, 'privateKey');
  if (update.mtu !== undefined) checkInteger(update.mtu, 0, MAX_MTU, 'mtu');
  for (const [i, peer] of (update.peers ?? []).entries()) checkPeer(peer, `peers[${i}]`);
  if (peersAfter(update, known) > MAX_PEERS) throw new RangeError(`peers must not be more than ${MAX_PEERS}`);
}

/** Whatever of it changes takes effect with the next handshake. */
export function configureHandshakes(context: DeviceContext, peer: Peer, update: PeerUpdate, now: number): void {
  if (update.presharedKey !== undefined) changePresharedKey(context, peer, update.presharedKey);
  if (update.cipherSuite !== undefined) changeCipherSuite(peer, update.cipherSuite);
  if (update.rekeyInterval !== undefined) changeRekeyInterval(peer, update.rekeyInterval);
  if (update.postQuantum !== undefined) changePostQuantum(context, peer, update.postQuantum, now);
}

/** What was derived under another configured key is void. */
function changePresharedKey({ crypto }: DeviceContext, peer: Peer, presharedKey: Uint8Array): void {
  if (crypto.equal(presharedKey, peer.presharedKey)) return;
  peer.presharedKey.set(presharedKey);
  peer.postQuantum?.wipe();
}

/** Sessions of the other suite end here. */
function changeCipherSuite(peer: Peer, suite: CipherSuite): void {
  if (suite === peer.cipherSuite) return;
  peer.cipherSuite = suite;
  peer.discardPending();
  peer.keypairs.clear();
}

function changeRekeyInterval(peer: Peer, interval: number): void {
  peer.rekeyInterval = interval;
  const { current } = peer.keypairs;
  if (current !== undefined && current.renewAt !== Infinity) current.renewAt = current.createdAt + interval;
}

function changePostQuantum(context: DeviceContext, peer: Peer, interval: number, now: number): void {
  if (interval === 0) {
    peer.postQuantum?.wipe();
    peer.postQuantum = undefined;
  } else if (peer.postQuantum !== undefined) {
    peer.postQuantum.interval = interval;
  } else {
    peer.postQuantum = new PostQuantum(context, peer, interval);
    if (peer.keypairs.current?.isInitiator === true) peer.postQuantum.sessionBegan(now);
  }
}

/** How many peers there are once the update is applied. */
export function peersAfter({ peers = [], replacePeers }: DeviceUpdate, known: ReadonlyMap<string, unknown>): number {
  const named = new Map<string, boolean>();
  for (const { publicKey, remove, updateOnly } of peers) {
    const id = keyId(publicKey);
    const isThere = named.get(id) ?? known.has(id);
    named.set(id, remove !== true && (isThere || updateOnly !== true));
  }
  let count = replacePeers === true ? 0 : known.size;
  for (const [id, stays] of named) {
    if (replacePeers !== true && known.has(id)) count -= 1;
    if (stays) count += 1;
  }
  return count;
}

function checkPeer(peer: PeerUpdate, name: string): void {
  checkKey(peer.publicKey, `${name}.publicKey`);
  if (peer.presharedKey !== undefined) checkKey(peer.presharedKey, `${name}.presharedKey`);
  if (peer.endpoint !== undefined) checkEndpoint(peer.endpoint, `${name}.endpoint`);
  if (peer.persistentKeepalive !== undefined) {
    checkInteger(peer.persistentKeepalive, 0, MAX_KEEPALIVE, `${name}.persistentKeepalive`);
  }
  if (peer.rekeyInterval !== undefined) {
    checkInteger(peer.rekeyInterval, MIN_REKEY_INTERVAL, REKEY_AFTER_TIME, `${name}.rekeyInterval`);
  }
  if (peer.postQuantum !== undefined && peer.postQuantum !== 0) {
    checkInteger(peer.postQuantum, MIN_POST_QUANTUM_INTERVAL, MAX_POST_QUANTUM_INTERVAL, `${name}.postQuantum`);
  }
  if (peer.cipherSuite !== undefined && !CIPHER_SUITES.includes(peer.cipherSuite)) {
    throw new RangeError(`${name}.cipherSuite must be one of ${CIPHER_SUITES.join(', ')}`);
  }
  for (const [i, prefix] of (peer.allowedIps ?? []).entries()) checkPrefix(prefix, `${name}.allowedIps[${i}]`);
}

function checkKey(key: Uint8Array, name: string): void {
  if (key.length !== KEY_LENGTH) throw new RangeError(`${name} must have ${KEY_LENGTH} bytes`);
}

export function checkEndpoint(endpoint: Endpoint, name: string): void {
  checkAddress(endpoint.address, `${name}.address`);
  checkInteger(endpoint.port, 1, MAX_PORT, `${name}.port`);
}

function checkPrefix(prefix: Prefix, name: string): void {
  checkAddress(prefix.address, `${name}.address`);
  checkInteger(prefix.length, 0, prefix.address.length * 8, `${name}.length`);
}

function checkAddress(address: Uint8Array, name: string): void {
  if (address.length !== 4 && address.length !== 16) throw new RangeError(`${name} must have 4 or 16 bytes`);
}

function checkInteger(value: number, least: number, most: number, name: string): void {
  if (!Number.isInteger(value) || value < least || value > most) {
    throw new RangeError(`${name} must be an integer from ${least} to ${most}`);
  }
}
