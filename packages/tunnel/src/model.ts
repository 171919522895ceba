/** The types that the rooms of a tunnel share: what a lane drives and what a tunnel answers. */
import type {
  Crypto,
  DeviceEvent,
  DeviceSecrets,
  DeviceStatus,
  DeviceUpdate,
  Endpoint,
  PacketBatch,
} from '@sealane/protocol';

/** A change to a running tunnel; absent fields stay as they are. */
export interface TunnelUpdate extends DeviceUpdate {
  /** UDP port of both address families; 0 lets the system choose. */
  readonly listenPort?: number;
  /** SO_MARK of the outer datagrams; 0 is off. */
  readonly fwmark?: number;
}

/** Where decrypted packets go to and packets to encrypt come from. */
export interface PacketDevice {
  readonly kind: 'tun' | 'memory' | 'netstack';
  /** The interface name, as in `ip link`, or a name for status. */
  readonly name: string;
  /** Bytes of the largest IP packet; may change while running. */
  readonly mtu: number;
  /**
   * Fills the batch (cleared by the caller) with the packets that wait, each with HEADROOM before and TAILROOM behind it.
   * Never blocks; returns the number of packets. Throws a DeviceClosedError once the device is gone.
   */
  read(batch: PacketBatch): number;
  /** Hands over one IP packet; false when it could not be taken (counted by the caller, never thrown). */
  write(buffer: Uint8Array, offset: number, length: number): boolean;
  /**
   * Starts delivery of notices: `readable` when `read` has something, `link` when the interface goes up or down
   * or its MTU changes, `closed` once when it is gone (deleted from outside, or failed with an error).
   */
  start(notices: PacketDeviceNotices): void;
  close(): Promise<void>;
}

export interface PacketDeviceNotices {
  readonly readable: () => void;
  readonly link: (state: { readonly up: boolean; readonly mtu: number }) => void;
  readonly closed: (error?: Error) => void;
}

export type LaneKind = 'portable' | 'linux';

/** Something a lane tells its tunnel. */
export type TunnelEvent =
  | DeviceEvent
  /** What this system lacks or does worse, found out now; `notes` of the status has all of it. */
  | { readonly type: 'note'; readonly text: string }
  /** The packet device is gone or the lane failed; `error` is absent when it was closed or deleted in good order. */
  | { readonly type: 'closed'; readonly error?: Error };

export interface LaneStatus {
  readonly kind: LaneKind;
  readonly device: DeviceStatus;
  /** The port in use, or while the link is down the one that will be; 0 when the system is to choose. */
  readonly listenPort: number;
  readonly fwmark: number;
  readonly mtu: number;
  readonly up: boolean;
  /** Why no socket is open although the link is up. */
  readonly socketProblem?: string;
  /** What this system lacks or what fell back, one sentence each; said once at start too. */
  readonly notes: readonly string[];
  /** Faults of the system side, by name (for example 'send-failed', 'device-write-failed'). */
  readonly faults: Readonly<Record<string, number>>;
  /** What went through each lane, by its number, when there are several. */
  readonly lanes?: readonly LaneTraffic[];
}

/** Datagrams since the start. */
export interface LaneTraffic {
  readonly received: number;
  readonly sent: number;
  /** Received, but given to the lane that opens them. */
  readonly handedOver: number;
}

/** The packet loop between one packet device and the UDP sockets, through one protocol `Device`. */
export interface Lane {
  readonly kind: LaneKind;
  configure(update: TunnelUpdate): Promise<void>;
  status(): Promise<LaneStatus>;
  secrets(): Promise<DeviceSecrets>;
  /** Begins a handshake with one peer, or with every peer that has an endpoint; see `Device.rekey`. */
  rekey(publicKey?: Uint8Array, probed?: Endpoint): Promise<number>;
  /** Keeps capabilities on the threads of the lane while `change` makes the process another user's; none has its own when absent. */
  holding?(keep: readonly number[], change: () => void): Promise<void>;
  close(): Promise<void>;
}

export interface LaneOptions {
  readonly device: PacketDevice;
  readonly crypto: Crypto;
  readonly onEvent: (event: TunnelEvent) => void;
  /**
   * Where the newest handshake timestamp is kept; the lane opens it with `TimestampFile.open`, gives its `floor` to the
   * `Device` and calls `cover(device.timestamp)` after each tick, before the tick's datagrams leave.
   */
  readonly timestampFile?: string;
}

/** The packet device is gone: its interface was deleted or `close` was called. */
export class DeviceClosedError extends Error {
  override readonly name = 'DeviceClosedError';
}
