/** The congestion window: CUBIC (RFC 9438) after losses, HyStart++ (RFC 9406) before the first. Windows are in bytes. */

const C = 0.4;
const BETA = 0.7;
/** RFC 9438 §4.3. */
const ALPHA = (3 * (1 - BETA)) / (1 + BETA);
/** RFC 6928: ten segments. */
const INITIAL_WINDOW_SEGMENTS = 10;

/** RFC 9406 §4.3. */
const MIN_RTT_THRESHOLD_US = 4000;
const MAX_RTT_THRESHOLD_US = 16_000;
const RTT_DIVISOR = 8;
const RTT_SAMPLES = 8;
const CSS_GROWTH_DIVISOR = 4;
const CSS_ROUNDS = 5;

/** Not Infinity, which is no small integer: V8 makes an object of its own of each such number in a field. */
const NONE = 0x7fffffff;

/** What a reduction changes. */
interface CubicState {
  readonly cwnd: number;
  readonly ssthresh: number;
  readonly maximum: number;
  readonly k: number;
  readonly epochStart: number;
  readonly estimate: number;
  readonly prior: number;
}

export class Cubic {
  cwnd: number;
  /** RFC 5681 §3.1: arbitrarily high at first. */
  ssthresh: number = NONE;
  #mss: number;
  #maximum = 0;
  #epochStart = -1;
  /** Window at the start of the epoch, for the time K and for the Reno-friendly estimate. */
  #k = 0;
  #estimate = 0;
  #prior = 0;
  #remembered: CubicState | undefined = undefined;
  // HyStart++: this round's and last round's lowest RTT in whole microseconds, and the conservative phase.
  #roundEnd = 0;
  #lastRoundMin = NONE;
  #roundMin = NONE;
  #samples = 0;
  #cssBaseline = NONE;
  #cssRounds = 0;
  #inCss = false;

  constructor(mss: number) {
    this.#mss = mss;
    this.cwnd = INITIAL_WINDOW_SEGMENTS * mss;
  }

  /** Call when the segment size changes. */
  setMss(mss: number): void {
    this.#mss = mss;
    this.cwnd = Math.max(this.cwnd, 2 * mss);
  }

  get inSlowStart(): boolean {
    return this.cwnd < this.ssthresh;
  }

  /** A round trip of `rttMs` was measured by an ACK of `bytes`; `acked` and `sent` are stream offsets that delimit rounds. */
  onRtt(rttMs: number, bytes: number, acked: number, sent: number): void {
    if (!this.inSlowStart) return;
    if (acked > this.#roundEnd) {
      this.#roundEnd = sent;
      this.#lastRoundMin = this.#roundMin;
      this.#roundMin = NONE;
      this.#samples = 0;
      if (this.#inCss && ++this.#cssRounds >= CSS_ROUNDS) {
        this.ssthresh = this.cwnd;
        return;
      }
    }
    // An ACK that answers a batch stands for several, but never alone for a whole round.
    this.#samples += Math.min(Math.max(1, Math.floor(bytes / this.#mss)), RTT_SAMPLES / 2);
    this.#roundMin = Math.min(this.#roundMin, Math.round(rttMs * 1000));
    if (this.#samples < RTT_SAMPLES) return;
    if (this.#inCss) {
      if (this.#roundMin < this.#cssBaseline) this.#inCss = false;
    } else if (this.#lastRoundMin !== NONE) {
      const eighth = this.#lastRoundMin / RTT_DIVISOR;
      const threshold = Math.max(MIN_RTT_THRESHOLD_US, Math.min(eighth, MAX_RTT_THRESHOLD_US));
      if (this.#roundMin >= this.#lastRoundMin + threshold) {
        this.#inCss = true;
        this.#cssBaseline = this.#roundMin;
        this.#cssRounds = 0;
      }
    }
  }

  /** `bytes` were acknowledged while the window was what limited sending; `srtt` in milliseconds. */
  onAck(bytes: number, now: number, srtt: number): void {
    if (this.inSlowStart) {
      // RFC 9406 §4.2 without its cap of 8 segments an ACK: one ACK here may answer a whole batch.
      this.cwnd += this.#inCss ? Math.floor(bytes / CSS_GROWTH_DIVISOR) : bytes;
      return;
    }
    const mss = this.#mss;
    if (this.#epochStart < 0) {
      this.#epochStart = now;
      if (this.#maximum < this.cwnd) this.#maximum = this.cwnd;
      this.#k = Math.cbrt((this.#maximum - this.cwnd) / mss / C);
      this.#estimate = this.cwnd;
    }
    const t = (now - this.#epochStart) / 1000;
    // RFC 9438 §4.3: as fast as Reno again once the estimate has caught up with the window before the loss.
    this.#estimate += ((this.#estimate < this.#prior ? ALPHA : 1) * bytes * mss) / this.cwnd;
    const ahead = t + srtt / 1000 - this.#k;
    const target = Math.min(Math.max(C * ahead * ahead * ahead * mss + this.#maximum, this.cwnd), 1.5 * this.cwnd);
    this.cwnd = Math.max(this.cwnd + ((target - this.cwnd) * bytes) / this.cwnd, this.#estimate);
  }

  /** RFC 9438 §4.6 and §4.7: once a round trip with losses. The caller decides how `cwnd` comes down to `ssthresh`. */
  onCongestion(): void {
    this.#prior = this.cwnd;
    this.#maximum = this.cwnd < this.#maximum ? (this.cwnd * (1 + BETA)) / 2 : this.cwnd;
    this.ssthresh = Math.max(this.cwnd * BETA, 2 * this.#mss);
    this.#epochStart = -1;
    this.#inCss = false;
  }

  /** RFC 9438 §4.8, RFC 5681 §3.1: everything in flight is presumed lost; K will be 0, W_max the window where slow start ends. */
  onTimeout(): void {
    this.cwnd = this.#mss;
    this.#maximum = 0;
    this.#epochStart = -1;
    this.#roundMin = NONE;
    this.#lastRoundMin = NONE;
  }

  /** Nothing was sent for longer than a timeout: start again from the initial window (RFC 5681 §4.1). */
  onIdle(): void {
    this.cwnd = Math.min(this.cwnd, INITIAL_WINDOW_SEGMENTS * this.#mss);
    this.#epochStart = -1;
  }

  /** Call before a reduction that may turn out to be a mistake (RFC 9438 §4.9). */
  remember(): void {
    this.#remembered = {
      cwnd: this.cwnd,
      ssthresh: this.ssthresh,
      maximum: this.#maximum,
      k: this.#k,
      epochStart: this.#epochStart,
      estimate: this.#estimate,
      prior: this.#prior,
    };
  }

  /** It was one: everything is as it was, and the window no smaller than it is. */
  undo(): void {
    const past = this.#remembered;
    if (past === undefined) return;
    this.cwnd = Math.max(this.cwnd, past.cwnd);
    this.ssthresh = past.ssthresh;
    this.#maximum = past.maximum;
    this.#k = past.k;
    this.#epochStart = past.epochStart;
    this.#estimate = past.estimate;
    this.#prior = past.prior;
  }
}
