/**
 * What a lane other than lane 0 has in place of the `Device`: its peers, routes and sessions, followed change by change, with the
 * same data path. It decides nothing. What moves deadlines and counters is summed up and reported.
 */
import { applyAllowedIps } from './allowed-ips.ts';
import type { PacketBatch, PeerHandle } from './batch.ts';
import { STAGED_PACKETS } from './constants.ts';
import { wipe, type Crypto } from './crypto.ts';
import { DataPlane, type DataPeer } from './data-plane.ts';
import { DropCounters, VERDICT } from './drops.ts';
import { sameEndpoint, withoutSource, type Endpoint } from './endpoint.ts';
import type { Keypair } from './keypair.ts';
import { laneOf, type LaneChange, type LaneReport, type PeerTraffic } from './lane-model.ts';
import { SharedKeypair, SharedSession } from './shared-session.ts';

/** Milliseconds between two reports while there is traffic, and between two of which the second cannot wait. */
const REPORT_INTERVAL = 50;
const URGENT_INTERVAL = 2;

export interface LaneReplicaOptions {
  readonly crypto: Crypto;
  readonly lane: number;
  readonly lanes: number;
  /** Applies the changes that have come meanwhile. */
  readonly refresh: () => void;
}

interface Session {
  readonly peer: ReplicaPeer;
  readonly keypair: SharedKeypair;
}

