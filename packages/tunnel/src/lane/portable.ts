/**
 * The packet loop on node:dgram and the event loop: every system, no native code.
 *
 *   device readable -> read a batch -> seal -> send            (several batches, then back to the event loop)
 *   datagram        -> open -> write to the device             (at once)
 *   after both      -> tick if a deadline is due -> arm timer  (once per turn of the event loop)
 *
 * Ticks come after the data of the same turn and the core bounds their work, so that floods of handshakes do not starve
 * established sessions.
 */
import { Device, dropVerdict, keyId, PacketBatch, VERDICT } from '@sealane/protocol';
import type { DeviceSecrets, Endpoint } from '@sealane/protocol';
import { DeviceClosedError } from '../model.ts';
import type { Lane, LaneOptions, LaneStatus, PacketDevice, TunnelEvent, TunnelUpdate } from '../model.ts';
import { TimestampFile } from '../timestamp-file.ts';
import { randomSecret } from '../crypto/random.ts';
import { EndpointTable } from './endpoint-table.ts';
import { removeOwnDatagrams } from './loop-guard.ts';
import { UdpSockets } from './udp-sockets.ts';
import { UnreachableAnswers } from './unreachable.ts';

const BATCH_PACKETS = 64;
const BATCH_BYTES = 2 ** 18;
const BATCHES_PER_TURN = 4;
/** One datagram of any length. */
const DATAGRAM_BYTES = 2 ** 16;
/** While more than this waits in the send queue the device is not read: its own queue fills and its writers wait. */
const ENOUGH_QUEUED_BYTES = 2 ** 19;
const NO_ROUTE = dropVerdict('no-route');
const NO_ENDPOINT = dropVerdict('no-endpoint');
const LONGEST_TIMEOUT = 2 ** 31 - 1;

export class PortableLane implements Lane {
  readonly kind = 'portable';
  readonly #packets: PacketDevice;
  readonly #core: Device;
  readonly #onEvent: (event: TunnelEvent) => void;
  readonly #timestamps: TimestampFile | undefined;
  readonly #endpoints = new EndpointTable();
  readonly #unreachable: UnreachableAnswers;
  readonly #inbound = new PacketBatch(new Uint8Array(DATAGRAM_BYTES), 1);
  #outbound = newOutboundBatch();
  readonly #faults = new Map<string, number>();
  readonly #notes: readonly string[];

  #sockets: UdpSockets | undefined;
  /** 0 until one was given or chosen. */
  #port = 0;
  #up = false;
  #mtu: number;
  #socketProblem: Error | undefined;
  /** Under way: those that came and have not ended. */
  #linkChanges = 0;
  /** Peers whose handshakes were due while no socket was open: begun again when one is. */
  readonly #unsent = new Map<string, Uint8Array>();
  #changes: Promise<void> = Promise.resolve();

  #turnPending = false;
  #readable = false;
  #timer: NodeJS.Timeout | undefined;
  #timerAt = Infinity;
  #closing: Promise<void> | undefined;

