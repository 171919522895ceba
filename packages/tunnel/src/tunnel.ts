import type { Crypto, DeviceSecrets, Endpoint } from '@sealane/protocol';
import { selectCrypto } from './crypto/select.ts';
import { TunDevice } from './devices/tun.ts';
import { LinuxLane, linuxLaneObstacle } from './lane/linux.ts';
import { PortableLane } from './lane/portable.ts';
import { StackLane, stackLaneObstacle } from './lane/stack.ts';
import { becomeUser, holdCapabilities, takeCapabilities, type UserIds } from './linux/user.ts';
import type { Lane, LaneKind, LaneOptions, LaneStatus, PacketDevice, TunnelEvent, TunnelUpdate } from './model.ts';
import { errorMessage } from './os-error.ts';

export interface TunnelOptions {
  /**
   * Where inner packets come from and go to; the tunnel owns it from here on, also when opening fails. Each queue of a TUN interface
   * gets a lane, which is a thread, of its own: `openTun({ name, queues: defaultLanes() })`.
   */
  readonly device: PacketDevice;
  readonly config?: TunnelUpdate;
  /** 'auto' by default: the fastest lane that this system and device allow. */
  readonly lane?: LaneKind | 'auto';
  /** The fastest implementation that passes its known answers, by default. */
  readonly crypto?: Crypto;
  /** Keeps the newest handshake timestamp across restarts, so that a clock set back locks nobody out. */
  readonly timestampFile?: string;
}

export interface TunnelStatus extends LaneStatus {
  /** The name of the packet device. */
  readonly name: string;
  /** Which implementation runs, with the version of what is behind it. */
  readonly crypto: string;
}

export type TunnelEventType = TunnelEvent['type'];
export type TunnelEventOf<T extends TunnelEventType> = Extract<TunnelEvent, { readonly type: T }>;
export type TunnelListener<T extends TunnelEventType = TunnelEventType> = (
  event: TunnelEventOf<T>,
) => void | Promise<void>;

/**
 * Opens a tunnel between a packet device and the network.
 * Throws TypeError or RangeError for a wrong configuration, and an Error with its `cause` for what the system refuses
 * (a port in use, a timestamp file that cannot be read); nothing stays open then.
 */
export async function openDeviceTunnel(options: TunnelOptions): Promise<Tunnel> {
  const { device, config = {}, timestampFile } = options;
  const events = new Listeners();
  try {
    const crypto = options.crypto ?? selectCrypto();
    const laneOptions: LaneOptions = {
      device,
      crypto,
      onEvent: (event) => events.emit(event),
      ...(timestampFile !== undefined && { timestampFile }),
    };
    const lane = await openLane(options.lane ?? 'auto', laneOptions, config);
    return new Tunnel(device.name, crypto.name, lane, events);
  } catch (error) {
    await device.close();
    throw error;
  }
}

/** A running tunnel; made by `openTunnel`. */
export class Tunnel {
  readonly name: string;
  readonly lane: LaneKind;
  readonly #crypto: string;
  readonly #lane: Lane;
  readonly #events: Listeners;

  /** @internal */
  constructor(name: string, crypto: string, lane: Lane, events: Listeners) {
    this.name = name;
    this.lane = lane.kind;
    this.#crypto = crypto;
    this.#lane = lane;
    this.#events = events;
  }

  /** Applies a change as a whole or, with a TypeError, RangeError or Error, not at all. Sessions that it does not touch go on. */
  configure(update: TunnelUpdate): Promise<void> {
    return this.#lane.configure(update);
  }

  /** Everything about the tunnel but its secrets. */
  async status(): Promise<TunnelStatus> {
    return { name: this.name, crypto: this.#crypto, ...(await this.#lane.status()) };
  }

  /** Private and preshared keys: only for writing the configuration out. */
  secrets(): Promise<DeviceSecrets> {
    return this.#lane.secrets();
  }

  /**
   * Begins a handshake with one peer, or with every peer that has an endpoint; resolves to how many were begun. With `probed` its
   * first initiation goes there, and data stays where it goes until the peer answers from there.
   */
  rekey(publicKey?: Uint8Array, probed?: Endpoint): Promise<number> {
    return this.#lane.rekey(publicKey, probed);
  }

  /** Makes the whole process an ordinary user's; what carries the tunnel keeps these capabilities. */
  async becomeUser(user: UserIds, keep: readonly number[]): Promise<void> {
    const change = (): void => {
      holdCapabilities();
      becomeUser(user);
      takeCapabilities(keep);
    };
    if (this.#lane.holding === undefined) change();
    else await this.#lane.holding(keep, change);
  }

  /** Calls `listener` for each event of this type; returns the function that stops it. A listener that throws only warns. */
  on<T extends TunnelEventType>(type: T, listener: TunnelListener<T>): () => void {
    return this.#events.add((event) => (isType(event, type) ? listener(event) : undefined));
  }

  /** Calls `listener` for every event; returns the function that stops it. */
  events(listener: TunnelListener): () => void {
    return this.#events.add(listener);
  }

  /** Ends the sessions, wipes the keys and closes sockets and packet device; safe to call again. */
  close(): Promise<void> {
    return this.#lane.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

async function openLane(kind: LaneKind | 'auto', options: LaneOptions, config: TunnelUpdate): Promise<Lane> {
  if (kind !== 'portable' && stackLaneObstacle(options) === undefined) {
    try {
      return await StackLane.open(options, config);
    } catch (error) {
      if (kind === 'linux' || !isUnavailable(error)) throw error;
    }
  }
  const obstacle = kind === 'portable' ? undefined : linuxLaneObstacle(options);
  if (kind === 'linux' && obstacle !== undefined) throw new Error(obstacle);
  if (kind === 'portable' || obstacle !== undefined) return openPortable(options, config);
  try {
    return await LinuxLane.open(options, config);
  } catch (error) {
    if (kind === 'linux' || error instanceof TypeError || error instanceof RangeError) throw error;
    const note = `The Linux lane could not start (${errorMessage(error)}): the portable lane runs, which is slower.`;
    return openPortable(options, config, [note]).catch(() => {
      throw error;
    });
  }
}

function openPortable(options: LaneOptions, config: TunnelUpdate, notes: readonly string[] = []): Promise<Lane> {
  if (options.device instanceof TunDevice) options.device.keepOneQueue();
  return PortableLane.open(options, config, notes);
}

/** Native code cannot be loaded here: nothing that a program asked for is wrong. */
function isUnavailable(error: unknown): boolean {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  return code === 'MODULE_NOT_FOUND' || code === 'ERR_DLOPEN_FAILED';
}

function isType<T extends TunnelEventType>(event: TunnelEvent, type: T): event is TunnelEventOf<T> {
  return event.type === type;
}

/** Listeners whose failures reach the process as warnings: an observer never stops what it observes. */
class Listeners {
  readonly #listeners = new Set<TunnelListener>();

  add(listener: TunnelListener): () => void {
    const own: TunnelListener = (event) => listener(event);
    this.#listeners.add(own);
    return () => void this.#listeners.delete(own);
  }

  emit(event: TunnelEvent): void {
    for (const listener of this.#listeners) void call(listener, event);
  }
}

async function call(listener: TunnelListener, event: TunnelEvent): Promise<void> {
  try {
    await listener(event);
  } catch (error) {
    process.emitWarning(
      `a listener of the tunnel failed on '${event.type}': ${String(error)}`,
      'TunnelListenerWarning',
    );
  }
}
