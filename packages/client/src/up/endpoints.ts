/**
 * Keeps each peer at an endpoint that answers. A peer may have several, and a name may stand for several addresses: when
 * the one in use is silent the next is tried, and when that one serves, the preferred one is asked again from time to
 * time, by a handshake alone: packets stay on the one that serves until the preferred one answers. Silence is what the
 * protocol itself calls so: data sent and nothing authenticated back.
 */
import { type Endpoint, formatKey, type PeerStatus, sameRemote } from '@sealane/protocol';
import {
  formatEndpoint,
  type Log,
  parseEndpoint,
  type PeerConfig,
  peerEndpoints,
  peerLabel,
  type ResolvedEndpoints,
  resolveEndpoint,
  type Tunnel,
  type TunnelConfig,
} from '@sealane/tunnel';

export interface EndpointTimes {
  /** An established session is silent after Keepalive-Timeout + Rekey-Timeout (paper §6.5). */
  readonly sessionSilence: number;
  /** A handshake gets one repetition (Rekey-Timeout with its jitter) before the next endpoint is tried. */
  readonly handshakeSilence: number;
  /** How long the preferred endpoint may take to answer when it is asked again. */
  readonly returnAttempt: number;
  /** Until it is asked first; each that fails doubles it, up to sixteen times. */
  readonly returnInterval: number;
}

const TIMES: EndpointTimes = {
  sessionSilence: 15_000,
  handshakeSilence: 6_000,
  returnAttempt: 2_500,
  returnInterval: 60_000,
};
const TICK = 1_000;
/** Bytes of two keepalives: nothing answers those. Any packet of a program is larger. */
const KEEPALIVES = 64;
/** Between two lookups for the reason that nothing answers. */
const LOOKUP_INTERVAL = 30_000;

interface Watch {
  readonly peer: PeerConfig;
  readonly id: string;
  candidates: readonly Endpoint[];
  rxBytes: number;
  txBytes: number;
  /** When something was sent that nothing came back for. */
  silentSince: number | undefined;
  /** Endpoints tried since the peer was last heard. */
  tried: number;
  lookedUpAt: number;
  returnAt: number;
  returnWait: number;
  returning: { readonly until: number; readonly sessions: number } | undefined;
}

export class EndpointKeeper {
  readonly #tunnel: Tunnel;
  readonly #log: Log;
  readonly #times: EndpointTimes;
  readonly #onResolved: (resolved: ResolvedEndpoints) => void;
  /** By the peer's public key. */
  #watches: ReadonlyMap<string, Watch> = new Map();
  #timer: NodeJS.Timeout | undefined;
  #interval: NodeJS.Timeout | undefined;
  #turn: Promise<unknown> = Promise.resolve();
  #ticking = false;
  #unsubscribe: (() => void) | undefined;

  /** `onResolved` hears of each new answer to a name. */
  constructor(
    tunnel: Tunnel,
    log: Log,
    onResolved: (resolved: ResolvedEndpoints) => void = () => undefined,
    times: EndpointTimes = TIMES,
  ) {
    this.#tunnel = tunnel;
    this.#log = log;
    this.#onResolved = onResolved;
    this.#times = times;
  }

