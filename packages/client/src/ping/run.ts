/** One ping: a tunnel between the network and an echo client in this process, without touching the system. */
import { formatKey, type Endpoint, type PeerStatus } from '@sealane/protocol';
import {
  type BulkResult,
  EchoClient,
  formatAddress,
  memoryPair,
  openTunnel,
  type Tunnel,
  type TunnelConfig,
  type TunnelUpdate,
} from '@sealane/tunnel';
import { CliError, EXIT } from '../errors.ts';
import type { Stop } from '../system/stop.ts';
import { type Diagnosis, explainAltered, explainEcho, explainHandshake } from './diagnosis.ts';
import { ReachabilityProbe, type Refusal } from './reachability.ts';
import type { PingTarget } from './target.ts';

export interface PingPlan {
  readonly config: TunnelConfig;
  readonly update: TunnelUpdate;
  readonly target: PingTarget;
  readonly endpoint: Endpoint;
  readonly count: number;
  /** Payload bytes of an echo request. */
  readonly size: number;
  /** Milliseconds for the handshake, and for each echo. */
  readonly timeoutMs: number;
  /** Bytes of a bulk transfer after the echoes; 0 is none. */
  readonly bulk: number;
  readonly rekey: boolean;
  readonly timestampFile?: string;
  readonly configTime?: number;
}

export interface PingResult {
  readonly endpoint: Endpoint;
  readonly target: string;
  readonly crypto: string;
  readonly lane: string;
  /** Absent while no session was made. */
  readonly handshakeMs?: number;
  readonly sent: number;
  readonly roundTripsMs: readonly number[];
  readonly bulk?: BulkResult;
  readonly sessions: number;
  /** Whether the session is hedged against a later quantum computer; absent when the exchange is off. */
  readonly hedged?: boolean;
  readonly diagnosis?: Diagnosis;
}

export interface PingObserver {
  readonly handshake: (milliseconds: number) => void;
  /** `milliseconds` is undefined for an echo without reply. */
  readonly echo: (sequence: number, milliseconds: number | undefined) => void;
  readonly rekeyed: (sessions: number) => void;
  readonly bulk: (bytes: number) => void;
}

const DEFAULT_MTU = 1_420;
const ECHO_INTERVAL = 200;
const REKEY_TIMEOUT = 15_000;

export async function runPing(plan: PingPlan, observer: PingObserver, stop: Stop): Promise<PingResult> {
  const { mtu = DEFAULT_MTU, addresses } = plan.config.interface;
  const [near, far] = memoryPair({ mtu, name: 'ping' });
  const tunnel = await openTunnel({
    device: near,
    // Its own port and no mark: a tunnel that runs on this computer keeps its.
    config: { ...plan.update, listenPort: 0, fwmark: 0 },
    ...(plan.timestampFile === undefined ? {} : { timestampFile: plan.timestampFile }),
  });
  const client = new EchoClient({ device: far, addresses: addresses.map(({ address }) => address) });
  try {
    const run = new Run(plan, observer, stop, tunnel, client);
    return await run.result();
  } finally {
    await client.close();
    await tunnel.close();
  }
}

class Run {
  readonly #plan: PingPlan;
  readonly #observer: PingObserver;
  readonly #stop: Stop;
  readonly #tunnel: Tunnel;
  readonly #client: EchoClient;
  #handshakeMs: number | undefined;
  #sent = 0;
  readonly #roundTrips: number[] = [];
  #bulk: BulkResult | undefined;

  constructor(plan: PingPlan, observer: PingObserver, stop: Stop, tunnel: Tunnel, client: EchoClient) {
    this.#plan = plan;
    this.#observer = observer;
    this.#stop = stop;
    this.#tunnel = tunnel;
    this.#client = client;
  }

