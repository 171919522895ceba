/**
 * What is in flight: one record a segment, in sequence order, with when it was last sent and what became of it.
 * Selective acknowledgments (RFC 2018, RFC 6675) and RACK's loss detection by time (RFC 8985 §6.2) work on these records.
 */

const SACKED = 1;
const LOST = 2;
const RETRANSMITTED = 4;
const INITIAL_CAPACITY = 16;
const NO_OFFSETS = new Float64Array(0);
const NO_FLAGS = new Uint8Array(0);
/** RFC 8985 §6.2 step 4. */
const DUPLICATE_THRESHOLD = 3;

export class Scoreboard {
  /** Records in a ring; sequence offsets of each end. */
  #ends = NO_OFFSETS;
  #sentAt = NO_OFFSETS;
  #flags = NO_FLAGS;
  #head = 0;
  #count = 0;
  /** Everything below is acknowledged. */
  #una = 0;
  /** Records that may be LOST begin here, counted from the head. */
  #lostHint = 0;
  #everRetransmitted = 0;
  sackedBytes = 0;
  /** Lost and not yet sent again. */
  lostBytes = 0;
  sackedSegments = 0;
  highestSacked = 0;

  /** RACK.xmit_ts, RACK.end_seq, RACK.rtt: the most recently sent segment known to have arrived. */
  rackSentAt: number = -Infinity;
  rackEnd = 0;
  rackRtt = 0;
  reorderingSeen = false;

  /** What the last call of `acknowledge` and the `sack` calls since found. */
  deliveredBytes = 0;
  /** Lowest round trip among segments sent once; Infinity when there was none. */
  sampleRtt: number = Infinity;

  get count(): number {
    return this.#count;
  }

  get una(): number {
    return this.#una;
  }

  /** Sets where sequence offsets start. */
  reset(una: number): void {
    this.#una = una;
  }

