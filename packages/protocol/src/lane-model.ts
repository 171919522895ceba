/**
 * What the lanes of one device tell each other: plain data that can be cloned to another thread. Lane 0 has the `Device`, which
 * decides; the others have a `LaneReplica` each, which follows its changes and reports what went by.
 */
import type { CipherSuite } from './crypto.ts';
import type { Endpoint } from './endpoint.ts';
import type { AllowedIpUpdate } from './model.ts';

/** The lane that opens what comes on a session: by the lowest byte of the receiver index, which is the first on the wire. */
export function laneOf(index: number, lanes: number): number {
  return (index & 0xff) % lanes;
}

/** What a replica does after its device; `peer` is a number that no other peer ever has. */
export type LaneChange =
  | { readonly type: 'device'; readonly hasIdentity: boolean; readonly mtu: number }
  | { readonly type: 'peer'; readonly peer: number; readonly publicKey: Uint8Array }
  | { readonly type: 'endpoint'; readonly peer: number; readonly endpoint: Endpoint | undefined }
  | {
      readonly type: 'allowed-ips';
      readonly peer: number;
      readonly replace: boolean;
      readonly allowedIps: readonly AllowedIpUpdate[];
    }
  | { readonly type: 'peer-removed'; readonly peer: number }
  | {
      readonly type: 'session';
      readonly peer: number;
      /** Of a SharedSession. */
      readonly memory: SharedArrayBuffer;
      readonly suite: CipherSuite;
      readonly localIndex: number;
      readonly remoteIndex: number;
      /** In the clock of lane 0's caller. */
      readonly createdAt: number;
    }
  /** Packets to the peer go by this session. */
  | { readonly type: 'sending'; readonly peer: number; readonly localIndex: number | undefined }
  | { readonly type: 'session-ended'; readonly localIndex: number };

/** What a replica carried of one peer since its last report; times in the clock of lane 0's caller, -Infinity for never. */
export interface PeerTraffic {
  readonly peer: number;
  readonly rxBytes: number;
  readonly txBytes: number;
  readonly sentAt: number;
  readonly receivedAt: number;
  /** The session of what came last. */
  readonly receivedOn: number | undefined;
  readonly receivedData: boolean;
  /** Sessions on which something came for the first time. */
  readonly begun: readonly number[];
  /** Where the last authentic datagram came from, if from elsewhere than before. */
  readonly endpoint: Endpoint | undefined;
  /** Sending from the pinned source failed. */
  readonly forgetSource: boolean;
  /** What a datagram carried that is no IP packet, for the device to judge. */
  readonly other: Uint8Array | undefined;
}

export interface LaneReport {
  readonly peers: readonly PeerTraffic[];
  /** Verdicts of drops with their counts. */
  readonly drops: readonly (readonly [verdict: number, count: number])[];
  /** IP packets of peers without a session: to be sealed by the device, which begins one. */
  readonly unsent: readonly Uint8Array[];
}
