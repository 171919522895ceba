/** The log of a running server: one line an entry, for people or as JSON, and never more than a bounded number of them. */

/** What an entry says beside its message; `undefined` values are left out. */
export type LogFields = Readonly<Record<string, string | number | boolean | readonly string[] | undefined>>;

export interface Log {
  /** Always written: something that this side did or that went wrong on it. */
  entry(event: string, message: string, fields?: LogFields): void;
  /**
   * Written as long as entries of its `kind` are rare: what the far side can cause as often as it likes.
   * The next entry that is written says how many were left out. `kind` comes from a closed set.
   */
  limited(kind: string, event: string, message: string, fields?: LogFields): void;
  /** Says what was left out since. */
  close(): void;
}

export interface LogOptions {
  readonly write: (line: string) => void;
  readonly json: boolean;
  /** Unix milliseconds. */
  readonly now: () => number;
}

const BURST = 10;
const REFILL_MS = 6_000;

/** A token bucket for each kind: ten entries at once, then one every six seconds. */
export function createLog(options: LogOptions): Log {
  const buckets = new Map<string, { tokens: number; at: number; left: number }>();

  const entry = (event: string, message: string, fields: LogFields = {}): void => {
    const time = new Date(options.now()).toISOString();
    options.write(options.json ? JSON.stringify({ time, event, ...fields }) : `${time} ${message}`);
  };

  const limited = (kind: string, event: string, message: string, fields: LogFields = {}): void => {
    const now = options.now();
    const bucket = buckets.get(kind) ?? { tokens: BURST, at: now, left: 0 };
    buckets.set(kind, bucket);
    const refill = Math.max(0, Math.floor((now - bucket.at) / REFILL_MS));
    bucket.tokens = Math.min(BURST, bucket.tokens + refill);
    bucket.at = bucket.tokens === BURST ? now : bucket.at + refill * REFILL_MS;
    if (bucket.tokens === 0) {
      bucket.left++;
      return;
    }
    bucket.tokens--;
    const { left } = bucket;
    bucket.left = 0;
    if (left === 0) entry(event, message, fields);
    else entry(event, `${message} (and ${left} more like it before)`, { ...fields, leftOut: left });
  };

  const close = (): void => {
    for (const [kind, { left }] of buckets) {
      if (left > 0) entry('left-out', `${left} more entries about ${kind}`, { kind, leftOut: left });
    }
    buckets.clear();
  };

  return { entry, limited, close };
}