  /** A new segment that ends at `end` was sent. */
  push(end: number, now: number): void {
    if (this.#count === this.#ends.length) this.#grow();
    const i = (this.#head + this.#count++) & (this.#ends.length - 1);
    this.#ends[i] = end;
    this.#sentAt[i] = now;
    this.#flags[i] = 0;
  }

  /** Everything below `una` arrived. */
  acknowledge(una: number, now: number, minimumRtt: number): void {
    this.deliveredBytes = 0;
    this.sampleRtt = Infinity;
    const mask = this.#ends.length - 1;
    while (this.#count > 0) {
      const i = this.#head & mask;
      const end = this.#ends[i]!;
      const flags = this.#flags[i]!;
      const reached = Math.min(end, una);
      const bytes = reached - this.#una;
      if (bytes <= 0) break;
      if ((flags & SACKED) !== 0) this.sackedBytes -= bytes;
      else this.deliveredBytes += bytes;
      if ((flags & LOST) !== 0) this.lostBytes -= bytes;
      this.#una = reached;
      if (reached < end) break;
      if ((flags & SACKED) !== 0) this.sackedSegments--;
      else this.#arrived(i, now, minimumRtt);
      if ((flags & RETRANSMITTED) !== 0) this.#everRetransmitted--;
      this.#head = (this.#head + 1) & mask;
      this.#count--;
      if (this.#lostHint > 0) this.#lostHint--;
    }
    if (una > this.#una) this.#una = una;
    if (this.#count === 0 && this.#ends.length > INITIAL_CAPACITY) this.#shrink();
  }

  /** The segments wholly within a SACK block arrived. */
  sack(start: number, end: number, now: number, minimumRtt: number): void {
    const mask = this.#ends.length - 1;
    for (let n = this.#firstStartingAt(start); n < this.#count; n++) {
      const i = (this.#head + n) & mask;
      if (this.#ends[i]! > end) break;
      const flags = this.#flags[i]!;
      if ((flags & SACKED) !== 0) continue;
      const bytes = this.#ends[i]! - this.#startOf(n);
      if ((flags & LOST) !== 0) this.lostBytes -= bytes;
      this.sackedBytes += bytes;
      this.sackedSegments++;
      this.deliveredBytes += bytes;
      if (this.#ends[i]! < this.highestSacked && (flags & RETRANSMITTED) === 0) this.reorderingSeen = true;
      if (this.#ends[i]! > this.highestSacked) this.highestSacked = this.#ends[i]!;
      this.#arrived(i, now, minimumRtt);
      this.#flags[i] = (flags & ~LOST) | SACKED;
    }
  }

  /**
   * Marks what RACK holds for lost (RFC 8985 §6.2 step 5); `window` is the reordering window in ms.
   * Returns how long to wait until a segment that is late now counts as lost, or 0.
   */
  detectLoss(now: number, window: number): number {
    // Without holes and retransmissions nothing was sent before what arrived last.
    if (this.sackedSegments === 0 && this.#everRetransmitted === 0) return 0;
    const mask = this.#ends.length - 1;
    let wait = 0;
    for (let n = 0; n < this.#count; n++) {
      const i = (this.#head + n) & mask;
      const flags = this.#flags[i]!;
      if ((flags & (SACKED | LOST)) !== 0) continue;
      const sentAt = this.#sentAt[i]!;
      if (sentAt > this.rackSentAt || (sentAt === this.rackSentAt && this.#ends[i]! >= this.rackEnd)) {
        // Beyond the last SACKed segment everything was sent later still, but for what was sent twice.
        if (this.#ends[i]! > this.highestSacked && this.#everRetransmitted === 0) break;
        continue;
      }
      const left = sentAt + this.rackRtt + window - now;
      if (left <= 0) this.#markLost(n, i);
      else if (left > wait) wait = left;
    }
    return wait;
  }

  /** RFC 8985 §6.2 step 4: how much later than its successors a segment may come. */
  reorderingWindow(multiplier: number, minimumRtt: number, srtt: number, inRecovery: boolean): number {
    if (!this.reorderingSeen && (inRecovery || this.sackedSegments >= DUPLICATE_THRESHOLD)) return 0;
    return Math.min((multiplier * Math.min(minimumRtt, srtt)) / 4, srtt);
  }

  /** Marks the oldest segment lost: what a peer without SACK can tell us (RFC 6582). */
  markHeadLost(): void {
    if (this.#count > 0 && (this.#flags[this.#head]! & (SACKED | LOST)) === 0) this.#markLost(0, this.#head);
  }

  /** Marks everything that was not selectively acknowledged lost (RFC 8985 §6.3). */
  markAllLost(): void {
    const mask = this.#ends.length - 1;
    for (let n = 0; n < this.#count; n++) {
      const i = (this.#head + n) & mask;
      if ((this.#flags[i]! & (SACKED | LOST)) === 0) this.#markLost(n, i);
    }
  }

  /** Takes every LOST mark back: the timeout was spurious. */
  unmarkLost(): void {
    const mask = this.#ends.length - 1;
    for (let n = 0; n < this.#count; n++) {
      const i = (this.#head + n) & mask;
      this.#flags[i] = this.#flags[i]! & ~LOST;
    }
    this.lostBytes = 0;
  }

  /** A sign of reneging: what is next in order was reported, and still is not acknowledged (RFC 2018 §8). */
  get isHeadSacked(): boolean {
    return this.#count > 0 && (this.#flags[this.#head]! & SACKED) !== 0;
  }

  /** RFC 2018 §8: the receiver may have dropped what it had acknowledged selectively. */
  forgetSacks(): void {
    const mask = this.#ends.length - 1;
    for (let n = 0; n < this.#count; n++) {
      const i = (this.#head + n) & mask;
      this.#flags[i] = this.#flags[i]! & ~SACKED;
    }
    this.sackedBytes = 0;
    this.sackedSegments = 0;
    this.highestSacked = 0;
  }

  /** The number of the first lost segment, or -1. */
  nextLost(): number {
    if (this.lostBytes === 0) return -1;
    const mask = this.#ends.length - 1;
    for (let n = this.#lostHint; n < this.#count; n++) {
      if ((this.#flags[(this.#head + n) & mask]! & LOST) !== 0) {
        this.#lostHint = n;
        return n;
      }
    }
    return -1;
  }

  startOf(n: number): number {
    return this.#startOf(n);
  }

  endOf(n: number): number {
    return this.#ends[(this.#head + n) & (this.#ends.length - 1)]!;
  }

  /** Segment `n` was sent again. */
  retransmitted(n: number, now: number): void {
    const i = (this.#head + n) & (this.#ends.length - 1);
    const flags = this.#flags[i]!;
    if ((flags & LOST) !== 0) this.lostBytes -= this.#ends[i]! - this.#startOf(n);
    if ((flags & RETRANSMITTED) === 0) this.#everRetransmitted++;
    this.#flags[i] = (flags & ~LOST) | RETRANSMITTED;
    this.#sentAt[i] = now;
  }

  /** Cuts records down to `mss` bytes each: the path takes less than it did. */
  resegment(mss: number): void {
    const records: { readonly end: number; readonly sentAt: number; readonly flags: number }[] = [];
    let start = this.#una;
    for (let n = 0; n < this.#count; n++) {
      const i = (this.#head + n) & (this.#ends.length - 1);
      const end = this.#ends[i]!;
      const record = { sentAt: this.#sentAt[i]!, flags: this.#flags[i]! };
      for (; end - start > mss; start += mss) records.push({ ...record, end: start + mss });
      records.push({ ...record, end });
      start = end;
    }
    this.#head = 0;
    this.#count = 0;
    this.#lostHint = 0;
    this.sackedSegments = 0;
    this.#everRetransmitted = 0;
    for (const { end, sentAt, flags } of records) {
      this.push(end, sentAt);
      this.#flags[this.#count - 1] = flags;
      if ((flags & SACKED) !== 0) this.sackedSegments++;
      if ((flags & RETRANSMITTED) !== 0) this.#everRetransmitted++;
    }
  }

  #markLost(n: number, i: number): void {
    this.#flags[i] = this.#flags[i]! | LOST;
    this.lostBytes += this.#ends[i]! - this.#startOf(n);
    if (n < this.#lostHint) this.#lostHint = n;
  }

  /** RFC 8985 §6.2 steps 1 and 2. */
  #arrived(i: number, now: number, minimumRtt: number): void {
    const sentAt = this.#sentAt[i]!;
    const end = this.#ends[i]!;
    const rtt = now - sentAt;
    const flags = this.#flags[i]!;
    if ((flags & RETRANSMITTED) === 0) {
      // What was held for lost may have arrived long ago, and only its acknowledgment have been lost.
      if ((flags & LOST) === 0 && rtt < this.sampleRtt) this.sampleRtt = rtt;
    } else if (rtt < minimumRtt) {
      // Too soon to be the answer to the retransmission.
      return;
    }
    if (sentAt > this.rackSentAt || (sentAt === this.rackSentAt && end > this.rackEnd)) {
      this.rackSentAt = sentAt;
      this.rackEnd = end;
      this.rackRtt = rtt;
    }
  }

  #startOf(n: number): number {
    return n === 0 ? this.#una : this.#ends[(this.#head + n - 1) & (this.#ends.length - 1)]!;
  }

  /** The number of the first record that starts at or after `start`. */
  #firstStartingAt(start: number): number {
    if (start <= this.#una) return 0;
    const mask = this.#ends.length - 1;
    let low = 0;
    let high = this.#count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#ends[(this.#head + middle) & mask]! < start) low = middle + 1;
      else high = middle;
    }
    return low === this.#count ? low : low + 1;
  }

  /** Nothing is in flight: an idle connection holds no records. */
  #shrink(): void {
    this.#ends = NO_OFFSETS;
    this.#sentAt = NO_OFFSETS;
    this.#flags = NO_FLAGS;
    this.#head = 0;
  }

  #grow(): void {
    const size = this.#ends.length;
    const grown = Math.max(size * 2, INITIAL_CAPACITY);
    const ends = new Float64Array(grown);
    const sentAt = new Float64Array(grown);
    const flags = new Uint8Array(grown);
    for (let n = 0; n < this.#count; n++) {
      const i = (this.#head + n) & (size - 1);
      ends[n] = this.#ends[i]!;
      sentAt[n] = this.#sentAt[i]!;
      flags[n] = this.#flags[i]!;
    }
    this.#ends = ends;
    this.#sentAt = sentAt;
    this.#flags = flags;
    this.#head = 0;
  }
}
