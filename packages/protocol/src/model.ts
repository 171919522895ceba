/** What crosses the control side of a `Device`: plain data that can be cloned to another thread. */
import type { PeerHandle } from './batch.ts';
import type { CipherSuite } from './crypto.ts';
import type { DropReason } from './drops.ts';
import type { Endpoint } from './endpoint.ts';

/** An address block: 4 or 16 bytes and the number of leading bits that count. */
export interface Prefix {
  readonly address: Uint8Array;
  readonly length: number;
}

export interface AllowedIpUpdate extends Prefix {
  /** Takes the prefix away from this peer instead of giving it. */
  readonly remove?: boolean;
}

/** A change to one peer; absent fields stay as they are. */
export interface PeerUpdate {
  readonly publicKey: Uint8Array;
  readonly remove?: boolean;
  /** Change the peer if it exists, do not create it. */
  readonly updateOnly?: boolean;
  /** 32 bytes; all zeros is no preshared key. */
  readonly presharedKey?: Uint8Array;
  readonly endpoint?: Endpoint;
  /** Seconds, 1 to 65535; 0 is off. */
  readonly persistentKeepalive?: number;
  readonly replaceAllowedIps?: boolean;
  readonly allowedIps?: readonly AllowedIpUpdate[];
  /** Milliseconds, MIN_REKEY_INTERVAL to REKEY_AFTER_TIME: as initiator, renew sessions this early. */
  readonly rekeyInterval?: number;
  readonly cipherSuite?: CipherSuite;
  /** Milliseconds until a post-quantum preshared key is renewed, MIN_ to MAX_POST_QUANTUM_INTERVAL; 0 is no exchange. */
  readonly postQuantum?: number;
}

/** A change to a device, applied in this order: key, MTU, replacePeers, peers. */
export interface DeviceUpdate {
  /** 32 bytes, clamped on use; all zeros takes the key away. */
  readonly privateKey?: Uint8Array;
  /** The packet device's MTU: padding never exceeds it. 0 is unknown. */
  readonly mtu?: number;
  /** Remove every peer that `peers` does not name. */
  readonly replacePeers?: boolean;
  readonly peers?: readonly PeerUpdate[];
}

export interface SessionStatus {
  readonly role: 'initiator' | 'responder';
  readonly ageMs: number;
  /** Until the next renewal by us, if this side is to renew it; it happens with the next packet sent after that. */
  readonly rekeyInMs?: number;
  readonly expiresInMs: number;
  /** A key of the post-quantum exchange went into this session's handshake. */
  readonly hedged: boolean;
}

/** The post-quantum exchange with a peer that is configured for it. */
export interface PostQuantumStatus {
  /** Milliseconds after which a key is renewed. */
  readonly interval: number;
  /** Keys derived so far. */
  readonly exchanges: number;
  /** Of the newest key that the peer is known to hold: the next handshake of ours asks for it. */
  readonly keyAgeMs?: number;
  /** `unanswered`: the peer did not answer the last exchange. `mtu`: the packet device's MTU has no room for one. */
  readonly trouble?: 'unanswered' | 'mtu';
}

export interface PeerStatus {
  readonly publicKey: Uint8Array;
  readonly hasPresharedKey: boolean;
  readonly endpoint?: Endpoint;
  readonly allowedIps: readonly Prefix[];
  readonly persistentKeepalive: number;
  readonly rekeyInterval: number;
  readonly cipherSuite: CipherSuite;
  /** Absent when the exchange is off. */
  readonly postQuantum?: PostQuantumStatus;
  readonly rxBytes: number;
  readonly txBytes: number;
  /** Unix milliseconds of the last completed handshake. */
  readonly lastHandshake?: number;
  /** Milliseconds from our initiation to its response, of the last handshake that we began. */
  readonly handshakeMs?: number;
  /** Initiations since the peer's last answer, once one had to be repeated; it may be gone although a session is left. */
  readonly unanswered?: number;
  /** Sessions established since the peer was added; one less is the number of rekeys. */
  readonly sessions: number;
  readonly session?: SessionStatus;
}

/** Everything about a device but its secrets. */
export interface DeviceStatus {
  readonly publicKey?: Uint8Array;
  readonly crypto: string;
  readonly underLoad: boolean;
  readonly drops: Readonly<Record<DropReason, number>>;
  readonly peers: readonly PeerStatus[];
}

/** The secrets that `wg showconf` prints; nothing else asks for them. */
export interface DeviceSecrets {
  readonly privateKey?: Uint8Array;
  readonly presharedKeys: readonly { readonly publicKey: Uint8Array; readonly presharedKey: Uint8Array }[];
}

/** Something that an operator or an embedding program may want to know. `publicKey` names the peer. */
export type DeviceEvent =
  | {
      /** A new session may carry data in both directions. */
      readonly type: 'session';
      readonly publicKey: Uint8Array;
      readonly role: 'initiator' | 'responder';
      /** 1 for the first. */
      readonly number: number;
      readonly handshakeMs?: number;
      /** As in SessionStatus; absent when the post-quantum exchange is off. */
      readonly hedged?: boolean;
    }
  | { readonly type: 'roamed'; readonly publicKey: Uint8Array; readonly endpoint: Endpoint }
  /** All keys of the peer are erased: no session was made for ZERO_KEYS_AFTER. */
  | { readonly type: 'expired'; readonly publicKey: Uint8Array }
  /** Twenty initiations were not answered; waiting for new traffic. */
  | { readonly type: 'unanswered'; readonly publicKey: Uint8Array; readonly initiations: number }
  /** The responder is under load and asked for proof of address. */
  | { readonly type: 'cookie-received'; readonly publicKey: Uint8Array }
  /** A handshake that opened with our key was refused: the cause is for the log, never for the sender, who may be unknown. */
  | {
      readonly type: 'handshake-refused';
      /** The static key that the sender states. */
      readonly publicKey: Uint8Array;
      readonly endpoint: Endpoint;
      readonly reason: DropReason;
    };

/** A datagram to send: freshly owned bytes. Handshake messages carry their own traffic class. */
export interface OutgoingDatagram {
  readonly endpoint: Endpoint;
  readonly bytes: Uint8Array;
  readonly kind: 'handshake' | 'data';
  /** Absent for cookie replies. */
  readonly peer?: PeerHandle;
}

/** What a tick asks of its caller. */
export interface Output {
  readonly datagrams: readonly OutgoingDatagram[];
  readonly events: readonly DeviceEvent[];
}

/** When `tick` is due at the latest, and why. `at` is Infinity when nothing is. */
export interface Deadline {
  readonly at: number;
  readonly why: string;
}
