import {
  REJECT_AFTER_MESSAGES_HIGH,
  REJECT_AFTER_MESSAGES_LOW,
  REJECT_AFTER_TIME,
  REKEY_AFTER_MESSAGES_HIGH,
} from './constants.ts';
import type { PacketOpener, PacketSealer } from './crypto.ts';
import { ReplayWindow } from './replay.ts';

export interface KeypairInput {
  readonly sealer: PacketSealer;
  /** Absent where another lane opens what comes on this session. */
  readonly opener: PacketOpener | undefined;
  readonly isInitiator: boolean;
  readonly localIndex: number;
  readonly remoteIndex: number;
  readonly createdAt: number;
  /** When this side renews the session on sending; Infinity for a responder. */
  readonly renewAt: number;
  /** Should the handshake cross with one of the peer's, this side moves to the peer's session. */
  readonly yields: boolean;
  /** The name of the post-quantum preshared key that went into the handshake; 0 is none. */
  readonly derivedKey: number;
}

/**
 * One transport session: two keys, the sending counter and the replay window. It has one owner; a counter is used once.
 * The counter is 64 bits in two halves, because a JavaScript number is exact to 2^53 only.
 */
export class Keypair {
  readonly sealer: PacketSealer;
  readonly opener: PacketOpener | undefined;
  readonly replay: ReplayWindow = new ReplayWindow();
  readonly isInitiator: boolean;
  readonly localIndex: number;
  readonly remoteIndex: number;
  readonly createdAt: number;
  readonly yields: boolean;
  readonly derivedKey: number;
  renewAt: number;
  /** The counter that the next packet gets. */
  counterLow = 0;
  counterHigh = 0;
  #confirmed = false;
  #wiped = false;

  constructor(input: KeypairInput) {
    this.sealer = input.sealer;
    this.opener = input.opener;
    this.isInitiator = input.isInitiator;
    this.localIndex = input.localIndex;
    this.remoteIndex = input.remoteIndex;
    this.createdAt = input.createdAt;
    this.renewAt = input.renewAt;
    this.yields = input.yields;
    this.derivedKey = input.derivedKey;
  }

  /** A packet came on it: the peer has the session. */
  get isConfirmed(): boolean {
    return this.#confirmed;
  }

  confirm(): void {
    this.#confirmed = true;
  }

  get expiresAt(): number {
    return this.createdAt + REJECT_AFTER_TIME;
  }

  /** False past Reject-After-Time or Reject-After-Messages: nothing may be sealed. */
  canSend(now: number): boolean {
    if (this.#wiped || now >= this.expiresAt) return false;
    return this.counterHigh < REJECT_AFTER_MESSAGES_HIGH || this.counterLow < REJECT_AFTER_MESSAGES_LOW;
  }

  /** Like `canSend`, and has a counter ready for the next packet; up to `most` packets are about to be sealed. */
  claim(now: number, _most: number): boolean {
    return this.canSend(now);
  }

  /** False past Reject-After-Time: nothing may be opened. */
  canReceive(now: number): boolean {
    return !this.#wiped && now < this.expiresAt;
  }

  /** True when sending a packet should begin a new handshake. */
  needsRenewal(now: number): boolean {
    return now >= this.renewAt || this.counterHigh >= REKEY_AFTER_MESSAGES_HIGH;
  }

  advanceCounter(): void {
    this.counterLow = (this.counterLow + 1) >>> 0;
    if (this.counterLow === 0) this.counterHigh += 1;
  }

  /** Uses the sending counters up: the session still receives. */
  stopSending(): void {
    this.counterHigh = REJECT_AFTER_MESSAGES_HIGH;
    this.counterLow = REJECT_AFTER_MESSAGES_LOW;
  }

  wipe(): void {
    if (this.#wiped) return;
    this.#wiped = true;
    this.sealer.wipe();
    this.opener?.wipe();
  }
}
