/** A tunnel's status as JSON says it: keys in base64, addresses as text, no secrets. */
import {
  type CipherSuite,
  formatKey,
  type PeerStatus,
  type PostQuantumStatus,
  type SessionStatus,
} from '@sealane/protocol';
import { formatEndpoint, formatPrefix } from '../ip-text.ts';
import type { LaneKind, LaneStatus, LaneTraffic } from '../model.ts';

export interface StatusReport {
  readonly name: string;
  readonly lane: LaneKind;
  /** Which implementation of the primitives runs. */
  readonly crypto: string;
  readonly publicKey?: string;
  readonly listenPort: number;
  readonly fwmark: number;
  readonly mtu: number;
  readonly up: boolean;
  /** Why no socket is open although the link is up. */
  readonly socketProblem?: string;
  readonly underLoad: boolean;
  readonly notes: readonly string[];
  readonly faults: Readonly<Record<string, number>>;
  readonly drops: Readonly<Record<string, number>>;
  readonly lanes?: readonly LaneTraffic[];
  readonly peers: readonly PeerReport[];
}

/** As PeerStatus, in text. Times are milliseconds, the keepalive seconds. */
export interface PeerReport {
  readonly publicKey: string;
  readonly hasPresharedKey: boolean;
  readonly endpoint?: string;
  readonly allowedIps: readonly string[];
  readonly persistentKeepalive: number;
  readonly rekeyInterval: number;
  readonly cipherSuite: CipherSuite;
  readonly postQuantum?: PostQuantumStatus;
  readonly rxBytes: number;
  readonly txBytes: number;
  readonly lastHandshake?: number;
  readonly handshakeMs?: number;
  readonly unanswered?: number;
  readonly sessions: number;
  readonly session?: SessionStatus;
}

export function reportStatus(status: LaneStatus & { readonly name: string }): StatusReport {
  const { device } = status;
  return {
    name: status.name,
    lane: status.kind,
    crypto: device.crypto,
    ...(device.publicKey === undefined ? {} : { publicKey: formatKey(device.publicKey) }),
    listenPort: status.listenPort,
    fwmark: status.fwmark,
    mtu: status.mtu,
    up: status.up,
    ...(status.socketProblem !== undefined && { socketProblem: status.socketProblem }),
    underLoad: device.underLoad,
    notes: status.notes,
    faults: status.faults,
    drops: device.drops,
    ...(status.lanes !== undefined && { lanes: status.lanes }),
    peers: device.peers.map(reportPeer),
  };
}

/** Reads a report of the same version of this program; undefined for anything that is none. */
export function parseReport(json: string): StatusReport | undefined {
  try {
    const value: unknown = JSON.parse(json);
    return isReport(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

function isReport(value: unknown): value is StatusReport {
  return (
    typeof value === 'object' && value !== null && 'lane' in value && 'peers' in value && Array.isArray(value.peers)
  );
}

function reportPeer(peer: PeerStatus): PeerReport {
  const { publicKey, endpoint, allowedIps, ...rest } = peer;
  return {
    ...rest,
    publicKey: formatKey(publicKey),
    ...(endpoint === undefined ? {} : { endpoint: formatEndpoint(endpoint) }),
    allowedIps: allowedIps.map(formatPrefix),
  };
}
