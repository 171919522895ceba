/**
 * One identity and its peers: the whole protocol behind six calls. A lane runs this loop:
 *
 *   packets from the packet device -> `seal` -> datagrams to the peers' endpoints
 *   datagrams from the socket      -> `open` -> packets to the packet device
 *   at `nextDeadline().at`         -> `tick` -> datagrams to send, events to tell
 *
 * The data path only moves deadlines and counters. Everything rare (handshakes that `open` queued, timers, keepalives,
 * packets that waited for a session) comes out of `tick`, so a lane that ticks after its data never lets handshakes starve it.
 * `now` is monotonic milliseconds. Where that clock stops while the host sleeps, the wall clock tells how long: sessions must
 * age all the same, because the peer's have.
 */
import { applyAllowedIps } from './allowed-ips.ts';
import type { PacketBatch, PeerHandle } from './batch.ts';
import { DeviceClock } from './clock.ts';
import { checkEndpoint, checkUpdate, configureHandshakes } from './configure.ts';
import { HANDSHAKES_PER_TICK } from './constants.ts';
import type { DeviceContext, IndexEntry, LocalIdentity, Outbox } from './context.ts';
import { receiveHandshake } from './control.ts';
import { CookieChecker } from './cookie.ts';
import type { Crypto } from './crypto.ts';
import { copySecret, wipe } from './crypto.ts';
import { DataPlane } from './data-plane.ts';
import { DeadlineQueue } from './deadline-queue.ts';
import { DropCounters, dropVerdict, VERDICT } from './drops.ts';
import type { Endpoint } from './endpoint.ts';
import { prologue } from './handshake.ts';
import { HandshakeQueue } from './handshake-queue.ts';
import { IndexTable } from './index-table.ts';
import type { LaneChange, LaneReport } from './lane-model.ts';
import { LanePublisher } from './lane-publisher.ts';
import { clamp, isZeroKey, keyId } from './keys.ts';
import { decodeCookieReply, MESSAGE } from './messages.ts';
import type { Deadline, DeviceSecrets, DeviceStatus, DeviceUpdate, Output, PeerUpdate } from './model.ts';
import { Peer } from './peer.ts';
import { JitterSource } from './jitter.ts';
import { RateLimiter } from './ratelimiter.ts';
import { peerStatus } from './status.ts';

export interface DeviceOptions {
  readonly crypto: Crypto;
  /** Cryptographically secure random bytes, a fresh array each time. */
  readonly random: (length: number) => Uint8Array;
  /** The highest TAI64N timestamp (12 bytes) that this identity may have used before. */
  readonly timestampFloor?: Uint8Array;
  /** How many lanes carry data: this is lane 0, and the others have a `LaneReplica` each. 1 by default. */
  readonly lanes?: number;
}

const HANDSHAKE_QUEUE_FULL = dropVerdict('handshake-queue-full');
const BAD_COOKIE_REPLY = dropVerdict('bad-cookie-reply');
const BAD_MAC1 = dropVerdict('bad-mac1');
const DEVICE_DOWN = dropVerdict('device-down');

const TICKS_PER_PEER = 4;

const NEVER: Deadline = { at: Infinity, why: 'idle' };
const NOTHING: Output = { datagrams: [], events: [] };

export class Device {
  readonly #context: DeviceContext;
  readonly #plane: DataPlane<Peer>;
  readonly #peers = new Map<string, Peer>();
  readonly #deadlines = new DeadlineQueue<Peer>();
  readonly #handshakes = new HandshakeQueue();
  readonly #limiter = new RateLimiter();
  readonly #clock = new DeviceClock();

