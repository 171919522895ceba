/**
 * The device's clock, in milliseconds: the caller's, made monotonic (time that runs backwards stands still), and moved on by
 * sleeps of the host that the caller's clock did not see but the wall clock did.
 */

/** Milliseconds that the wall clock may gain on the monotonic one before we take it that the host has slept. */
const SLEEP_TOLERANCE = 1_000;
/** Milliseconds between looks at the wall clock while packets are sent; only a tick sees it. */
const WALL_CLOCK_INTERVAL = 1_000;
/** Milliseconds: more than adding and subtracting a clock offset can lose. */
const ROUNDING = 0.001;

export class DeviceClock {
  /** Added to the caller's clock. */
  #offset = 0;
  #last = -Infinity;
  /** Wall clock less our clock, at the last tick. */
  #wallOffset: number | undefined;
  #tickedAt = -Infinity;
  #wallClockDue = false;

  /** Our time at the caller's `now`. */
  read(now: number): number {
    const at = now + this.#offset;
    if (at >= this.#last) {
      this.#last = at;
      return at;
    }
    this.#offset += this.#last - at;
    return this.#last;
  }

  /** As `read`, with the wall clock: lets our clock catch up with a sleep. */
  tick(now: number, unixMs: number): number {
    const at = this.read(now);
    const slept = unixMs - at - (this.#wallOffset ?? Infinity);
    if (slept > SLEEP_TOLERANCE) {
      this.#offset += slept;
      this.#last = at + slept;
    } else {
      this.#wallOffset = unixMs - at;
    }
    this.#wallClockDue = false;
    this.#tickedAt = this.#last;
    return this.#last;
  }

  /** Call when packets are sent: a look at the wall clock is due again some time after the last one. */
  packetsSent(at: number): void {
    this.#wallClockDue ||= at - this.#tickedAt >= WALL_CLOCK_INTERVAL;
  }

  get wallClockDue(): boolean {
    return this.#wallClockDue;
  }

  /** Our time at an instant of the caller's clock; it does not move ours. */
  timeAt(callers: number): number {
    return callers + this.#offset;
  }

  /** The caller's time now, as far as we know it. */
  callersNow(): number {
    return this.callersTime(this.#last);
  }

  /** The inverse of `read`, rounded up: a tick at this time finds the deadline `at` due. */
  callersTime(at: number): number {
    const time = at - this.#offset;
    return time + this.#offset < at ? time + ROUNDING : time;
  }
}
