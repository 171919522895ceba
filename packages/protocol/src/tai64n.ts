/**
 * TAI64N timestamps (paper section 5.1; cr.yp.to/libtai/tai64.html): 8 bytes of seconds, 4 of nanoseconds, big endian,
 * so that comparing bytes compares times. Nanoseconds are rounded down to 2^24 (16.8 ms) to hide the clock.
 */
export type Timestamp = Uint8Array;

export const TIMESTAMP_LENGTH = 12;

const TAI_EPOCH_HIGH = 0x4000_0000;
/** Ten leap seconds at the Unix epoch. */
const TAI_EPOCH_LOW = 10;
const WHITENER = 2 ** 24;

/** The whitened timestamp of a Unix time in milliseconds; times before 1970 count as 1970. */
export function timestampAt(unixMs: number): Timestamp {
  const ms = Number.isFinite(unixMs) ? Math.max(0, Math.floor(unixMs)) : 0;
  const nanos = (ms % 1000) * 1_000_000;
  return encode(Math.floor(ms / 1000) + TAI_EPOCH_LOW, nanos - (nanos % WHITENER));
}

/** The whitened timestamp at `unixMs`, or the next one after `floor` if that is later: strictly after `floor` always. */
export function timestampAfter(floor: Timestamp | undefined, unixMs: number): Timestamp {
  const candidate = timestampAt(unixMs);
  if (floor === undefined || isAfter(candidate, floor)) return candidate;
  const view = new DataView(floor.buffer, floor.byteOffset, TIMESTAMP_LENGTH);
  const seconds = (view.getUint32(0) - TAI_EPOCH_HIGH) * 2 ** 32 + view.getUint32(4);
  const nanos = view.getUint32(8);
  const next = nanos - (nanos % WHITENER) + WHITENER;
  return next < 1_000_000_000 ? encode(seconds, next) : encode(seconds + 1, 0);
}

/** Labels are less than this, so that a labelled timestamp is still one: its nanoseconds stay below a second. */
export const LABEL_LIMIT: number = 1_000_000_000 % WHITENER;

/**
 * A whitened timestamp with a number in the bits that whitening cleared: later than it, earlier than the next one. Only a
 * peer that takes part in the post-quantum exchange is sent a label other than 0.
 */
export function labelled(timestamp: Timestamp, label: number): Timestamp {
  const copy = timestamp.slice();
  copy[9] = label >>> 16;
  copy[10] = label >>> 8;
  copy[11] = label;
  return copy;
}

export function labelOf(timestamp: Timestamp): number {
  return (timestamp[9]! << 16) | (timestamp[10]! << 8) | timestamp[11]!;
}

/** True when `a` is strictly later than `b`. */
export function isAfter(a: Timestamp, b: Timestamp): boolean {
  for (let i = 0; i < TIMESTAMP_LENGTH; i++) {
    if (a[i] !== b[i]) return a[i]! > b[i]!;
  }
  return false;
}

/** The later of two that may be missing. */
export function laterOf(a: Timestamp | undefined, b: Timestamp | undefined): Timestamp | undefined {
  if (a === undefined || b === undefined) return a ?? b;
  return isAfter(a, b) ? a : b;
}

function encode(seconds: number, nanos: number): Timestamp {
  const bytes = new Uint8Array(TIMESTAMP_LENGTH);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, TAI_EPOCH_HIGH + Math.floor(seconds / 2 ** 32));
  view.setUint32(4, seconds >>> 0);
  view.setUint32(8, nanos);
  return bytes;
}
