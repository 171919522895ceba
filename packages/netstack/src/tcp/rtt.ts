/** Round-trip time and retransmission timeout (RFC 6298), and the lowest round trip of late for RACK (RFC 8985 §6.2). */

/** RFC 6298 §2.4 says 1 s; 200 ms is what Linux and the BSDs found safe with timestamps and delayed ACKs of 40 ms. */
const MINIMUM_RTO_MS = 200;
const MAXIMUM_RTO_MS = 60_000;
/** RFC 6298 §2.1. */
const INITIAL_RTO_MS = 1000;
const RTO_AFTER_LOST_SYN_MS = 3000;
const MIN_RTT_WINDOW_S = 10;

/** No round trip was measured: as high as small integers go. */
const NONE = 0x7fffffff;

/** Times are kept in whole microseconds: of any number that is no small integer V8 makes an object of its own. */
export class RttEstimator {
  /** The timeout in force in milliseconds, back-off included. */
  rto: number = INITIAL_RTO_MS;
  #base = INITIAL_RTO_MS;
  #backoff = 0;
  #srtt = 0;
  #rttvar = 0;
  #currentMin = NONE;
  #previousMin = NONE;
  /** When the window of the current minimum ends, in whole seconds. */
  #windowEnd = 0;

  get backoff(): number {
    return this.#backoff;
  }

  /** The smoothed round trip in milliseconds; 0 before the first sample. */
  get srtt(): number {
    return this.#srtt / 1000;
  }

  /** The lowest round trip of the last 10 to 20 s; Infinity before the first sample. */
  get minimum(): number {
    const minimum = Math.min(this.#currentMin, this.#previousMin);
    return minimum === NONE ? Infinity : minimum / 1000;
  }

  /** Takes a measured round trip in milliseconds, never one of a retransmission (Karn; RFC 6298 §3). */
  sample(rttMs: number, now: number): void {
    // Rounded down, so that nothing that took as long seems shorter than the minimum.
    const rtt = Math.floor(Math.min(rttMs, MAXIMUM_RTO_MS) * 1000);
    if (this.#srtt === 0) {
      this.#srtt = Math.max(rtt, 1);
      this.#rttvar = rtt >> 1;
    } else {
      this.#rttvar += (Math.abs(this.#srtt - rtt) - this.#rttvar) >> 2;
      this.#srtt = Math.max(this.#srtt + ((rtt - this.#srtt) >> 3), 1);
    }
    const base = Math.ceil((this.#srtt + Math.max(1000, 4 * this.#rttvar)) / 1000);
    this.#base = Math.max(base, MINIMUM_RTO_MS);
    this.#update();
    if (now > this.#windowEnd * 1000) {
      this.#previousMin = this.#currentMin;
      this.#currentMin = rtt;
      this.#windowEnd = Math.ceil(now / 1000) + MIN_RTT_WINDOW_S;
    } else if (rtt < this.#currentMin) {
      this.#currentMin = rtt;
    }
  }

  /** The SYN had to be repeated, so nothing was measured: be careful with the first data (RFC 6298 §5.7). */
  startOver(): void {
    if (this.#srtt > 0) return;
    this.#base = RTO_AFTER_LOST_SYN_MS;
    this.#update();
  }

  /** RFC 6298 §5.5. */
  backOff(): void {
    if (this.#backoff < 16) this.#backoff++;
    this.#update();
  }

  /** New data was acknowledged: the path works again. */
  recovered(): void {
    if (this.#backoff === 0) return;
    this.#backoff = 0;
    this.#update();
  }

  #update(): void {
    this.rto = Math.min(this.#base * 2 ** this.#backoff, MAXIMUM_RTO_MS);
  }
}
