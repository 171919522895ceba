/**
 * The Linux lane as the main thread sees it: a worker thread owns interface, sockets and protocol; requests go there as messages, rung in
 * by an eventfd that its poll(2) watches, and answers and events come back as messages.
 */
import { setTimeout } from 'node:timers/promises';
import { MessageChannel, receiveMessageOnPort, Worker, type MessagePort } from 'node:worker_threads';
import type { DeviceSecrets } from '@sealane/protocol';
import { CRYPTO_KINDS, type CryptoKind } from '../crypto/select.ts';
import { TunDevice } from '../devices/tun.ts';
import { addressOf, closeDescriptor, errno, errnoName, foreign, type ForeignFunction } from '../linux/foreign.ts';
import {
  DeviceClosedError,
  type Lane,
  type LaneOptions,
  type LaneStatus,
  type PacketDevice,
  type TunnelEvent,
  type TunnelUpdate,
} from '../model.ts';
import { keepOnDisk } from '../timestamp-file.ts';
import {
  unpackError,
  type Answer,
  type Answers,
  type FromWorker,
  type Request,
  type ToWorker,
} from './linux-messages.ts';

const EFD_NONBLOCK_CLOEXEC = 0o2004000;
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
  readonly #device: PacketDevice;
  readonly #onEvent: (event: TunnelEvent) => void;
  readonly #worker: Worker;
  readonly #port: MessagePort;
  readonly #bell: Bell;
  readonly #exit: Promise<unknown>;
  readonly #waiting = new Map<number, Waiting>();
  #lastId = 0;
  #shutting: Promise<void> | undefined;
  #ended = false;

  private constructor(options: LaneOptions, device: TunDevice, crypto: CryptoKind) {
    this.#device = device;
    this.#onEvent = options.onEvent;
    this.#bell = new Bell();
    const channel = new MessageChannel();
    this.#port = channel.port1;
    this.#worker = new Worker(workerModule(), {
      workerData: {
        port: channel.port2,
        tun: device.fd,
        bell: this.#bell.fd,
        crypto,
        timestampFile: options.timestampFile,
      },
      transferList: [channel.port2],
      // Flags that change how this process finds modules must not reach the built ones.
      execArgv: [],
      name: `sealane ${device.name}`,
    });
    this.#port.on('message', (message: FromWorker) => this.#receive(message));
    this.#worker.on('error', (error) => {
      const failure = new Error('the packet thread failed', { cause: error });
      this.#refuseAll(failure);
      void this.#shut(failure);
    });
    this.#exit = new Promise((resolve) => this.#worker.once('exit', resolve));
    this.#worker.on('exit', () => {
      // What it said last may not have been delivered yet.
      for (let last = nextMessage(this.#port); last !== undefined; last = nextMessage(this.#port)) this.#receive(last);
      this.#ended = true;
      this.#refuseAll(new DeviceClosedError('the tunnel is closed'));
      void this.#shut(this.#shutting === undefined ? new Error('the packet thread ended') : undefined);
    });
  }

  /** Opens the lane with its first configuration; on an error nothing stays open but the packet device. */
  static async open(options: LaneOptions, config: TunnelUpdate = {}): Promise<LinuxLane> {
    const { device } = options;
    const crypto = cryptoKind(options.crypto.name);
    const obstacle = linuxLaneObstacle(options);
    if (!(device instanceof TunDevice) || crypto === undefined) throw new Error(obstacle ?? 'no Linux lane');
    const lane = new LinuxLane(options, device, crypto);
    try {
      await lane.#ask({ type: 'configure', update: { mtu: device.mtu, ...config } });
    } catch (error) {
      await lane.#stop();
      throw error;
    }
    return lane;
  }

  async configure(update: TunnelUpdate): Promise<void> {
    await this.#ask({ type: 'configure', update });
  }

  status(): Promise<LaneStatus> {
    return this.#ask({ type: 'status' });
  }

  secrets(): Promise<DeviceSecrets> {
    return this.#ask({ type: 'secrets' });
  }

  rekey(publicKey?: Uint8Array): Promise<number> {
    return this.#ask({ type: 'rekey', publicKey });
  }

  close(): Promise<void> {
    return this.#shut();
  }

  #ask<const R extends Request>(request: R): Promise<Answers[R['type']]> {
    if (this.#ended || (this.#shutting !== undefined && request.type !== 'close')) {
      return Promise.reject(new DeviceClosedError('the tunnel is closed'));
    }
    const id = ++this.#lastId;
    const answer = new Promise<Answer>((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
    const message: ToWorker = { id, request };
    this.#port.postMessage(message, []);
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
      await this.#device.close();
      this.#onEvent({ type: 'closed', ...(error !== undefined && { error }) });
    })();
    return this.#shutting;
  }

  /** Ends the thread in good order, or at once when it does not answer any more. */
  async #stop(): Promise<void> {
    this.#shutting ??= Promise.resolve();
    this.#ask({ type: 'close' }).catch(() => undefined);
    await Promise.race([this.#exit, setTimeout(LONGEST_STOP, undefined, { ref: false })]);
    await this.#worker.terminate();
    this.#port.close();
    this.#bell.close();
  }
}

/** An eventfd: rung here, polled by the packet thread. */
class Bell {
  readonly fd: number = foreign('int eventfd(unsigned int, int)')(0, EFD_NONBLOCK_CLOEXEC);
  readonly #write: ForeignFunction = foreign('long write(int, uintptr_t, size_t)');
  readonly #one = new Uint8Array(new BigUint64Array([1n]).buffer);

  constructor() {
    if (this.fd < 0) throw new Error(`no eventfd to be had: ${errnoName(errno())}`);
  }

  ring(): void {
    this.#write(this.fd, addressOf(this.#one), 8);
  }

  close(): void {
    closeDescriptor(this.fd);
  }
}

function nextMessage(port: MessagePort): FromWorker | undefined {
  const received: { readonly message: FromWorker } | undefined = receiveMessageOnPort(port);
  return received?.message;
}

function cryptoKind(name: string): CryptoKind | undefined {
  return CRYPTO_KINDS.find((kind) => name === kind || name.startsWith(`${kind} `));
}

/** Worker threads run the built module, also when this one runs from its source. */
function workerModule(): URL {
  const own = import.meta.url;
  return own.endsWith('.ts') ? new URL('../../dist/lane/linux-worker.js', own) : new URL('./linux-worker.js', own);
}
