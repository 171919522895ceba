/**
 * The data path: IP packets into datagrams and back, where they lie. It looks peers and sessions up, asks their counters and replay
 * windows, and tells the peer what went by; everything rare is the peer's to decide. The one way for data, whoever owns the peers.
 */
import { AllowedIps } from './allowed-ips.ts';
import type { PacketBatch, PeerHandle } from './batch.ts';
import { HEADROOM } from './batch.ts';
import { REJECT_AFTER_MESSAGES_HIGH, REJECT_AFTER_MESSAGES_LOW } from './constants.ts';
import type { DropCounters } from './drops.ts';
import { dropVerdict, FIRST_DROP, VERDICT } from './drops.ts';
import type { Endpoint } from './endpoint.ts';
import { destinationOffset, ipPacketLength, isIpv4, sourceOffset } from './ip.ts';
import type { Keypair } from './keypair.ts';
import { DATA, MESSAGE, messageType } from './messages.ts';
import { sealInPlace } from './seal.ts';

/** What the data path asks a peer, and tells it. */
export interface DataPeer extends PeerHandle {
  /** The session to send on. */
  readonly sending: Keypair | undefined;
  /** Keeps a packet that has no session to go by, and wants one; true when an older packet had to go. */
  stage(packet: Uint8Array, now: number): boolean;
  /** A datagram of `length` bytes was sealed on `keypair`. */
  sealed(keypair: Keypair, length: number, now: number): void;
  /** A datagram of `length` bytes, authentic and new, came on `keypair`. */
  opened(keypair: Keypair, length: number, endpoint: Endpoint | undefined, carriesData: boolean, now: number): void;
  /** What came is no IP packet; false when it is nothing else that the peer wants either. */
  takeOther(packet: Uint8Array, view: DataView, offset: number, length: number, now: number): boolean;
}

export interface PlaneState<P extends DataPeer> {
  /** What a receiver index names. */
  readonly indexes: { lookup(index: number): { readonly peer: P; readonly keypair: Keypair | undefined } | undefined };
  readonly drops: DropCounters;
  /** Undefined while the device has no private key. */
  readonly identity: unknown;
  readonly mtu: number;
}

export interface DataPlaneOptions<P extends DataPeer> {
  readonly state: PlaneState<P>;
  /** What becomes of a handshake message: its verdict. */
  readonly control: (batch: PacketBatch, i: number) => number;
}

const DROP = {
  malformed: dropVerdict('malformed'),
  unknownIndex: dropVerdict('unknown-index'),
  expiredSession: dropVerdict('expired-session'),
  badTag: dropVerdict('bad-tag'),
  replay: dropVerdict('replay'),
  badInnerPacket: dropVerdict('bad-inner-packet'),
  refusedSource: dropVerdict('refused-source'),
  notIp: dropVerdict('not-ip'),
  noRoute: dropVerdict('no-route'),
  noEndpoint: dropVerdict('no-endpoint'),
  stagingOverflow: dropVerdict('staging-overflow'),
  deviceDown: dropVerdict('device-down'),
} as const;

export class DataPlane<P extends DataPeer> {
  readonly allowedIps: AllowedIps<P> = new AllowedIps<P>();
  readonly #state: PlaneState<P>;
  readonly #control: (batch: PacketBatch, i: number) => number;

  constructor({ state, control }: DataPlaneOptions<P>) {
    this.#state = state;
    this.#control = control;
  }

  /**
   * Turns outbound IP packets into datagrams where they lie, each with HEADROOM before and TAILROOM behind it.
   * Verdicts: `send` (to `peers[i].endpoint`), `consumed` (waits for a session) or a drop.
   */
  seal(batch: PacketBatch, now: number): void {
    for (let i = 0; i < batch.count; i++) {
      const verdict = this.#sealOne(batch, i, now);
      batch.verdicts[i] = verdict;
      if (verdict >= FIRST_DROP) this.#state.drops.add(verdict);
    }
  }

