/** A wg-quick style file as values. Times are seconds, as they stand in the file. */
import type { CipherSuite, Prefix } from '@sealane/protocol';

export interface TunnelConfig {
  readonly interface: InterfaceConfig;
  readonly peers: readonly PeerConfig[];
}

export interface InterfaceConfig {
  /** 32 bytes; all zeros when a hook of the file sets the key (`wg set %i private-key ...`). */
  readonly privateKey: Uint8Array;
  /** 1 to 65535; absent or 0 lets the system choose. */
  readonly listenPort?: number;
  /** 32 bits; absent or 0 is off. */
  readonly fwmark?: number;
  /** The interface's own addresses, host bits kept. */
  readonly addresses: readonly Prefix[];
  readonly dns: DnsConfig;
  readonly mtu?: number;
  /** Where routes go: `auto` is wg-quick's choice, `off` adds none, a number is that routing table. */
  readonly table: 'auto' | 'off' | number;
  readonly preUp: readonly HookCommand[];
  readonly postUp: readonly HookCommand[];
  readonly preDown: readonly HookCommand[];
  readonly postDown: readonly HookCommand[];
  readonly saveConfig: boolean;
  /** Default of the peers that have none of their own: 10 to 120. */
  readonly rekeyInterval?: number;
}

export interface HookCommand {
  readonly command: string;
  /** Where it stands in its file, from 1; what messages name in place of the command, which may be secret. */
  readonly line: number;
}

export interface DnsConfig {
  /** Addresses of 4 or 16 bytes. */
  readonly servers: readonly Uint8Array[];
  readonly search: readonly string[];
}

export interface PeerConfig {
  readonly publicKey: Uint8Array;
  readonly presharedKey?: Uint8Array;
  /** Host bits cleared, no prefix twice. */
  readonly allowedIps: readonly Prefix[];
  /** `host:port` or `[address]:port`, in the order of preference; names are resolved by `resolveEndpoints`. */
  readonly endpoints: readonly string[];
  /** 1 to 65535; absent or 0 is off. */
  readonly persistentKeepalive?: number;
  /** 10 to 120. */
  readonly rekeyInterval?: number;
  readonly cipher?: CipherSuite;
  /** 10 to 86400: how old a key of the post-quantum exchange may grow; absent or 0 is no exchange. */
  readonly postQuantum?: number;
  /** What people call this peer; no program decides by it. */
  readonly name?: string;
  /** The peer's own addresses inside the tunnel (4 or 16 bytes): what a ping tries when it is not told otherwise. */
  readonly gateways?: readonly Uint8Array[];
}
