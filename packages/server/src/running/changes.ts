import { KEY_LENGTH, parseKey, type PeerUpdate, POST_QUANTUM_INTERVAL } from '@sealane/protocol';
import { parsePrefix } from '@sealane/tunnel';
import type { RegistryPeer } from '../state/registry-file.ts';

/**
 * What turns a device that serves `before` into one that serves `after`: removals first, so that a freed address can
 * be given away in the same step. Peers that are the same in both are not touched and keep their sessions; one whose timestamps
 * are to be forgotten is removed and comes back.
 * The caller wipes the preshared keys in it.
 */
export function peerChanges(before: readonly RegistryPeer[], after: readonly RegistryPeer[]): readonly PeerUpdate[] {
  const forgotten = new Map(after.map((peer) => [peer.publicKey, peer.forgotten]));
  const old = new Map(before.map((peer) => [peer.publicKey, peer]));
  const removed = before
    .filter(({ publicKey, forgotten: was }) => !forgotten.has(publicKey) || forgotten.get(publicKey) !== was)
    .map((peer) => ({ publicKey: parseKey(peer.publicKey)!, remove: true }));
  const changed = after.filter((peer) => !serves(old.get(peer.publicKey), peer)).map(peerUpdate);
  return [...removed, ...changed];
}

/** The inner addresses of a peer are all that it may send from, and all that is sent to it. */
function peerUpdate(peer: RegistryPeer): PeerUpdate {
  return {
    publicKey: parseKey(peer.publicKey)!,
    presharedKey: peer.presharedKey === undefined ? new Uint8Array(KEY_LENGTH) : parseKey(peer.presharedKey)!,
    cipherSuite: peer.cipher ?? 'chacha20poly1305',
    postQuantum: peer.postQuantum === true ? POST_QUANTUM_INTERVAL : 0,
    replaceAllowedIps: true,
    allowedIps: peer.addresses.map((address) => parsePrefix(address)!),
  };
}

function serves(old: RegistryPeer | undefined, peer: RegistryPeer): boolean {
  return (
    old !== undefined &&
    old.forgotten === peer.forgotten &&
    old.presharedKey === peer.presharedKey &&
    old.postQuantum === peer.postQuantum &&
    old.cipher === peer.cipher &&
    old.addresses.length === peer.addresses.length &&
    old.addresses.every((address, i) => address === peer.addresses[i])
  );
}
