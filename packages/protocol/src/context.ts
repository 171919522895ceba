import type { CookieChecker } from './cookie.ts';
import type { CipherSuite, Crypto } from './crypto.ts';
import type { DropCounters } from './drops.ts';
import type { Identity } from './handshake.ts';
import type { IndexTable } from './index-table.ts';
import type { Keypair } from './keypair.ts';
import type { LanePublisher } from './lane-publisher.ts';
import type { DeviceEvent, OutgoingDatagram } from './model.ts';
import type { SymmetricState } from './noise.ts';
import type { Peer } from './peer.ts';
import type { Timestamp } from './tai64n.ts';

/** What a session index names: the pending initiation of `peer`, or one of its sessions. */
export interface IndexEntry {
  readonly peer: Peer;
  keypair: Keypair | undefined;
}

/** Our identity and what is derived from it; replaced as a whole when the private key changes. */
export interface LocalIdentity extends Identity {
  readonly cookies: CookieChecker;
  /** The transcript start of handshakes to us. */
  readonly prologues: Readonly<Record<CipherSuite, SymmetricState>>;
}

/** What the parts of a device share. */
export interface DeviceContext {
  readonly crypto: Crypto;
  readonly random: (length: number) => Uint8Array;
  readonly indexes: IndexTable<IndexEntry>;
  readonly drops: DropCounters;
  /** 0 to just under REKEY_TIMEOUT_JITTER milliseconds. */
  readonly jitter: () => number;
  /** Makes sure that `tick` comes to the peer at `at` or before. */
  readonly schedule: (peer: Peer, at: number) => void;
  /** Absent with one lane. */
  readonly lanes: LanePublisher | undefined;
  identity: LocalIdentity | undefined;
  mtu: number;
  /** No initiation carries a timestamp up to this one. */
  timestampFloor: Timestamp | undefined;
  /** The highest timestamp sent. */
  timestamp: Timestamp | undefined;
}

/** Where the control side puts what a tick returns. */
export interface Outbox {
  readonly datagrams: OutgoingDatagram[];
  readonly events: DeviceEvent[];
  readonly now: number;
  readonly unixMs: number;
}
