/** Lane 0's side of several lanes: what its device tells the replicas, and what their reports mean for its peers. */
import type { IndexEntry } from './context.ts';
import type { CipherSuite, Crypto } from './crypto.ts';
import { dropVerdict, type DropCounters } from './drops.ts';
import type { Endpoint } from './endpoint.ts';
import type { TransportKeys } from './handshake.ts';
import type { IndexTable } from './index-table.ts';
import type { KeypairInput } from './keypair.ts';
import { laneOf, type LaneChange, type PeerTraffic } from './lane-model.ts';
import type { PeerUpdate } from './model.ts';
import type { Peer } from './peer.ts';
import { SharedKeypair, SharedSession } from './shared-session.ts';

/** What the replicas know of a peer. */
interface Published {
  readonly id: number;
  endpoint: Endpoint | undefined;
  sending: number | undefined;
}

export class LanePublisher {
  readonly #lanes: number;
  readonly #indexes: IndexTable<IndexEntry>;
  readonly #drops: DropCounters;
  readonly #published = new Map<Peer, Published>();
  readonly #peers = new Map<number, Peer>();
  readonly #changed = new Set<Peer>();
  #changes: LaneChange[] = [];
  #lastId = 0;

  constructor(lanes: number, indexes: IndexTable<IndexEntry>, drops: DropCounters) {
    this.#lanes = lanes;
    this.#indexes = indexes;
    this.#drops = drops;
  }

  deviceChanged(hasIdentity: boolean, mtu: number): void {
    this.#changes.push({ type: 'device', hasIdentity, mtu });
  }

  /** The peer's endpoint or its session to send on may be another one: `take` compares. */
  peerChanged(peer: Peer): void {
    this.#changed.add(peer);
  }

  allowedIpsChanged(peer: Peer, { replaceAllowedIps, allowedIps }: PeerUpdate): void {
    const { id } = this.#announced(peer);
    this.#changed.add(peer);
    if (replaceAllowedIps !== true && (allowedIps ?? []).length === 0) return;
    this.#changes.push({
      type: 'allowed-ips',
      peer: id,
      replace: replaceAllowedIps === true,
      allowedIps: allowedIps ?? [],
    });
  }

  peerRemoved(peer: Peer): void {
    const published = this.#published.get(peer);
    this.#changed.delete(peer);
    if (published === undefined) return;
    this.#published.delete(peer);
    this.#peers.delete(published.id);
    this.#changes.push({ type: 'peer-removed', peer: published.id });
  }

  /** A session of `peer` that all lanes send on. Whoever asks keeps `keys`, and wipes them. */
  share(peer: Peer, crypto: Crypto, suite: CipherSuite, keys: TransportKeys, input: SessionInput): SharedKeypair {
    const session = SharedSession.create(keys, this.#lanes - 1);
    const aead = crypto.aead(suite);
    const { localIndex, remoteIndex, createdAt } = input;
    const { id } = this.#announced(peer);
    this.#changes.push({
      type: 'session',
      peer: id,
      memory: session.buffer,
      suite,
      localIndex,
      remoteIndex,
      createdAt,
    });
    this.#changed.add(peer);
    return new SharedKeypair({
      ...input,
      sealer: aead.sealer(keys.send),
      opener: laneOf(localIndex, this.#lanes) === 0 ? aead.opener(keys.receive) : undefined,
      session,
      onEnd: () => this.#changes.push({ type: 'session-ended', localIndex }),
    });
  }

  /** The changes since the last call, in order; `callersTime` turns instants of the device into its caller's. */
  take(callersTime: (at: number) => number): readonly LaneChange[] {
    for (const peer of this.#changed) this.#compare(peer);
    this.#changed.clear();
    if (this.#changes.length === 0) return NONE;
    const changes = this.#changes;
    this.#changes = [];
    return changes.map((change) =>
      change.type === 'session' ? { ...change, createdAt: callersTime(change.createdAt) } : change,
    );
  }

  /** Moves counters and deadlines on as if the device had carried the traffic itself; `timeOf` is the inverse of `callersTime`. */
  account(traffic: PeerTraffic, now: number, timeOf: (callers: number) => number): void {
    const peer = this.#peers.get(traffic.peer);
    if (peer === undefined) return;
    peer.rxBytes += traffic.rxBytes;
    peer.txBytes += traffic.txBytes;
    if (traffic.endpoint !== undefined) peer.heardFrom(traffic.endpoint, now);
    else if (traffic.forgetSource) peer.forgetSource();
    const sentAt = Math.min(now, timeOf(traffic.sentAt));
    const receivedAt = Math.min(now, timeOf(traffic.receivedAt));
    // In the order of what came last of each.
    if (sentAt > receivedAt) {
      this.#received(peer, traffic, receivedAt);
      sent(peer, sentAt);
    } else {
      sent(peer, sentAt);
      this.#received(peer, traffic, receivedAt);
    }
    this.#changed.add(peer);
  }

  #received(peer: Peer, { begun, receivedOn, receivedData, other }: PeerTraffic, at: number): void {
    if (at === -Infinity) return;
    for (const index of [...begun, receivedOn ?? -1]) {
      const keypair = this.#indexes.lookup(index)?.keypair;
      if (keypair === undefined) continue;
      if (peer.keypairs.confirm(keypair, at)) peer.sessionConfirmed(at);
      peer.renewOnReceive(keypair, at);
    }
    peer.packetReceived(at, receivedData);
    if (other === undefined) return;
    const view = new DataView(other.buffer, other.byteOffset, other.byteLength);
    if (!peer.takeOther(other, view, 0, other.length, at)) this.#drops.add(BAD_INNER_PACKET);
  }

  #announced(peer: Peer): Published {
    let published = this.#published.get(peer);
    if (published === undefined) {
      published = { id: ++this.#lastId, endpoint: undefined, sending: undefined };
      this.#published.set(peer, published);
      this.#peers.set(published.id, peer);
      this.#changes.push({ type: 'peer', peer: published.id, publicKey: peer.publicKey });
    }
    return published;
  }

  #compare(peer: Peer): void {
    const published = this.#announced(peer);
    const { endpoint } = peer;
    if (published.endpoint !== endpoint) {
      published.endpoint = endpoint;
      this.#changes.push({ type: 'endpoint', peer: published.id, endpoint });
    }
    const sending = peer.sending?.localIndex;
    if (published.sending !== sending) {
      published.sending = sending;
      this.#changes.push({ type: 'sending', peer: published.id, localIndex: sending });
    }
  }
}

export type SessionInput = Omit<KeypairInput, 'sealer' | 'opener'>;

function sent(peer: Peer, at: number): void {
  if (at === -Infinity) return;
  peer.packetSent(at, true);
  if (peer.sending?.needsRenewal(at) === true) peer.wantHandshake(at);
}

const BAD_INNER_PACKET = dropVerdict('bad-inner-packet');
const NONE: readonly LaneChange[] = [];
