/** The times of a connection, all in monotonic milliseconds. */

const RETRANSMIT_AT = 0;
const REORDER_AT = 1;
const DELAYED_ACK_AT = 2;
const LIFE_AT = 3;
const KEEP_ALIVE_AT = 4;
const DEADLINE = 5;
const RTO_START = 6;
const PROBE_START = 7;
const LAST_SEND_AT = 8;
const LAST_RECEIVED_AT = 9;
const PROGRESS_AT = 10;
const ANSWERED_AT = 11;
const ZERO_WINDOW_SINCE = 12;
const TS_RECENT_AT = 13;
const TUNE_AT = 14;
const CHALLENGE_WINDOW = 15;
const RCV_RTT = 16;

const NEVER = Infinity;

/** They lie in one array: a number with a fraction in a field of its own is one more object, for V8 to make and the collector to move. */
export class Times {
  readonly #ms: number[] = [NEVER, NEVER, NEVER, NEVER, NEVER, NEVER, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

  /** When the retransmission timer fires. */
  get retransmitAt(): number {
    return this.#ms[RETRANSMIT_AT]!;
  }
  set retransmitAt(at: number) {
    this.#ms[RETRANSMIT_AT] = at;
  }

  /** When what is late now counts as lost (RFC 8985 §6.2 step 5). */
  get reorderAt(): number {
    return this.#ms[REORDER_AT]!;
  }
  set reorderAt(at: number) {
    this.#ms[REORDER_AT] = at;
  }

  get delayedAckAt(): number {
    return this.#ms[DELAYED_ACK_AT]!;
  }
  set delayedAckAt(at: number) {
    this.#ms[DELAYED_ACK_AT] = at;
  }

  /** When opening, or closing without progress, has taken too long. */
  get lifeAt(): number {
    return this.#ms[LIFE_AT]!;
  }
  set lifeAt(at: number) {
    this.#ms[LIFE_AT] = at;
  }

  get keepAliveAt(): number {
    return this.#ms[KEEP_ALIVE_AT]!;
  }
  set keepAliveAt(at: number) {
    this.#ms[KEEP_ALIVE_AT] = at;
  }

  /** The earliest of these: what the timer heap goes by. */
  get deadline(): number {
    return this.#ms[DEADLINE]!;
  }
  set deadline(at: number) {
    this.#ms[DEADLINE] = at;
  }

  get rtoStart(): number {
    return this.#ms[RTO_START]!;
  }
  set rtoStart(at: number) {
    this.#ms[RTO_START] = at;
  }

  get probeStart(): number {
    return this.#ms[PROBE_START]!;
  }
  set probeStart(at: number) {
    this.#ms[PROBE_START] = at;
  }

  /** When data was last sent. */
  get lastSendAt(): number {
    return this.#ms[LAST_SEND_AT]!;
  }
  set lastSendAt(at: number) {
    this.#ms[LAST_SEND_AT] = at;
  }

  get lastReceivedAt(): number {
    return this.#ms[LAST_RECEIVED_AT]!;
  }
  set lastReceivedAt(at: number) {
    this.#ms[LAST_RECEIVED_AT] = at;
  }

  /** Last time the peer acknowledged something new, or sending began. */
  get progressAt(): number {
    return this.#ms[PROGRESS_AT]!;
  }
  set progressAt(at: number) {
    this.#ms[PROGRESS_AT] = at;
  }

  /** Last time the peer acknowledged anything at all. */
  get answeredAt(): number {
    return this.#ms[ANSWERED_AT]!;
  }
  set answeredAt(at: number) {
    this.#ms[ANSWERED_AT] = at;
  }

  get zeroWindowSince(): number {
    return this.#ms[ZERO_WINDOW_SINCE]!;
  }
  set zeroWindowSince(at: number) {
    this.#ms[ZERO_WINDOW_SINCE] = at;
  }

  get tsRecentAt(): number {
    return this.#ms[TS_RECENT_AT]!;
  }
  set tsRecentAt(at: number) {
    this.#ms[TS_RECENT_AT] = at;
  }

  get tuneAt(): number {
    return this.#ms[TUNE_AT]!;
  }
  set tuneAt(at: number) {
    this.#ms[TUNE_AT] = at;
  }

  /** The round trip as a receiver sees it. */
  get rcvRtt(): number {
    return this.#ms[RCV_RTT]!;
  }
  set rcvRtt(ms: number) {
    this.#ms[RCV_RTT] = ms;
  }

  get challengeWindow(): number {
    return this.#ms[CHALLENGE_WINDOW]!;
  }
  set challengeWindow(at: number) {
    this.#ms[CHALLENGE_WINDOW] = at;
  }
}
