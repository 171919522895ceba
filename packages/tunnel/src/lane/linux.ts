/**
 * The Linux lane as the main thread sees it: a worker thread owns interface, sockets and protocol; requests go there as messages, rung in
 * by an eventfd that its poll(2) watches, and answers and events come back as messages.
 */
import { setTimeout } from 'node:timers/promises';
import { MessageChannel, receiveMessageOnPort, Worker, type MessagePort } from 'node:worker_threads';
import { copySecret, type DeviceSecrets, type Endpoint } from '@sealane/protocol';
import { CRYPTO_KINDS, type CryptoKind } from '../crypto/select.ts';
import { TunDevice } from '../devices/tun.ts';
import { Bell } from '../linux/bell.ts';
import { canSteer } from '../linux/reuseport.ts';
import { disableOffloads, enableOffloads } from '../linux/tun.ts';
import {
  DeviceClosedError,
  type Lane,
  type LaneOptions,
  type LaneStatus,
  type TunnelEvent,
  type TunnelUpdate,
} from '../model.ts';
import { keepOnDisk } from '../timestamp-file.ts';
import type { DataLaneInput } from './data-lane.ts';
import {
  unpackError,
  type Answer,
  type Answers,
  type FromWorker,
  type Request,
  type ToWorker,
  type WorkerInput,
} from './linux-messages.ts';
import { packUpdate, type PackedUpdate } from './packed-update.ts';

/** Milliseconds. */
const LONGEST_STOP = 2_000;

interface Waiting {
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: Error) => void;
}

/** Why the Linux lane cannot serve this device, or undefined when it can. */
export function linuxLaneObstacle(options: Pick<LaneOptions, 'device' | 'crypto'>): string | undefined {
  if (!(options.device instanceof TunDevice)) return 'the Linux lane needs a TUN interface';
  if (cryptoKind(options.crypto.name) === undefined)
    return `the Linux lane cannot use the cryptography '${options.crypto.name}'`;
  return undefined;
}

export class LinuxLane implements Lane {
  readonly kind = 'linux';
  readonly #device: TunDevice;
  readonly #onEvent: (event: TunnelEvent) => void;
  /** Lane 0's and those of the other lanes. */
  readonly #workers: readonly Worker[];
  readonly #port: MessagePort;
  readonly #bell: Bell;
  readonly #bells: readonly Bell[];
  readonly #exit: Promise<unknown>;
  readonly #waiting = new Map<number, Waiting>();
  readonly #notes: readonly string[];
  #lastId = 0;
  #shutting: Promise<void> | undefined;
  #ended = false;
  /** The packet device is ours, and whoever opened this hears of its end. */
  #isOpen = false;

  private constructor(options: LaneOptions, device: TunDevice, crypto: CryptoKind, notes: readonly string[]) {
    this.#device = device;
    this.#notes = notes;
    this.#onEvent = options.onEvent;
    this.#bell = Bell.open();
    const { queues, name } = device;
    const offloads = enableOffloads(device.fd);
    const answers = new SharedArrayBuffer(4 * queues.length);
    const others = queues.slice(1).map(() => ({ channel: new MessageChannel(), bell: Bell.open() }));
    this.#bells = others.map(({ bell }) => bell);
    const channel = new MessageChannel();
    this.#port = channel.port1;
    const start = (lane: number, module: string, data: { readonly port: MessagePort }, ports: MessagePort[]): Worker =>
      new Worker(workerModule(module), {
        workerData: data,
        transferList: [data.port, ...ports],
        // Flags that change how this process finds modules must not reach the built ones.
        execArgv: [],
        name: `sealane ${name}${queues.length === 1 ? '' : ` ${lane}`}`,
      });
    const links = others.map(({ channel: { port1 }, bell }) => ({ port: port1, bell: bell.fd }));
    const { timestampFile } = options;
    const main: WorkerInput = {
      port: channel.port2,
      queues,
      bell: this.#bell.fd,
      crypto,
      timestampFile,
      offloads,
      links,
      answers,
    };
    this.#workers = [
      start(
        0,
        'linux-worker',
        main,
        links.map(({ port }) => port),
      ),
      ...others.map(({ channel: { port2 }, bell }, i) => {
        const data: DataLaneInput = {
          lane: i + 1,
          queues,
          udpOffload: offloads.udp,
          crypto,
          port: port2,
          bell: bell.fd,
          answerBell: this.#bell.fd,
          answers,
        };
        return start(i + 1, 'data-lane-worker', data, []);
      }),
    ];
    this.#port.on('message', (message: FromWorker) => this.#receive(message));
    this.#exit = Promise.all(this.#workers.map((worker) => new Promise((resolve) => worker.once('exit', resolve))));
    for (const [lane, worker] of this.#workers.entries()) this.#watch(worker, lane);
  }

  /** Opens the lane with its first configuration; on an error nothing stays open but the packet device, as it was. */
  static async open(options: LaneOptions, config: TunnelUpdate = {}): Promise<LinuxLane> {
    const { device } = options;
    const crypto = cryptoKind(options.crypto.name);
    const obstacle = linuxLaneObstacle(options);
    if (!(device instanceof TunDevice) || crypto === undefined) throw new Error(obstacle ?? 'no Linux lane');
    const lane = new LinuxLane(options, device, crypto, settleQueues(device));
    try {
      await lane.#ask({ type: 'configure', update: packUpdate({ mtu: device.mtu, ...config }) });
    } catch (error) {
      await lane.#shut();
      throw error;
    }
    lane.#isOpen = true;
    return lane;
  }

  async configure(update: TunnelUpdate): Promise<void> {
    await this.#ask({ type: 'configure', update: packUpdate(update) });
  }