  async result(): Promise<PingResult> {
    const diagnosis = await this.#run();
    const { crypto } = await this.#tunnel.status();
    const peer = await this.#peer();
    return {
      endpoint: this.#plan.endpoint,
      target: formatAddress(this.#plan.target.address),
      crypto,
      lane: this.#tunnel.lane,
      ...(this.#handshakeMs === undefined ? {} : { handshakeMs: this.#handshakeMs }),
      sent: this.#sent,
      roundTripsMs: this.#roundTrips,
      ...(this.#bulk === undefined ? {} : { bulk: this.#bulk }),
      sessions: peer?.sessions ?? 0,
      ...(peer?.postQuantum === undefined ? {} : { hedged: peer.session?.hedged === true }),
      ...(diagnosis === undefined ? {} : { diagnosis }),
    };
  }

  async #run(): Promise<Diagnosis | undefined> {
    const refused = await this.#handshake();
    if (refused !== undefined) return refused;
    await this.#echoes();
    if (this.#sent > 0 && this.#roundTrips.length === 0) return this.#noEcho();
    if (this.#plan.bulk > 0) await this.#transfer();
    else if (this.#plan.rekey) await this.#renew();
    const target = formatAddress(this.#plan.target.address);
    if (this.#bulk !== undefined && this.#bulk.wrong > 0) return explainAltered(target);
    if (this.#bulk !== undefined && this.#bulk.lost > 0) return explainEcho(target, 1, true);
    return this.#roundTrips.length < this.#sent ? explainEcho(target, this.#roundTrips.length, true) : undefined;
  }

  /** Resolves to what is wrong, or to nothing once a session stands. */
  async #handshake(): Promise<Diagnosis | undefined> {
    const { endpoint, target, timeoutMs } = this.#plan;
    let refusal: Refusal | undefined;
    let cookieReceived = false;
    let stood = false;
    const began = performance.now();
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => settle(), timeoutMs);
      const probe = new ReachabilityProbe(endpoint, (what) => {
        refusal = what;
        settle();
      });
      const unsubscribe = this.#tunnel.events((event) => {
        if (event.type === 'cookie-received') cookieReceived = true;
        if (event.type === 'session') {
          stood = true;
          this.#handshakeMs = event.handshakeMs ?? performance.now() - began;
        }
        if (event.type === 'session' || event.type === 'handshake-refused') settle();
      });
      const settle = (): void => {
        clearTimeout(timer);
        probe.close();
        unsubscribe();
        this.#stop.signal.removeEventListener('abort', settle);
        resolve();
      };
      this.#stop.signal.addEventListener('abort', settle);
      this.#tunnel.rekey(target.peer.publicKey).catch(reject);
    });
    this.#stop.check();
    if (stood) {
      this.#observer.handshake(this.#handshakeMs ?? 0);
      return undefined;
    }
    const { device } = await this.#tunnel.status();
    return explainHandshake({
      endpoint,
      publicKey: device.publicKey === undefined ? '' : formatKey(device.publicKey),
      cipher: target.peer.cipher ?? 'chacha20poly1305',
      waitedMs: performance.now() - began,
      ...(refusal === undefined ? {} : { refusal }),
      cookieReceived,
      drops: device.drops,
      now: Date.now(),
      ...(this.#plan.configTime === undefined ? {} : { configTime: this.#plan.configTime }),
    });
  }

  async #echoes(): Promise<void> {
    const { target, size, timeoutMs, count } = this.#plan;
    for (let sequence = 1; sequence <= count && this.#stop.reason === undefined; sequence++) {
      const sentAt = performance.now();
      const roundTrip = await this.#unlessStopped(this.#client.ping({ target: target.address, size, timeoutMs }));
      if (roundTrip === 'stopped') return;
      this.#sent++;
      if (roundTrip !== undefined) this.#roundTrips.push(roundTrip);
      this.#observer.echo(sequence, roundTrip);
      // With no reply to the first there is no point in waiting for every other.
      if (roundTrip === undefined && this.#roundTrips.length === 0 && sequence >= 2) return;
      if (sequence < count) await this.#stop.sleep(ECHO_INTERVAL - (performance.now() - sentAt));
    }
  }

  async #transfer(): Promise<void> {
    let rekeyed: Promise<void> | undefined;
    const transfer = this.#client.bulk({
      target: this.#plan.target.address,
      bytes: this.#plan.bulk,
      timeoutMs: this.#plan.timeoutMs,
      onProgress: (bytes) => {
        this.#observer.bulk(bytes);
        if (this.#plan.rekey && bytes >= this.#plan.bulk / 2) rekeyed ??= this.#renew();
      },
    });
    const result = await this.#unlessStopped(transfer);
    this.#stop.check();
    if (result !== 'stopped') this.#bulk = result;
    await rekeyed;
  }

  /** Renews the session and waits for the new one. */
  async #renew(): Promise<void> {
    const before = (await this.#peer())?.sessions ?? 0;
    const renewed = new Promise<boolean>((resolve) => {
      const timer = setTimeout(() => resolve(false), REKEY_TIMEOUT);
      this.#tunnel.on('session', ({ number }) => {
        if (number <= before) return;
        clearTimeout(timer);
        resolve(true);
      });
    });
    await this.#tunnel.rekey(this.#plan.target.peer.publicKey);
    const done = await this.#unlessStopped(renewed);
    this.#stop.check();
    if (done !== true) throw new CliError(EXIT.noAnswer, 'the session stands, but the server did not answer the rekey');
    this.#observer.rekeyed(before + 1);
  }

  async #noEcho(): Promise<Diagnosis> {
    const received = (await this.#peer())?.rxBytes ?? 0;
    return explainEcho(formatAddress(this.#plan.target.address), 0, received > HANDSHAKE_AND_KEEPALIVES);
  }

  async #peer(): Promise<PeerStatus | undefined> {
    const key = formatKey(this.#plan.target.peer.publicKey);
    return (await this.#tunnel.status()).device.peers.find((peer) => formatKey(peer.publicKey) === key);
  }

  #unlessStopped<T>(work: Promise<T>): Promise<T | 'stopped'> {
    const { signal } = this.#stop;
    if (signal.aborted) return Promise.resolve('stopped');
    return new Promise((resolve, reject) => {
      const stopped = (): void => resolve('stopped');
      signal.addEventListener('abort', stopped, { once: true });
      work.then(resolve, reject).finally(() => signal.removeEventListener('abort', stopped));
    });
  }
}

/** A response of 92 bytes and some keepalives of 32 say nothing about inner packets. */
const HANDSHAKE_AND_KEEPALIVES = 92 + 4 * 32;