  /**
   * Turns inbound datagrams, with their sources in `endpoints`, into IP packets where they lie.
   * Verdicts: `deliver` (from `peers[i]`), `consumed` (a keepalive, or what `control` or the peer took),
   * `elsewhere` (as it came: another lane's) or a drop.
   */
  open(batch: PacketBatch, now: number): void {
    for (let i = 0; i < batch.count; i++) {
      const verdict = this.#openOne(batch, i, now);
      batch.verdicts[i] = verdict;
      if (verdict >= FIRST_DROP) this.#state.drops.add(verdict);
    }
  }

  #sealOne(batch: PacketBatch, i: number, now: number): number {
    const { view } = batch;
    const state = this.#state;
    const offset = batch.offsets[i]!;
    if (state.identity === undefined) return DROP.deviceDown;
    const length = ipPacketLength(view, offset, batch.lengths[i]!);
    if (length === 0) return DROP.notIp;
    const at = destinationOffset(view, offset);
    const peer = isIpv4(view, offset) ? this.allowedIps.lookup4(view, at) : this.allowedIps.lookup6(view, at);
    if (peer === undefined) return DROP.noRoute;
    batch.peers[i] = peer;
    if (peer.endpoint === undefined) return DROP.noEndpoint;
    const keypair = peer.sending;
    if (keypair === undefined || !keypair.claim(now, batch.count - i)) {
      const overflow = peer.stage(batch.buffer.slice(offset, offset + length), now);
      if (overflow) state.drops.add(DROP.stagingOverflow);
      return VERDICT.consumed;
    }
    const sealed = sealInPlace(keypair, batch.buffer, view, offset, length, state.mtu);
    batch.offsets[i] = offset - HEADROOM;
    batch.lengths[i] = sealed;
    peer.sealed(keypair, sealed, now);
    return VERDICT.send;
  }

  #openOne(batch: PacketBatch, i: number, now: number): number {
    const { view } = batch;
    const offset = batch.offsets[i]!;
    const length = batch.lengths[i]!;
    // Nothing can be sent back to port 0, and no peer sends from there.
    if (batch.endpoints[i]?.port === 0) return DROP.malformed;
    const type = messageType(view, offset, length);
    if (type !== MESSAGE.data) return type === 0 ? DROP.malformed : this.#control(batch, i);
    const entry = this.#state.indexes.lookup(view.getUint32(offset + DATA.receiver, true));
    const keypair = entry?.keypair;
    if (entry === undefined || keypair === undefined) return DROP.unknownIndex;
    const { opener } = keypair;
    if (opener === undefined) return VERDICT.elsewhere;
    const low = view.getUint32(offset + DATA.counterLow, true);
    const high = view.getUint32(offset + DATA.counterHigh, true);
    if (!keypair.canReceive(now)) return DROP.expiredSession;
    if (high === REJECT_AFTER_MESSAGES_HIGH && low >= REJECT_AFTER_MESSAGES_LOW) return DROP.expiredSession;
    if (!opener.open(batch.buffer, offset + DATA.packet, length - DATA.packet, low, high)) return DROP.badTag;
    if (!keypair.replay.accept(low, high)) return DROP.replay;
    return this.#accept(batch, i, entry.peer, keypair, now);
  }

  /** An authentic, new data packet: the peer hears of it, then what is inside is judged. */
  #accept(batch: PacketBatch, i: number, peer: P, keypair: Keypair, now: number): number {
    const { view } = batch;
    const length = batch.lengths[i]!;
    const isKeepalive = length === DATA.minimumLength;
    peer.opened(keypair, length, batch.endpoints[i], !isKeepalive, now);
    if (isKeepalive) return VERDICT.consumed;
    const inner = batch.offsets[i]! + DATA.packet;
    const innerLength = ipPacketLength(view, inner, length - DATA.minimumLength);
    if (innerLength === 0) {
      const taken = peer.takeOther(batch.buffer, view, inner, length - DATA.minimumLength, now);
      return taken ? VERDICT.consumed : DROP.badInnerPacket;
    }
    const at = sourceOffset(view, inner);
    const owner = isIpv4(view, inner) ? this.allowedIps.lookup4(view, at) : this.allowedIps.lookup6(view, at);
    if (owner !== peer) return DROP.refusedSource;
    batch.offsets[i] = inner;
    batch.lengths[i] = innerLength;
    batch.peers[i] = peer;
    return VERDICT.deliver;
  }
}