  async status(): Promise<LaneStatus> {
    const status = await this.#ask({ type: 'status' });
    return { ...status, notes: [...this.#notes, ...status.notes] };
  }

  secrets(): Promise<DeviceSecrets> {
    return this.#ask({ type: 'secrets' });
  }

  rekey(publicKey?: Uint8Array, probed?: Endpoint): Promise<number> {
    return this.#ask({ type: 'rekey', publicKey, probed });
  }

  async holding(keep: readonly number[], change: () => void): Promise<void> {
    await this.#ask({ type: 'hold' });
    change();
    await this.#ask({ type: 'take', keep });
  }

  close(): Promise<void> {
    return this.#shut();
  }

  #watch(worker: Worker, lane: number): void {
    const which = this.#workers.length === 1 ? 'the packet thread' : `packet thread ${lane}`;
    worker.on('error', (error) => {
      const failure = new Error(`${which} failed`, { cause: error });
      this.#refuseAll(failure);
      void this.#shut(failure);
    });
    worker.on('exit', (code) => {
      // In good order, on lane 0's word.
      if (lane !== 0 && code === 0) return;
      if (lane === 0) {
        // What it said last may not have been delivered yet.
        for (let last = nextMessage(this.#port); last !== undefined; last = nextMessage(this.#port))
          this.#receive(last);
        this.#ended = true;
        this.#refuseAll(new DeviceClosedError('the tunnel is closed'));
      }
      void this.#shut(this.#shutting === undefined ? new Error(`${which} ended`) : undefined);
    });
  }

  #ask<const R extends Request>(request: R): Promise<Answers[R['type']]> {
    if (this.#ended || (this.#shutting !== undefined && request.type !== 'close')) {
      return Promise.reject(new DeviceClosedError('the tunnel is closed'));
    }
    const id = ++this.#lastId;
    const answer = new Promise<Answer>((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
    const [own, secrets] = movable(request);
    const message: ToWorker = { id, request: own };
    this.#port.postMessage(message, secrets);
    this.#bell.ring();
    return answer as Promise<Answers[R['type']]>;
  }

  #receive(message: FromWorker): void {
    switch (message.type) {
      case 'event':
        this.#onEvent(message.event);
        return;
      case 'written':
        keepOnDisk(message.path);
        return;
      case 'gone': {
        const error = message.error === undefined ? undefined : unpackError(message.error);
        if (error !== undefined) this.#refuseAll(error);
        void this.#shut(error);
        return;
      }
      case 'answer':
        this.#take(message.id)?.resolve(message.value);
        return;
      case 'refusal':
        this.#take(message.id)?.reject(unpackError(message.error));
    }
  }

  #refuseAll(error: Error): void {
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }

  #take(id: number): Waiting | undefined {
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    return waiting;
  }

  #shut(error?: Error): Promise<void> {
    this.#shutting ??= (async (): Promise<void> => {
      await this.#stop();
      if (!this.#isOpen) {
        disableOffloads(this.#device.fd);
        return;
      }
      await this.#device.close();
      this.#onEvent({ type: 'closed', ...(error !== undefined && { error }) });
    })();
    return this.#shutting;
  }

  /** Ends the thread in good order, or at once when it does not answer any more. */
  async #stop(): Promise<void> {
    this.#ask({ type: 'close' }).catch(() => undefined);
    await Promise.race([this.#exit, setTimeout(LONGEST_STOP, undefined, { ref: false })]);
    const bells = [this.#bell, ...this.#bells];
    const ended = this.#workers.map((worker) => worker.terminate());
    // A thread that waits in a system call ends when it returns from it.
    for (const bell of bells) bell.ring();
    await Promise.all(ended);
    this.#port.close();
    for (const bell of bells) bell.close();
  }
}

/** As many queues as there can be lanes; says why when there are fewer than wanted. */
function settleQueues(device: TunDevice): readonly string[] {
  if (device.queues.length === 1) {
    return device.wantedQueues === 1 ? [] : [`The interface ${device.name} takes one queue only: one lane serves.`];
  }
  if (canSteer()) return [];
  device.keepOneQueue();
  return ['This kernel cannot steer a group of sockets (older than 4.5): one lane serves.'];
}

/** The request with its secrets in memory that moves to the other thread: what is cloned leaves a copy in memory that nobody wipes. */
function movable(request: Request): readonly [Request, ArrayBuffer[]] {
  if (request.type !== 'configure') return [request, []];
  const { update } = request;
  const moved: ArrayBuffer[] = [];
  const move = (secret: Uint8Array): Uint8Array => {
    const copy = copySecret(secret);
    moved.push(copy.buffer as ArrayBuffer);
    return copy;
  };
  const peers = update.peers?.map((peer) =>
    peer.presharedKey === undefined ? peer : { ...peer, presharedKey: move(peer.presharedKey) },
  );
  const own: PackedUpdate = {
    ...update,
    ...(update.privateKey !== undefined && { privateKey: move(update.privateKey) }),
    ...(peers !== undefined && { peers }),
  };
  return [{ type: 'configure', update: own }, moved];
}

function nextMessage(port: MessagePort): FromWorker | undefined {
  const received: { readonly message: FromWorker } | undefined = receiveMessageOnPort(port);
  return received?.message;
}

function cryptoKind(name: string): CryptoKind | undefined {
  return CRYPTO_KINDS.find((kind) => name === kind || name.startsWith(`${kind} `));
}

/** Worker threads run the built module, also when this one runs from its source. */
function workerModule(name: string): URL {
  const own = import.meta.url;
  return new URL(own.endsWith('.ts') ? `../../dist/lane/${name}.js` : `./${name}.js`, own);
}