  private constructor(options: LaneOptions, notes: readonly string[]) {
    this.#notes = notes;
    this.#packets = options.device;
    this.#unreachable = new UnreachableAnswers(options.device);
    this.#onEvent = options.onEvent;
    this.#mtu = options.device.mtu;
    this.#timestamps = options.timestampFile === undefined ? undefined : TimestampFile.open(options.timestampFile);
    const floor = this.#timestamps?.floor;
    this.#core = new Device({
      crypto: options.crypto,
      random: randomSecret,
      ...(floor !== undefined && { timestampFloor: floor }),
    });
  }

  /**
   * Opens the lane with its first configuration; on an error nothing stays open but the packet device.
   * `notes` are for status: why this lane runs.
   */
  static async open(
    options: LaneOptions,
    config: TunnelUpdate = {},
    notes: readonly string[] = [],
  ): Promise<PortableLane> {
    const lane = new PortableLane(options, notes);
    try {
      await lane.configure({ mtu: options.device.mtu, ...config });
      options.device.start({
        readable: () => lane.#deviceReadable(),
        link: (state) => lane.#linkChanged(state.up, state.mtu),
        closed: (error) => void lane.#shut(error),
      });
      await lane.#changes;
      if (lane.#socketProblem !== undefined) throw lane.#socketProblem;
    } catch (error) {
      lane.#core.close();
      await lane.#sockets?.close();
      lane.#closing = Promise.resolve();
      throw error;
    }
    return lane;
  }

  configure(update: TunnelUpdate): Promise<void> {
    return this.#inTurn(async () => {
      checkUpdate(update);
      const { listenPort } = update;
      const unbound = this.#up && this.#sockets === undefined;
      const rebind = listenPort !== undefined && (listenPort === 0 || listenPort !== this.#port || unbound);
      const sockets = rebind && this.#up ? await this.#openSockets(listenPort) : undefined;
      try {
        this.#core.configure(update, performance.now());
      } catch (error) {
        await sockets?.close();
        throw error;
      }
      if (rebind) this.#port = sockets?.port ?? listenPort;
      if (sockets !== undefined) await this.#adopt(sockets);
      this.#requestTurn();
    });
  }

  async status(): Promise<LaneStatus> {
    return {
      kind: this.kind,
      device: this.#core.status(performance.now()),
      listenPort: this.#port,
      fwmark: 0,
      mtu: this.#mtu,
      // Not while sockets open: whoever sees the link up knows whether there is one.
      up: this.#up && (this.#sockets !== undefined || this.#socketProblem !== undefined),
      ...(this.#socketProblem !== undefined && { socketProblem: this.#socketProblem.message }),
      notes: [
        ...this.#notes,
        ...(this.#sockets?.notes ?? []),
        ...(this.#socketProblem === undefined ? [] : [`No socket is open: ${this.#socketProblem.message}.`]),
      ],
      faults: Object.fromEntries(this.#faults),
    };
  }

  async secrets(): Promise<DeviceSecrets> {
    return this.#core.secrets();
  }

  async rekey(publicKey?: Uint8Array, probed?: Endpoint): Promise<number> {
    const begun = this.#core.rekey(publicKey, performance.now(), probed);
    this.#requestTurn();
    return begun;
  }

  close(): Promise<void> {
    return this.#shut();
  }

  // Data.

  #deviceReadable(): void {
    this.#readable = true;
    if (!this.#turnPending) this.#turn();
  }

  #pump(): void {
    // Packets come with the news that the link is up: they wait for the sockets.
    if (this.#sockets === undefined && this.#linkChanges > 0) return;
    for (let n = 0; n < BATCHES_PER_TURN; n++) {
      if (this.#sockets !== undefined && this.#sockets.queuedBytes > ENOUGH_QUEUED_BYTES) return;
      if (this.#sealBatch() === 0) {
        this.#readable = false;
        return;
      }
    }
    this.#requestTurn();
  }

  /** Reads, seals and sends one batch; returns the number of packets read. */
  #sealBatch(): number {
    const batch = this.#outbound;
    batch.clear();
    try {
      this.#packets.read(batch);
    } catch (error) {
      if (!(error instanceof DeviceClosedError)) throw error;
      void this.#shut();
      return 0;
    }
    const count = batch.count;
    if (count === 0) return 0;
    const sockets = this.#sockets;
    if (sockets === undefined) {
      this.#fault('no-socket', count);
      return count;
    }
    const looped = removeOwnDatagrams(batch, sockets.port, (address, port) => this.#endpoints.wasSentTo(address, port));
    if (looped > 0) this.#fault('routing-loop', looped);
    const now = performance.now();
    this.#core.seal(batch, now);
    for (let i = 0; i < batch.count; i++) {
      const verdict = batch.verdicts[i]!;
      const endpoint = batch.peers[i]?.endpoint;
      if (verdict === VERDICT.send && endpoint !== undefined) {
        sockets.send(batch.buffer, batch.offsets[i]!, batch.lengths[i]!, endpoint);
      } else if (verdict === NO_ROUTE || verdict === NO_ENDPOINT) {
        this.#unreachable.answer(batch.buffer, batch.offsets[i]!, batch.lengths[i]!, now);
      }
    }
    // What the kernel did not take at once still lies in this buffer.
    if (sockets.queuedBytes > 0) this.#outbound = newOutboundBatch();
    return count;
  }

  #received(bytes: Uint8Array, endpoint: Endpoint): void {
    if (!this.#up || this.#closing !== undefined) return;
    const batch = this.#inbound;
    batch.clear();
    batch.buffer.set(bytes);
    batch.push(0, bytes.length, endpoint);
    this.#core.open(batch, performance.now());
    if (batch.verdicts[0] === VERDICT.deliver) {
      const taken = this.#packets.write(batch.buffer, batch.offsets[0]!, batch.lengths[0]!);
      if (!taken) this.#fault('device-write-failed');
    }
    this.#requestTurn();
  }

  #sent(): void {
    if (this.#readable) this.#requestTurn();
  }

  // Time.

  #requestTurn(): void {
    if (this.#turnPending || this.#closing !== undefined) return;
    this.#turnPending = true;
    setImmediate(() => {
      this.#turnPending = false;
      this.#turn();
    });
  }

  #turn(): void {
    if (this.#closing !== undefined) return;
    if (this.#readable) this.#pump();
    const now = performance.now();
    if (this.#core.nextDeadline().at <= now) this.#tick(now);
    if (this.#closing !== undefined) return;
    const { at } = this.#core.nextDeadline();
    if (at <= performance.now()) this.#requestTurn();
    else if (at < this.#timerAt) this.#arm(at);
  }

  #tick(now: number): void {
    const { datagrams, events } = this.#core.tick(now, Date.now());
    try {
      this.#timestamps?.cover(this.#core.timestamp);
    } catch {
      this.#fault('timestamp-file-failed');
    }
    for (const { bytes, endpoint, kind, peer } of datagrams) {
      if (this.#sockets !== undefined) {
        this.#sockets.send(bytes, 0, bytes.length, endpoint);
        continue;
      }
      // It is begun again with the socket: nothing is lost.
      if (kind === 'handshake' && peer !== undefined) this.#unsent.set(keyId(peer.publicKey), peer.publicKey);
      else this.#fault('no-socket');
    }
    for (const event of events) this.#onEvent(event);
  }

  /** A deadline that moved back leaves the timer as it is: waking for nothing is cheaper than arming per packet. */
  #arm(at: number): void {
    clearTimeout(this.#timer);
    this.#timerAt = at;
    const delay = Math.min(LONGEST_TIMEOUT, Math.max(1, Math.ceil(at - performance.now())));
    this.#timer = setTimeout(() => {
      this.#timerAt = Infinity;
      this.#turn();
    }, delay);
  }

  // Sockets and their changes, one at a time.

  #linkChanged(up: boolean, mtu: number): void {
    this.#linkChanges += 1;
    const change = this.#inTurn(async () => {
      if (mtu !== this.#mtu) {
        this.#mtu = mtu;
        this.#core.configure({ mtu }, performance.now());
      }
      if (up === this.#up) return;
      this.#socketProblem = undefined;
      this.#up = up;
      if (!up) {
        const sockets = this.#sockets;
        this.#sockets = undefined;
        await sockets?.close();
        return;
      }
      try {
        await this.#adopt(await this.#openSockets(this.#port));
      } catch (error) {
        this.#socketProblem = error instanceof Error ? error : new Error(String(error));
      }
    }).finally(() => {
      this.#linkChanges -= 1;
      this.#requestTurn();
    });
    change.catch(() => this.#fault('link-change-failed'));
  }

  #openSockets(port: number): Promise<UdpSockets> {
    return UdpSockets.open(port, this.#endpoints, {
      onDatagram: (bytes, endpoint) => this.#received(bytes, endpoint),
      onFault: (name) => this.#fault(name),
      onSent: () => this.#sent(),
    });
  }

  async #adopt(sockets: UdpSockets): Promise<void> {
    const former = this.#sockets;
    this.#sockets = sockets;
    this.#port = sockets.port;
    this.#socketProblem = undefined;
    for (const publicKey of this.#unsent.values()) this.#core.rekey(publicKey, performance.now());
    this.#unsent.clear();
    this.#requestTurn();
    if (former === undefined) for (const text of sockets.notes) this.#onEvent({ type: 'note', text });
    await former?.close();
  }

  #inTurn(change: () => Promise<void>): Promise<void> {
    const done = this.#changes.then(() => {
      if (this.#closing !== undefined) throw new DeviceClosedError('the tunnel is closed');
      return change();
    });
    this.#changes = done.catch(() => undefined);
    return done;
  }

  #shut(error?: Error): Promise<void> {
    this.#closing ??= (async (): Promise<void> => {
      clearTimeout(this.#timer);
      await this.#changes;
      try {
        this.#timestamps?.close();
      } catch {
        this.#fault('timestamp-file-failed');
      }
      this.#core.close();
      const sockets = this.#sockets;
      this.#sockets = undefined;
      this.#up = false;
      await sockets?.close();
      await this.#packets.close();
      this.#onEvent({ type: 'closed', ...(error !== undefined && { error }) });
    })();
    return this.#closing;
  }

  #fault(name: string, times = 1): void {
    this.#faults.set(name, (this.#faults.get(name) ?? 0) + times);
  }
}

function newOutboundBatch(): PacketBatch {
  return new PacketBatch(new Uint8Array(BATCH_BYTES), BATCH_PACKETS);
}

function checkUpdate({ listenPort, fwmark }: TunnelUpdate): void {
  if (listenPort !== undefined && (!Number.isInteger(listenPort) || listenPort < 0 || listenPort > 65_535)) {
    throw new RangeError(`listenPort must be 0 to 65535, got ${listenPort}`);
  }
  if (fwmark !== undefined && fwmark !== 0) {
    throw new RangeError('fwmark must be 0 in the portable lane: only the Linux lane can mark datagrams');
  }
}
