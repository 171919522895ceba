/** What a running server says of itself, as plain JSON: no secrets, keys and endpoints as text. */
import { formatKey, type DropReason, type PeerStatus } from '@sealane/protocol';
import { formatEndpoint, type TunnelStatus } from '@sealane/tunnel';

export interface LiveSession {
  readonly role: 'initiator' | 'responder';
  readonly ageMs: number;
  readonly expiresInMs: number;
}

export interface LivePeer {
  readonly publicKey: string;
  readonly endpoint?: string;
  /** Unix milliseconds. */
  readonly lastHandshake?: number;
  readonly rxBytes: number;
  readonly txBytes: number;
  readonly sessions: number;
  /** Absent while no session can carry data. */
  readonly session?: LiveSession;
}

export interface LiveStatus {
  readonly pid: number;
  /** Unix milliseconds. */
  readonly since: number;
  /** The revision of the registry that is in force. */
  readonly revision: number;
  readonly publicKey: string;
  readonly addresses: readonly string[];
  readonly port: number;
  readonly device: { readonly kind: string; readonly name: string };
  readonly crypto: string;
  readonly lane: string;
  readonly underLoad: boolean;
  /** Only what is not zero. */
  readonly drops: Readonly<Partial<Record<DropReason, number>>>;
  readonly faults: Readonly<Record<string, number>>;
  readonly notes: readonly string[];
  readonly peers: readonly LivePeer[];
}

/** The part of it that comes from the tunnel. */
export function liveTunnel(
  status: TunnelStatus,
): Pick<LiveStatus, 'port' | 'crypto' | 'lane' | 'underLoad' | 'drops' | 'faults' | 'notes' | 'peers'> {
  const drops = Object.fromEntries(Object.entries(status.device.drops).filter(([, count]) => count > 0));
  return {
    port: status.listenPort,
    crypto: status.crypto,
    lane: status.kind,
    underLoad: status.device.underLoad,
    drops,
    faults: status.faults,
    notes: status.notes,
    peers: status.device.peers.map(livePeer),
  };
}

function livePeer(peer: PeerStatus): LivePeer {
  return {
    publicKey: formatKey(peer.publicKey),
    ...(peer.endpoint === undefined ? {} : { endpoint: formatEndpoint(peer.endpoint) }),
    ...(peer.lastHandshake === undefined ? {} : { lastHandshake: peer.lastHandshake }),
    rxBytes: peer.rxBytes,
    txBytes: peer.txBytes,
    sessions: peer.sessions,
    ...(peer.session === undefined
      ? {}
      : {
          session: {
            role: peer.session.role,
            ageMs: peer.session.ageMs,
            expiresInMs: peer.session.expiresInMs,
          },
        }),
  };
}