  constructor({ crypto, random, timestampFloor, lanes = 1 }: DeviceOptions) {
    const jitter = new JitterSource(random);
    const indexes = new IndexTable<IndexEntry>(random);
    const drops = new DropCounters();
    this.#context = {
      crypto,
      random,
      indexes,
      drops,
      jitter: () => jitter.next(),
      schedule: (peer, at) => this.#deadlines.schedule(peer, at),
      lanes: lanes > 1 ? new LanePublisher(lanes, indexes, drops) : undefined,
      identity: undefined,
      mtu: 0,
      timestampFloor: timestampFloor?.slice(),
      timestamp: undefined,
    };
    this.#plane = new DataPlane({ state: this.#context, control: (batch, i) => this.#queueHandshake(batch, i) });
  }

  /** The highest TAI64N timestamp sent so far: whoever restarts this identity must not go below it. */
  get timestamp(): Uint8Array | undefined {
    return this.#context.timestamp;
  }

  /** Applies all of `update` or, with a RangeError that names the field, nothing. */
  configure(update: DeviceUpdate, now: number): void {
    checkUpdate(update, this.#peers);
    const at = this.#clock.read(now);
    if (update.privateKey !== undefined) this.#setPrivateKey(update.privateKey);
    if (update.mtu !== undefined) this.#context.mtu = update.mtu;
    if (update.replacePeers === true) this.#removeUnnamed(update.peers ?? []);
    for (const peer of update.peers ?? []) this.#configurePeer(peer, at);
    this.#context.lanes?.deviceChanged(this.#context.identity !== undefined, this.#context.mtu);
  }

  /**
   * Turns outbound IP packets into datagrams where they lie, each with HEADROOM before and TAILROOM behind it.
   * Verdicts: `send` (to `peers[i].endpoint`), `consumed` (waits for a session) or a drop.
   */
  seal(batch: PacketBatch, now: number): void {
    const at = this.#clock.read(now);
    this.#clock.packetsSent(at);
    this.#plane.seal(batch, at);
  }

  /**
   * Turns inbound datagrams, with their sources in `endpoints`, into IP packets where they lie.
   * Verdicts: `deliver` (from `peers[i]`), `consumed` (a keepalive, or a message for the next tick), `elsewhere` (of a session that
   * another lane opens) or a drop.
   */
  open(batch: PacketBatch, now: number): void {
    this.#plane.open(batch, this.#clock.read(now));
  }

  /** What the other lanes' replicas have to follow since the last call, in order: tell them before the datagrams of a tick leave. */
  laneChanges(): readonly LaneChange[] {
    return this.#context.lanes?.take((at) => this.#clock.callersTime(at)) ?? [];
  }

  /** Takes another lane's traffic into account; what it could not send is returned, to be sealed here. */
  account(report: LaneReport, now: number): readonly Uint8Array[] {
    const { lanes, drops } = this.#context;
    const at = this.#clock.read(now);
    this.#clock.packetsSent(at);
    drops.addMany(report.drops);
    for (const traffic of report.peers) lanes?.account(traffic, at, (time) => this.#clock.timeAt(time));
    return report.unsent;
  }

  /** When `tick` is due at the latest. Any other call may make it earlier. */
  nextDeadline(): Deadline {
    if (this.#handshakes.length > 0) return { at: this.#clock.callersNow(), why: 'handshake-queue' };
    if (this.#clock.wallClockDue) return { at: this.#clock.callersNow(), why: 'wall-clock' };
    const peer = this.#deadlines.first();
    const sweep = this.#limiter.nextSweep();
    if (peer === undefined || sweep < peer.scheduledAt) {
      return sweep === Infinity ? NEVER : { at: this.#clock.callersTime(sweep), why: 'rate-limiter-sweep' };
    }
    return { at: this.#clock.callersTime(peer.scheduledAt), why: peer.timers.why() };
  }

  /** Does what is due; `unixMs` is the wall clock, for timestamps. Early calls do no harm. */
  tick(now: number, unixMs: number): Output {
    const at = this.#clock.tick(now, unixMs);
    const out: Outbox = { datagrams: [], events: [], now: at, unixMs };
    this.#receiveHandshakes(out);
    if (this.#limiter.nextSweep() <= at) this.#limiter.sweep(at);
    // A peer may set another deadline for this very moment; the bound keeps a tick finite whatever it does.
    for (let ticks = TICKS_PER_PEER * this.#peers.size; ticks > 0; ticks--) {
      const peer = this.#deadlines.first();
      if (peer === undefined || peer.scheduledAt > at) break;
      peer.tick(out);
    }
    return out.datagrams.length === 0 && out.events.length === 0
      ? NOTHING
      : { datagrams: out.datagrams, events: out.events };
  }

  /**
   * Begins handshakes with one peer, or with all that have an endpoint, in the next tick; returns how many. The first
   * initiation goes to `probed`, if given: data stays where it goes until the peer answers from there.
   */
  rekey(publicKey: Uint8Array | undefined, now: number, probed?: Endpoint): number {
    if (probed !== undefined) checkEndpoint(probed, 'probed');
    const at = this.#clock.read(now);
    let begun = 0;
    for (const peer of publicKey === undefined ? this.#peers.values() : [this.#peers.get(keyId(publicKey))]) {
      if (peer?.endpoint === undefined) continue;
      peer.forceHandshake(at, probed);
      begun += 1;
    }
    return begun;
  }

  /** Call after a send error with a pinned source: the system chooses the local address from then on. */
  forgetSource(handle: PeerHandle): void {
    this.#peers.get(keyId(handle.publicKey))?.forgetSource();
  }

  /** The peers as the data path names them. */
  handles(): Iterable<PeerHandle> {
    return this.#peers.values();
  }

  status(now: number): DeviceStatus {
    const at = this.#clock.read(now);
    const { identity, crypto, drops } = this.#context;
    return {
      ...(identity !== undefined && { publicKey: identity.publicKey.slice() }),
      crypto: crypto.name,
      underLoad: this.#handshakes.underLoad(at),
      drops: drops.snapshot(),
      peers: Array.from(this.#peers.values(), (peer) => peerStatus(peer, this.#plane.allowedIps, at)),
    };
  }

  /** Copies of the secrets; the caller wipes them. */
  secrets(): DeviceSecrets {
    const { identity } = this.#context;
    return {
      ...(identity !== undefined && { privateKey: copySecret(identity.privateKey) }),
      presharedKeys: Array.from(this.#peers.values())
        .filter((peer) => !isZeroKey(peer.presharedKey))
        .map((peer) => ({ publicKey: peer.publicKey.slice(), presharedKey: copySecret(peer.presharedKey) })),
    };
  }

  /** Removes all peers and erases every secret. */
  close(): void {
    for (const peer of this.#peers.values()) this.#removePeer(peer);
    this.#handshakes.clear();
    this.#replaceIdentity(undefined);
  }

  /**
   * Under a flood the cheapest refusal comes first; who does not know our public key never waits with those that do. A cookie reply
   * has no mac1: it waits when it names an index of ours, which only who saw our messages knows.
   */
  #queueHandshake(batch: PacketBatch, i: number): number {
    const source = batch.endpoints[i];
    if (source === undefined) throw new TypeError(`batch.endpoints[${i}] is missing`);
    const { identity } = this.#context;
    if (identity === undefined) return DEVICE_DOWN;
    if (!this.#handshakes.hasRoom(source)) return HANDSHAKE_QUEUE_FULL;
    const offset = batch.offsets[i]!;
    const bytes = batch.buffer.slice(offset, offset + batch.lengths[i]!);
    if (bytes[0] === MESSAGE.cookieReply) {
      if (this.#context.indexes.lookup(decodeCookieReply(bytes).receiver) === undefined) return BAD_COOKIE_REPLY;
    } else if (!identity.cookies.checkMac1(bytes)) return BAD_MAC1;
    this.#handshakes.push(bytes, source);
    return VERDICT.consumed;
  }

  #receiveHandshakes(out: Outbox): void {
    for (let n = 0; n < HANDSHAKES_PER_TICK; n++) {
      const underLoad = this.#handshakes.underLoad(out.now);
      const message = this.#handshakes.shift();
      if (message === undefined) return;
      const reason = receiveHandshake(
        this.#context,
        (publicKey) => this.#peers.get(keyId(publicKey)),
        message.bytes,
        message.source,
        { underLoad, limiter: this.#limiter },
        out,
      );
      if (reason !== undefined) this.#context.drops.add(dropVerdict(reason));
    }
  }

  #setPrivateKey(privateKey: Uint8Array): void {
    const { identity, crypto, random } = this.#context;
    if (isZeroKey(privateKey)) {
      this.#replaceIdentity(undefined);
      return;
    }
    const key = clamp(copySecret(privateKey));
    if (identity !== undefined && crypto.equal(identity.privateKey, key)) {
      wipe(key);
      return;
    }
    const publicKey = crypto.publicKey(key);
    this.#replaceIdentity({
      privateKey: key,
      publicKey,
      cookies: new CookieChecker(crypto, random, publicKey),
      prologues: {
        chacha20poly1305: prologue(crypto, 'chacha20poly1305', publicKey),
        aes256gcm: prologue(crypto, 'aes256gcm', publicKey),
      },
    });
    const own = this.#peers.get(keyId(publicKey));
    if (own !== undefined) this.#removePeer(own);
  }

  #replaceIdentity(identity: LocalIdentity | undefined): void {
    const before = this.#context.identity;
    wipe(before?.privateKey);
    before?.cookies.wipe();
    this.#context.identity = identity;
    for (const peer of this.#peers.values()) peer.identityChanged();
  }

  #removeUnnamed(named: readonly PeerUpdate[]): void {
    const keep = new Set(named.map((peer) => keyId(peer.publicKey)));
    for (const [id, peer] of this.#peers) if (!keep.has(id)) this.#removePeer(peer);
  }

  #configurePeer(update: PeerUpdate, now: number): void {
    const id = keyId(update.publicKey);
    let peer = this.#peers.get(id);
    if (update.remove === true) {
      if (peer !== undefined) this.#removePeer(peer);
      return;
    }
    if (peer === undefined) {
      const { identity, crypto } = this.#context;
      if (update.updateOnly === true) return;
      if (identity !== undefined && crypto.equal(identity.publicKey, update.publicKey)) return;
      peer = new Peer(this.#context, update.publicKey);
      this.#peers.set(id, peer);
    }
    configureHandshakes(this.#context, peer, update, now);
    applyAllowedIps(this.#plane.allowedIps, peer, update.replaceAllowedIps === true, update.allowedIps ?? []);
    this.#context.lanes?.allowedIpsChanged(peer, update);
    if (update.endpoint !== undefined) peer.endpoint = update.endpoint;
    if (update.persistentKeepalive !== undefined) {
      const switchedOn = peer.persistentKeepalive === 0 && update.persistentKeepalive > 0;
      peer.persistentKeepalive = update.persistentKeepalive;
      if (switchedOn) peer.keepaliveNow(now);
    }
  }

  #removePeer(peer: Peer): void {
    this.#peers.delete(keyId(peer.publicKey));
    this.#plane.allowedIps.removeOwner(peer);
    this.#deadlines.remove(peer);
    peer.destroy();
    this.#context.lanes?.peerRemoved(peer);
  }
}
