/** Round-trip time and retransmission timeout (RFC 6298), and the lowest round trip of late for RACK (RFC 8985 §6.2). */

/** RFC 6298 §2.4 says 1 s; 200 ms is what Linux and the BSDs found safe with timestamps and delayed ACKs of 40 ms. */
const MINIMUM_RTO_MS = 200;
const MAXIMUM_RTO_MS = 60_000;
/** RFC 6298 §2.1. */
const INITIAL_RTO_MS = 1000;
const RTO_AFTER_LOST_SYN_MS = 3000;
const MIN_RTT_WINDOW_MS = 10_000;

export class RttEstimator {
  /** Milliseconds; 0 before the first sample. */
  srtt = 0;
  rttvar = 0;
  /** The timeout in force, back-off included. */
  rto: number = INITIAL_RTO_MS;
  #base = INITIAL_RTO_MS;
  #backoff = 0;
  #currentMin = Infinity;
  #previousMin = Infinity;
  #windowStart = -Infinity;

  get backoff(): number {
    return this.#backoff;
  }

  /** The lowest round trip of the last 10 to 20 s; Infinity before the first sample. */
  get minimum(): number {
    return Math.min(this.#currentMin, this.#previousMin);
  }

  /** Takes a measured round trip, never one of a retransmission (Karn; RFC 6298 §3). */
  sample(rtt: number, now: number): void {
    if (this.srtt === 0) {
      this.srtt = Math.max(rtt, 0.001);
      this.rttvar = rtt / 2;
    } else {
      this.rttvar += (Math.abs(this.srtt - rtt) - this.rttvar) / 4;
      this.srtt = Math.max(this.srtt + (rtt - this.srtt) / 8, 0.001);
    }
    this.#base = Math.max(this.srtt + Math.max(1, 4 * this.rttvar), MINIMUM_RTO_MS);
    this.#update();
    if (now - this.#windowStart > MIN_RTT_WINDOW_MS) {
      this.#previousMin = this.#currentMin;
      this.#currentMin = rtt;
      this.#windowStart = now;
    } else if (rtt < this.#currentMin) {
      this.#currentMin = rtt;
    }
  }

  /** The SYN had to be repeated, so nothing was measured: be careful with the first data (RFC 6298 §5.7). */
  startOver(): void {
    if (this.srtt > 0) return;
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