export class LaneReplica {
  readonly #options: LaneReplicaOptions;
  readonly #peers = new Map<number, ReplicaPeer>();
  readonly #sessions = new Map<number, Session>();
  readonly #drops = new DropCounters();
  readonly #state: {
    indexes: { lookup(index: number): Session | undefined };
    drops: DropCounters;
    identity: unknown;
    mtu: number;
  };
  readonly #plane: DataPlane<ReplicaPeer>;
  readonly #moved: ReplicaPeer[] = [];
  #unsent: Uint8Array[] = [];
  #refreshed = false;
  #urgent = false;
  #reportedAt = -Infinity;

  constructor(options: LaneReplicaOptions) {
    this.#options = options;
    const indexes = { lookup: (index: number): Session | undefined => this.#lookup(index) };
    this.#state = { indexes, drops: this.#drops, identity: undefined, mtu: 0 };
    this.#plane = new DataPlane({ state: this.#state, control: () => VERDICT.elsewhere });
  }

  /** Follows the device: all changes, in their order. */
  apply(changes: readonly LaneChange[]): void {
    for (const change of changes) this.#apply(change);
  }

  /** As `Device.seal`; packets without a session go into the next report. */
  seal(batch: PacketBatch, now: number): void {
    this.#plane.seal(batch, now);
  }

  /** As `Device.open`; handshakes and other lanes' sessions are `elsewhere`. */
  open(batch: PacketBatch, now: number): void {
    this.#refreshed = false;
    this.#plane.open(batch, now);
  }

  /** As `Device.forgetSource`. */
  forgetSource(handle: PeerHandle): void {
    if (handle instanceof ReplicaPeer) handle.forgetSource();
  }

  /** As `Device.handles`. */
  handles(): Iterable<PeerHandle> {
    return this.#peers.values();
  }

  /** When `report` is due; Infinity when there is nothing to say. */
  get reportDue(): number {
    if (this.#moved.length === 0 && this.#unsent.length === 0 && this.#drops.isEmpty) return Infinity;
    return this.#reportedAt + (this.#urgent ? URGENT_INTERVAL : REPORT_INTERVAL);
  }

  /** What went by since the last report. */
  report(now: number): LaneReport {
    this.#reportedAt = now;
    this.#urgent = false;
    const unsent = this.#unsent;
    this.#unsent = [];
    return { peers: this.#moved.splice(0).map((peer) => peer.report()), drops: this.#drops.take(), unsent };
  }

  /** Erases every secret. */
  close(): void {
    for (const { keypair } of this.#sessions.values()) keypair.wipe();
    this.#sessions.clear();
    this.#peers.clear();
    for (const packet of this.#unsent.splice(0)) wipe(packet);
  }

  #lookup(index: number): Session | undefined {
    const session = this.#sessions.get(index);
    if (session !== undefined || this.#refreshed) return session;
    // Lane 0 tells of a session before the peer can: what tells of it may only not have been read yet.
    this.#refreshed = true;
    this.#options.refresh();
    return this.#sessions.get(index);
  }

  #apply(change: LaneChange): void {
    switch (change.type) {
      case 'device':
        this.#state.identity = change.hasIdentity ? true : undefined;
        this.#state.mtu = change.mtu;
        return;
      case 'peer':
        this.#peers.set(change.peer, new ReplicaPeer(change.peer, change.publicKey, this));
        return;
      case 'session':
        this.#begin(change);
        return;
      case 'session-ended':
        this.#end(change.localIndex);
        return;
      case 'endpoint':
      case 'allowed-ips':
      case 'sending':
      case 'peer-removed':
        this.#applyTo(this.#peers.get(change.peer), change);
    }
  }

  #applyTo(
    peer: ReplicaPeer | undefined,
    change: Extract<LaneChange, { readonly type: 'endpoint' | 'allowed-ips' | 'sending' | 'peer-removed' }>,
  ): void {
    if (peer === undefined) return;
    switch (change.type) {
      case 'endpoint':
        peer.followEndpoint(change.endpoint);
        return;
      case 'allowed-ips':
        applyAllowedIps(this.#plane.allowedIps, peer, change.replace, change.allowedIps);
        return;
      case 'sending':
        peer.current = change.localIndex === undefined ? undefined : this.#sessions.get(change.localIndex)?.keypair;
        return;
      case 'peer-removed':
        this.#plane.allowedIps.removeOwner(peer);
        this.#peers.delete(change.peer);
    }
  }

  #begin({
    peer: id,
    memory,
    suite,
    localIndex,
    remoteIndex,
    createdAt,
  }: Extract<LaneChange, { type: 'session' }>): void {
    const { crypto, lane, lanes } = this.#options;
    const peer = this.#peers.get(id);
    const session = new SharedSession(memory);
    const keys = session.takeKeys();
    if (keys === undefined) return;
    if (peer === undefined) {
      wipe(keys.send, keys.receive);
      return;
    }
    const aead = crypto.aead(suite);
    const keypair = new SharedKeypair({
      session,
      sealer: aead.sealer(keys.send),
      opener: laneOf(localIndex, lanes) === lane ? aead.opener(keys.receive) : undefined,
      isInitiator: false,
      localIndex,
      remoteIndex,
      createdAt,
      renewAt: Infinity,
      yields: false,
      derivedKey: 0,
    });
    wipe(keys.send, keys.receive);
    this.#sessions.set(localIndex, { peer, keypair });
    peer.newest = keypair;
  }

  #end(localIndex: number): void {
    const session = this.#sessions.get(localIndex);
    if (session === undefined) return;
    const { peer, keypair } = session;
    if (peer.newest === keypair) peer.newest = undefined;
    keypair.wipe();
    this.#sessions.delete(localIndex);
  }

  /** @internal */
  moved(peer: ReplicaPeer, urgent: boolean): void {
    if (!peer.isMoved) this.#moved.push(peer);
    peer.isMoved = true;
    this.#urgent ||= urgent;
  }

  /** @internal */
  stage(packet: Uint8Array): boolean {
    this.#urgent = true;
    if (this.#unsent.length >= STAGED_PACKETS) return true;
    this.#unsent.push(packet);
    return false;
  }
}

class ReplicaPeer implements DataPeer {
  readonly publicKey: Uint8Array;
  readonly #id: number;
  readonly #replica: LaneReplica;
  endpoint: Endpoint | undefined;
  /** What lane 0 sends on, as it said last, and the session that began last. */
  current: Keypair | undefined;
  newest: Keypair | undefined;
  isMoved = false;
  #rxBytes = 0;
  #txBytes = 0;
  #sentAt = -Infinity;
  #receivedAt = -Infinity;
  #receivedOn: Keypair | undefined;
  #receivedData = false;
  #begun: number[] = [];
  #heardFrom: Endpoint | undefined;
  #forgetSource = false;
  #other: Uint8Array | undefined;

  constructor(id: number, publicKey: Uint8Array, replica: LaneReplica) {
    this.#id = id;
    this.publicKey = publicKey;
    this.#replica = replica;
  }

  get sending(): Keypair | undefined {
    return this.newest?.isConfirmed === true ? this.newest : this.current;
  }

  stage(packet: Uint8Array): boolean {
    return this.#replica.stage(packet);
  }

  sealed(_keypair: Keypair, length: number, now: number): void {
    this.#txBytes += length;
    this.#sentAt = now;
    if (!this.isMoved) this.#replica.moved(this, false);
  }

  opened(keypair: Keypair, length: number, endpoint: Endpoint | undefined, carriesData: boolean, now: number): void {
    this.#rxBytes += length;
    this.#receivedAt = now;
    this.#receivedData ||= carriesData;
    const begins = keypair !== this.#receivedOn;
    if (begins) {
      this.#receivedOn = keypair;
      this.#begun.push(keypair.localIndex);
      // Before what it carries is delivered: the answer to that goes by this session on whichever lane.
      keypair.confirm();
    }
    const moves = endpoint !== undefined && endpoint !== this.endpoint && this.#hearFrom(endpoint);
    if (!this.isMoved || begins || moves) this.#replica.moved(this, begins || moves);
  }

  /** One at a time: whoever sends more than one message between two reports repeats what was lost. */
  takeOther(packet: Uint8Array, _view: DataView, offset: number, length: number): boolean {
    if (this.#other !== undefined) return false;
    this.#other = packet.slice(offset, offset + length);
    this.#replica.moved(this, true);
    return true;
  }

  /** Lane 0's news; an endpoint that is the same keeps the object that datagrams come with. */
  followEndpoint(endpoint: Endpoint | undefined): void {
    const own = this.endpoint;
    if (own !== undefined && endpoint !== undefined && sameEndpoint(own, endpoint)) return;
    this.endpoint = endpoint;
  }

  forgetSource(): void {
    if (this.endpoint === undefined) return;
    this.endpoint = withoutSource(this.endpoint);
    this.#forgetSource = true;
    this.#replica.moved(this, true);
  }

  report(): PeerTraffic {
    const traffic: PeerTraffic = {
      peer: this.#id,
      rxBytes: this.#rxBytes,
      txBytes: this.#txBytes,
      sentAt: this.#sentAt,
      receivedAt: this.#receivedAt,
      receivedOn: this.#receivedOn?.localIndex,
      receivedData: this.#receivedData,
      begun: this.#begun,
      endpoint: this.#heardFrom,
      forgetSource: this.#forgetSource,
      other: this.#other,
    };
    this.isMoved = false;
    this.#rxBytes = 0;
    this.#txBytes = 0;
    this.#sentAt = -Infinity;
    this.#receivedAt = -Infinity;
    this.#receivedData = false;
    this.#begun = [];
    this.#heardFrom = undefined;
    this.#forgetSource = false;
    this.#other = undefined;
    return traffic;
  }

  /** True when it is another endpoint than before. */
  #hearFrom(endpoint: Endpoint): boolean {
    const before = this.endpoint;
    this.endpoint = endpoint;
    if (before !== undefined && sameEndpoint(before, endpoint)) return false;
    this.#heardFrom = endpoint;
    return true;
  }
}
