import type { AllowedIps } from './allowed-ips.ts';
import { isZeroKey } from './keys.ts';
import type { PeerStatus, SessionStatus } from './model.ts';
import type { Peer } from './peer.ts';

/** A snapshot of a peer without secrets. */
export function peerStatus(peer: Peer, allowedIps: AllowedIps<Peer>, now: number): PeerStatus {
  const session = sessionStatus(peer, now);
  return {
    publicKey: peer.publicKey.slice(),
    hasPresharedKey: !isZeroKey(peer.presharedKey),
    ...(peer.endpoint !== undefined && { endpoint: peer.endpoint }),
    allowedIps: allowedIps.prefixesOf(peer),
    persistentKeepalive: peer.persistentKeepalive,
    rekeyInterval: peer.rekeyInterval,
    cipherSuite: peer.cipherSuite,
    ...(peer.postQuantum !== undefined && { postQuantum: peer.postQuantum.status(now) }),
    rxBytes: peer.rxBytes,
    txBytes: peer.txBytes,
    ...(peer.lastHandshake !== undefined && { lastHandshake: peer.lastHandshake }),
    ...(peer.handshakeMs !== undefined && { handshakeMs: peer.handshakeMs }),
    ...(peer.unanswered > 0 && { unanswered: peer.unanswered }),
    sessions: peer.sessions,
    ...(session !== undefined && { session }),
  };
}

function sessionStatus(peer: Peer, now: number): SessionStatus | undefined {
  const keypair = peer.keypairs.current;
  if (keypair === undefined || !keypair.canReceive(now)) return undefined;
  return {
    role: keypair.isInitiator ? 'initiator' : 'responder',
    ageMs: now - keypair.createdAt,
    ...(keypair.renewAt !== Infinity && { rekeyInMs: Math.max(0, keypair.renewAt - now) }),
    expiresInMs: keypair.expiresAt - now,
    hedged: keypair.derivedKey !== 0,
  };
}
