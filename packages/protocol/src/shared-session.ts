/**
 * A session that several lanes send on. What they share lies in memory that all their threads see, outside of the JavaScript heap:
 * the sending counter, whether the session is confirmed and whether it has ended, and for a moment the keys. Counters are handed out in ranges by one atomic
 * addition, so no two lanes ever get the same one; the replay window is not here, because only one lane opens what comes in.
 */
import { REJECT_AFTER_MESSAGES_HIGH, REJECT_AFTER_MESSAGES_LOW, REKEY_AFTER_MESSAGES_HIGH } from './constants.ts';
import { secretBytes, wipe } from './crypto.ts';
import type { TransportKeys } from './handshake.ts';
import { Keypair, type KeypairInput } from './keypair.ts';

/** Bytes: the counter, then 32-bit words. */
const COUNTER = 0;
const ENDED = 2;
const TAKERS = 3;
const CONFIRMED = 4;
const SEND_KEY = 5;
const RECEIVE_KEY = 13;
const KEY_WORDS = 8;
/** A multiple of the counter's size. */
const BYTES = 8 * Math.ceil((RECEIVE_KEY + KEY_WORDS) / 2);

const FIRST_REFUSED = (BigInt(REJECT_AFTER_MESSAGES_HIGH) << 32n) | BigInt(REJECT_AFTER_MESSAGES_LOW);
/** Where the counter's upper half lies among the 32-bit words. */
const UPPER = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1 ? 1 : 0;
/** Refused additions move the counter too: far fewer than the 2^13 between the limit and where it would wrap. */
const LARGEST_RANGE = 64;

export class SharedSession {
  readonly buffer: SharedArrayBuffer;
  readonly #counter: BigUint64Array<SharedArrayBuffer>;
  readonly #words: Int32Array<SharedArrayBuffer>;

  constructor(buffer: SharedArrayBuffer) {
    this.buffer = buffer;
    this.#counter = new BigUint64Array(buffer, COUNTER, 1);
    this.#words = new Int32Array(buffer);
  }

  /** Copies the keys, for `takers` other lanes to take. */
  static create(keys: TransportKeys, takers: number): SharedSession {
    const session = new SharedSession(new SharedArrayBuffer(BYTES));
    const words = session.#words;
    for (const [at, key] of [
      [SEND_KEY, keys.send],
      [RECEIVE_KEY, keys.receive],
    ] as const) {
      new Uint8Array(session.buffer, 4 * at, 4 * KEY_WORDS).set(key);
    }
    Atomics.store(words, TAKERS, takers);
    return session;
  }

  get ended(): boolean {
    return Atomics.load(this.#words, ENDED) !== 0;
  }

  get confirmed(): boolean {
    return Atomics.load(this.#words, CONFIRMED) !== 0;
  }

  confirm(): void {
    Atomics.store(this.#words, CONFIRMED, 1);
  }

  /** Copies of the keys, to be wiped by the caller; undefined when the session has ended. The last lane to take them erases them here. */
  takeKeys(): TransportKeys | undefined {
    const keys = { send: this.#copy(SEND_KEY), receive: this.#copy(RECEIVE_KEY) };
    if (Atomics.sub(this.#words, TAKERS, 1) === 1) this.#erase();
    // Asked last: whoever ends the session says so before it erases the keys.
    if (!this.ended) return keys;
    wipe(keys.send, keys.receive);
    return undefined;
  }

  /** Ends the session for all lanes at once and erases the keys. */
  end(): void {
    Atomics.store(this.#words, ENDED, 1);
    this.#erase();
  }

  /** Reserves `count` counters for the caller alone; returns the first, or undefined past Reject-After-Messages. */
  reserve(count: number): bigint | undefined {
    const first = Atomics.add(this.#counter, 0, BigInt(count));
    return first + BigInt(count) <= FIRST_REFUSED ? first : undefined;
  }

  /** Lets no counter be reserved any more. */
  exhaust(): void {
    Atomics.store(this.#counter, 0, FIRST_REFUSED);
  }

  /** Whether the counter has come to Rekey-After-Messages. */
  get isLong(): boolean {
    return Atomics.load(this.#words, UPPER) >>> 0 >= REKEY_AFTER_MESSAGES_HIGH;
  }

  #copy(at: number): Uint8Array {
    const bytes = secretBytes(4 * KEY_WORDS);
    const copy = new Int32Array(bytes.buffer);
    for (let i = 0; i < KEY_WORDS; i++) copy[i] = Atomics.load(this.#words, at + i);
    return bytes;
  }

  #erase(): void {
    for (let i = SEND_KEY; i < RECEIVE_KEY + KEY_WORDS; i++) Atomics.store(this.#words, i, 0);
  }
}

export interface SharedKeypairInput extends KeypairInput {
  readonly session: SharedSession;
  /** Called once, when this lane ends the session. */
  readonly onEnd?: () => void;
}

/** One lane's half of a shared session: sealer and opener of its own, counters from the common store. */
export class SharedKeypair extends Keypair {
  readonly session: SharedSession;
  /** How many counters of the last range are left, and when it was reserved. */
  #left = 0;
  #reservedAt = -Infinity;
  #exhausted = false;
  #onEnd: (() => void) | undefined;

  constructor(input: SharedKeypairInput) {
    super(input);
    this.session = input.session;
    this.#onEnd = input.onEnd;
  }

  override get isConfirmed(): boolean {
    return this.session.confirmed;
  }

  override confirm(): void {
    if (super.isConfirmed) return;
    super.confirm();
    this.session.confirm();
  }

  override canSend(now: number): boolean {
    return !this.#exhausted && !this.session.ended && super.canSend(now);
  }

  override canReceive(now: number): boolean {
    return !this.session.ended && super.canReceive(now);
  }

  /**
   * A range belongs to the packets of one moment: what is left of it later is given up, because counters that wait while other lanes
   * go on would come too late for the peer's replay window.
   */
  override claim(now: number, most: number): boolean {
    if (!this.canSend(now)) return false;
    if (this.#left > 0 && this.#reservedAt === now) return true;
    const count = Math.min(most, LARGEST_RANGE);
    const first = this.session.reserve(count);
    if (first === undefined) {
      this.#exhausted = true;
      this.#left = 0;
      return false;
    }
    this.counterLow = Number(first & 0xffff_ffffn);
    this.counterHigh = Number(first >> 32n);
    this.#left = count;
    this.#reservedAt = now;
    return true;
  }

  override needsRenewal(now: number): boolean {
    return super.needsRenewal(now) || this.session.isLong;
  }

  override advanceCounter(): void {
    // Before the datagram of a counter that nobody claimed leaves.
    if (this.#left === 0) throw new Error('a packet was sealed without a claimed counter');
    this.#left -= 1;
    super.advanceCounter();
  }

  override stopSending(): void {
    this.session.exhaust();
    this.#exhausted = true;
    this.#left = 0;
    super.stopSending();
  }

  /** Erases this lane's keys and ends the session for all. */
  override wipe(): void {
    this.session.end();
    super.wipe();
    this.#onEnd?.();
    this.#onEnd = undefined;
  }
}
