/**
 * What is in flight: one record a segment, in sequence order, with when it was last sent and what became of it.
 * Selective acknowledgments (RFC 2018, RFC 6675) and RACK's loss detection by time (RFC 8985 §6.2) work on these records.
 */

const SACKED = 1;
const LOST = 2;
const RETRANSMITTED = 4;
/** A record takes three numbers: the offset at which its segment ends, when it was last sent, and its flags. */
const RECORD = 3;
const SENT_AT = 1;
const FLAGS = 2;
/** Enough for a short request, or a FIN. */
const FIRST_CAPACITY = 2;
const SECOND_CAPACITY = 16;
/** RFC 8985 §6.2 step 4. */
const DUPLICATE_THRESHOLD = 3;

export class Scoreboard {
  /** A ring of `#capacity` records, a power of two. An array, as typed arrays of this size are several times as costly to make. */
  #records: number[] = [];
  #capacity = 0;
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
    if (this.#count === this.#capacity) this.#grow();
    const at = this.#recordAt(this.#count++);
    this.#records[at] = end;
    this.#records[at + SENT_AT] = now;
    this.#records[at + FLAGS] = 0;
  }

  /** Everything below `una` arrived. */
  acknowledge(una: number, now: number, minimumRtt: number): void {
    this.deliveredBytes = 0;
    this.sampleRtt = Infinity;
    const records = this.#records;
    while (this.#count > 0) {
      const at = this.#head * RECORD;
      const end = records[at]!;
      const flags = records[at + FLAGS]!;
      const reached = Math.min(end, una);
      const bytes = reached - this.#una;
      if (bytes <= 0) break;
      if ((flags & SACKED) !== 0) this.sackedBytes -= bytes;
      else this.deliveredBytes += bytes;
      if ((flags & LOST) !== 0) this.lostBytes -= bytes;
      this.#una = reached;
      if (reached < end) break;
      if ((flags & SACKED) !== 0) this.sackedSegments--;
      else {
        // RFC 8985 §6.2 step 3.
        if (end < this.highestSacked && (flags & RETRANSMITTED) === 0) this.reorderingSeen = true;
        this.#arrived(at, now, minimumRtt);
      }
      if ((flags & RETRANSMITTED) !== 0) this.#everRetransmitted--;
      this.#head = (this.#head + 1) & (this.#capacity - 1);
      this.#count--;
      if (this.#lostHint > 0) this.#lostHint--;
    }
    if (una > this.#una) this.#una = una;
    if (this.#count === 0 && this.#capacity > SECOND_CAPACITY) this.#release();
  }

  /** The segments wholly within a SACK block arrived. */
  sack(start: number, end: number, now: number, minimumRtt: number): void {
    const records = this.#records;
    for (let n = this.#firstStartingAt(start); n < this.#count; n++) {
      const at = this.#recordAt(n);
      const endsAt = records[at]!;
      if (endsAt > end) break;
      const flags = records[at + FLAGS]!;
      if ((flags & SACKED) !== 0) continue;
      const bytes = endsAt - this.startOf(n);
      if ((flags & LOST) !== 0) this.lostBytes -= bytes;
      this.sackedBytes += bytes;
      this.sackedSegments++;
      this.deliveredBytes += bytes;
      if (endsAt < this.highestSacked && (flags & RETRANSMITTED) === 0) this.reorderingSeen = true;
      if (endsAt > this.highestSacked) this.highestSacked = endsAt;
      this.#arrived(at, now, minimumRtt);
      records[at + FLAGS] = (flags & ~LOST) | SACKED;
    }
  }

  /**
   * Marks what RACK holds for lost (RFC 8985 §6.2 step 5); `window` is the reordering window in ms.
   * Returns how long to wait until a segment that is late now counts as lost, or 0.
   */
  detectLoss(now: number, window: number): number {
    // Without holes and retransmissions nothing was sent before what arrived last.
    if (this.sackedSegments === 0 && this.#everRetransmitted === 0) return 0;
    const records = this.#records;
    let wait = 0;
    for (let n = 0; n < this.#count; n++) {
      const at = this.#recordAt(n);
      if ((records[at + FLAGS]! & (SACKED | LOST)) !== 0) continue;
      const end = records[at]!;
      const sentAt = records[at + SENT_AT]!;
      if (sentAt > this.rackSentAt || (sentAt === this.rackSentAt && end >= this.rackEnd)) {
        // Beyond the last SACKed segment everything was sent later still, but for what was sent twice.
        if (end > this.highestSacked && this.#everRetransmitted === 0) break;
        continue;
      }
      const left = sentAt + this.rackRtt + window - now;
      if (left <= 0) this.#markLost(n);
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
    if (this.#count > 0 && (this.#flagsOf(0) & (SACKED | LOST)) === 0) this.#markLost(0);
  }

  /** Marks everything that was not selectively acknowledged lost (RFC 6298 §5.4, RFC 6675 §5.1). */
  markAllLost(): void {
    for (let n = 0; n < this.#count; n++) {
      if ((this.#flagsOf(n) & (SACKED | LOST)) === 0) this.#markLost(n);
    }
  }

  /** Takes every LOST mark back: the timeout was spurious. */
  unmarkLost(): void {
    this.#unmark(LOST);
    this.lostBytes = 0;
  }

  /**
   * A sign of reneging: what is next in order was reported, and still is not acknowledged (RFC 2018 §8). Only then are reports
   * forgotten, as in Linux, although that section says at every timeout: what arrived is not sent again, and whatever a receiver
   * dropped comes to be next in order, where it costs one more timeout.
   */
  get isHeadSacked(): boolean {
    return this.#count > 0 && (this.#flagsOf(0) & SACKED) !== 0;
  }

  /** RFC 2018 §8: the receiver may have dropped what it had acknowledged selectively. */
  forgetSacks(): void {
    this.#unmark(SACKED);
    this.sackedBytes = 0;
    this.sackedSegments = 0;
    this.highestSacked = 0;
  }

  /** The number of the first lost segment, or -1. */
  nextLost(): number {
    if (this.lostBytes === 0) return -1;
    for (let n = this.#lostHint; n < this.#count; n++) {
      if ((this.#flagsOf(n) & LOST) !== 0) {
        this.#lostHint = n;
        return n;
      }
    }
    return -1;
  }

  /** The number of the last segment that is not known to have arrived, or -1. */
  lastMissing(): number {
    for (let n = this.#count - 1; n >= 0; n--) if ((this.#flagsOf(n) & SACKED) === 0) return n;
    return -1;
  }

  startOf(n: number): number {
    return n === 0 ? this.#una : this.endOf(n - 1);
  }

  endOf(n: number): number {
    return this.#records[this.#recordAt(n)]!;
  }

  /** Segment `n` was sent again. */
  retransmitted(n: number, now: number): void {
    const at = this.#recordAt(n);
    const flags = this.#records[at + FLAGS]!;
    if ((flags & LOST) !== 0) this.lostBytes -= this.endOf(n) - this.startOf(n);
    if ((flags & RETRANSMITTED) === 0) this.#everRetransmitted++;
    this.#records[at + FLAGS] = (flags & ~LOST) | RETRANSMITTED;
    this.#records[at + SENT_AT] = now;
  }

  /** Cuts records down to `mss` bytes each: the path takes less than it did. */
  resegment(mss: number): void {
    const records: { readonly end: number; readonly sentAt: number; readonly flags: number }[] = [];
    let start = this.#una;
    for (let n = 0; n < this.#count; n++) {
      const at = this.#recordAt(n);
      const end = this.#records[at]!;
      const record = { sentAt: this.#records[at + SENT_AT]!, flags: this.#records[at + FLAGS]! };
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
      this.#records[this.#recordAt(this.#count - 1) + FLAGS] = flags;
      if ((flags & SACKED) !== 0) this.sackedSegments++;
      if ((flags & RETRANSMITTED) !== 0) this.#everRetransmitted++;
    }
  }

  /** Where record `n` lies, counted from the oldest. */
  #recordAt(n: number): number {
    return ((this.#head + n) & (this.#capacity - 1)) * RECORD;
  }

  #flagsOf(n: number): number {
    return this.#records[this.#recordAt(n) + FLAGS]!;
  }

  #unmark(flag: number): void {
    for (let n = 0; n < this.#count; n++) this.#records[this.#recordAt(n) + FLAGS] = this.#flagsOf(n) & ~flag;
  }

  #markLost(n: number): void {
    this.#records[this.#recordAt(n) + FLAGS] = this.#flagsOf(n) | LOST;
    this.lostBytes += this.endOf(n) - this.startOf(n);
    if (n < this.#lostHint) this.#lostHint = n;
  }

  /** RFC 8985 §6.2 steps 1 and 2. */
  #arrived(at: number, now: number, minimumRtt: number): void {
    const end = this.#records[at]!;
    const sentAt = this.#records[at + SENT_AT]!;
    const flags = this.#records[at + FLAGS]!;
    const rtt = now - sentAt;
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

  /** The number of the first record that starts at or after `start`. */
  #firstStartingAt(start: number): number {
    if (start <= this.#una) return 0;
    let low = 0;
    let high = this.#count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.endOf(middle) < start) low = middle + 1;
      else high = middle;
    }
    return low === this.#count ? low : low + 1;
  }

  /** Nothing is in flight: an idle connection holds few records. */
  #release(): void {
    this.#records = [];
    this.#capacity = 0;
    this.#head = 0;
  }

  #grow(): void {
    const old = this.#records;
    const capacity = this.#capacity === 0 ? FIRST_CAPACITY : Math.max(this.#capacity * 2, SECOND_CAPACITY);
    // oxlint-disable-next-line unicorn/no-new-array -- made at once, at its full length
    const grown = new Array<number>(capacity * RECORD).fill(0);
    const first = this.#head * RECORD;
    for (let i = 0; i < old.length; i++) grown[i] = old[(first + i) % old.length]!;
    this.#records = grown;
    this.#capacity = capacity;
    this.#head = 0;
  }
}