  /** Begins to watch; every `resolveMs` milliseconds (0: never) names are looked up again. */
  start(config: TunnelConfig, resolved: ResolvedEndpoints, resolveMs: number): void {
    this.replace(config, resolved);
    this.#timer = setInterval(() => this.#nextTick(), TICK);
    if (resolveMs > 0) {
      this.#interval = setInterval(() => void this.#alone(() => this.#resolve([...this.#watches.values()])), resolveMs);
    }
    this.#unsubscribe = this.#tunnel.on('unanswered', ({ publicKey }) => {
      const watch = this.#watches.get(formatKey(publicKey));
      if (watch !== undefined) void this.#alone(() => this.#resolve([watch]));
    });
  }

  /** Watches the peers of another configuration; those whose endpoints are the same go on where they are. */
  replace(config: TunnelConfig, resolved: ResolvedEndpoints): void {
    const watches = config.peers
      .filter(({ endpoints }) => endpoints.length > 1 || endpoints.some((text) => parseEndpoint(text) === undefined))
      .map((peer) => {
        const id = formatKey(peer.publicKey);
        const old = this.#watches.get(id);
        if (old !== undefined && old.peer.endpoints.join() === peer.endpoints.join()) return { ...old, peer };
        return this.#watch(peer, id, peerEndpoints(peer, resolved));
      });
    this.#watches = new Map(watches.map((watch) => [watch.id, watch]));
  }

  stop(): void {
    clearInterval(this.#timer);
    clearInterval(this.#interval);
    this.#unsubscribe?.();
  }

  #watch(peer: PeerConfig, id: string, candidates: readonly Endpoint[]): Watch {
    const { returnInterval } = this.#times;
    return {
      peer,
      id,
      candidates,
      rxBytes: 0,
      txBytes: 0,
      silentSince: undefined,
      tried: 0,
      lookedUpAt: -Infinity,
      returnAt: 0,
      returnWait: returnInterval,
      returning: undefined,
    };
  }

  /** One piece of work at a time; what fails because the tunnel ends meanwhile is nobody's concern. */
  #alone(work: () => Promise<void>): Promise<unknown> {
    this.#turn = this.#turn.then(work).catch(() => undefined);
    return this.#turn;
  }

  #nextTick(): void {
    if (this.#ticking || this.#watches.size === 0) return;
    this.#ticking = true;
    void this.#alone(() => this.#tick()).then(() => (this.#ticking = false));
  }

  async #tick(): Promise<void> {
    const { device } = await this.#tunnel.status();
    const now = performance.now();
    for (const status of device.peers) {
      const watch = this.#watches.get(formatKey(status.publicKey));
      if (watch !== undefined) await this.#look(watch, status, now);
    }
  }

  async #look(watch: Watch, status: PeerStatus, now: number): Promise<void> {
    const { rxBytes, txBytes, endpoint } = status;
    const heard = rxBytes > watch.rxBytes;
    const sent = txBytes > watch.txBytes + KEEPALIVES;
    watch.rxBytes = rxBytes;
    watch.txBytes = txBytes;
    if (watch.returning !== undefined) {
      this.#endReturn(watch, status, now);
      return;
    }
    if (heard) {
      watch.silentSince = undefined;
      watch.tried = 0;
    } else if (sent) watch.silentSince ??= now;
    const { sessionSilence, handshakeSilence } = this.#times;
    const limit = status.session !== undefined && watch.tried === 0 ? sessionSilence : handshakeSilence;
    if (watch.silentSince !== undefined && now - watch.silentSince >= limit) {
      await this.#next(watch, endpoint, now);
    } else if (heard && endpoint !== undefined && this.#mayReturn(watch, endpoint, now)) {
      watch.returning = { until: now + this.#times.returnAttempt, sessions: status.sessions };
      await this.#tunnel.rekey(status.publicKey, watch.candidates[0]);
    }
  }

  /** Once around, each endpoint gets a handshake of its own; after that the ones that go on anyway are passed around. */
  async #next(watch: Watch, endpoint: Endpoint | undefined, now: number): Promise<void> {
    watch.silentSince = undefined;
    watch.tried++;
    if (watch.tried % watch.candidates.length === 0 && now - watch.lookedUpAt > LOOKUP_INTERVAL)
      await this.#lookUp(watch);
    const { candidates } = watch;
    const at = endpoint === undefined ? -1 : candidates.findIndex((candidate) => sameRemote(candidate, endpoint));
    const next = candidates[(at + 1) % candidates.length];
    if (next === undefined || (endpoint !== undefined && sameRemote(next, endpoint))) return;
    watch.returnAt = now + watch.returnWait;
    await this.#move(watch, next, watch.tried <= candidates.length);
    this.#log.limited('endpoint', `${peerLabel(watch.peer)} is silent, trying ${formatEndpoint(next)}`, {
      peer: watch.id,
    });
  }

  #mayReturn({ candidates, returnAt }: Watch, endpoint: Endpoint, now: number): boolean {
    const [preferred] = candidates;
    const at = candidates.findIndex((candidate) => sameRemote(candidate, endpoint));
    return preferred !== undefined && at > 0 && now >= returnAt;
  }

  #endReturn(watch: Watch, status: PeerStatus, now: number): void {
    const { until, sessions } = watch.returning!;
    const [preferred] = watch.candidates;
    const back = status.sessions > sessions && status.endpoint !== undefined && sameRemote(status.endpoint, preferred!);
    if (!back && now < until) return;
    watch.returning = undefined;
    watch.silentSince = undefined;
    if (back) {
      watch.returnWait = this.#times.returnInterval;
      this.#log.limited('endpoint', `${peerLabel(watch.peer)} is back at ${formatEndpoint(preferred!)}`, {
        peer: watch.id,
      });
      return;
    }
    watch.returnWait = Math.min(2 * watch.returnWait, 16 * this.#times.returnInterval);
    watch.returnAt = now + watch.returnWait;
  }

  /** Looks their names up; moves the peers whose address in use is no longer one of theirs. */
  async #resolve(watches: readonly Watch[]): Promise<void> {
    const before = watches.map(({ candidates }) => candidates);
    await Promise.all(watches.map((watch) => this.#lookUp(watch)));
    const { device } = await this.#tunnel.status();
    const endpoints = new Map(device.peers.map(({ publicKey, endpoint }) => [formatKey(publicKey), endpoint]));
    for (const [i, watch] of watches.entries()) await this.#follow(watch, before[i]!, endpoints.get(watch.id));
  }

  async #follow(watch: Watch, before: readonly Endpoint[], endpoint: Endpoint | undefined): Promise<void> {
    const has = (list: readonly Endpoint[]): boolean =>
      endpoint !== undefined && list.some((candidate) => sameRemote(candidate, endpoint));
    // A peer that moved by itself stays where it is.
    const [first] = watch.candidates;
    if (first === undefined || has(watch.candidates) || (endpoint !== undefined && !has(before))) return;
    await this.#move(watch, first);
    this.#log.limited('endpoint', `${peerLabel(watch.peer)} has a new address, ${formatEndpoint(first)}`, {
      peer: watch.id,
    });
  }

  async #lookUp(watch: Watch): Promise<void> {
    watch.lookedUpAt = performance.now();
    const found = new Map<string, readonly Endpoint[]>();
    for (const text of watch.peer.endpoints) {
      const endpoints = await resolveEndpoint(text).catch(() => []);
      if (endpoints.length > 0) found.set(text, endpoints);
    }
    const candidates = peerEndpoints(watch.peer, found);
    // No answer at all says nothing about the addresses that are known.
    if (found.size < watch.peer.endpoints.length && candidates.length < watch.candidates.length) return;
    watch.candidates = candidates;
    this.#onResolved(found);
  }

  async #move({ peer }: Watch, endpoint: Endpoint, handshake = true): Promise<void> {
    await this.#tunnel.configure({ peers: [{ publicKey: peer.publicKey, updateOnly: true, endpoint }] });
    if (handshake) await this.#tunnel.rekey(peer.publicKey);
  }
}
