/** What a long-running program says while it runs: one line an entry, for people or as JSON, and never more than a bounded number. */
import { oneLine } from './format.ts';

/** How much each event matters. */
const LEVELS = {
  cleaned: 'info',
  'cookie-received': 'warn',
  endpoint: 'info',
  'endpoints-not-kept': 'error',
  expired: 'info',
  failed: 'error',
  fallback: 'warn',
  'firewall-failed': 'error',
  'firewall-restored': 'warn',
  'handshake-refused': 'warn',
  'interface-deleted': 'warn',
  'kill-switch': 'warn',
  'left-out': 'warn',
  note: 'warn',
  'peer-added': 'info',
  'peer-changed': 'info',
  'peer-removed': 'info',
  ready: 'info',
  'reload-failed': 'error',
  reloaded: 'info',
  roamed: 'info',
  session: 'info',
  stopped: 'info',
  stopping: 'info',
  unanswered: 'warn',
  'undo-failed': 'error',
  up: 'info',
} as const;

/** From the gravest to all. */
export const LOG_LEVELS = ['error', 'warn', 'info'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];
export type LogEvent = keyof typeof LEVELS;
export type LogFormat = 'text' | 'json';

/** What an entry says beside its message; `undefined` values are left out. Never a secret. */
export type LogFields = Readonly<Record<string, string | number | boolean | readonly string[] | undefined>>;

export interface Log {
  /** Always written: something that this side did or that went wrong on it. */
  entry(event: LogEvent, message: string, fields?: LogFields): void;
  /** As `entry`, but the same message only once. */
  once(event: LogEvent, message: string): void;
  /**
   * Written as long as entries of its `kind` (by default its event) are rare: for what the far side can cause as often as it likes.
   * The next entry that is written says how many were left out. `kind` comes from a closed set.
   */
  limited(event: LogEvent, message: string, fields?: LogFields, kind?: string): void;
  /** Says what was left out since. */
  close(): void;
}

export interface LogOptions {
  readonly format: LogFormat;
  /** Entries that matter less are not written. */
  readonly level: LogLevel;
  /** Takes a line without its end. */
  readonly write: (line: string) => void;
  /** Unix milliseconds. */
  readonly now?: () => number;
  /** Stands before each line for people instead of the time. */
  readonly prefix?: string;
}

const BURST = 10;
const REFILL_MS = 6_000;

/** A token bucket for each kind: ten entries at once, then one every six seconds. */
export function createLog({ format, level, write, now = Date.now, prefix }: LogOptions): Log {
  const buckets = new Map<string, { tokens: number; at: number; left: number }>();
  const isWanted = (event: LogEvent): boolean => LOG_LEVELS.indexOf(LEVELS[event]) <= LOG_LEVELS.indexOf(level);

  const entry: Log['entry'] = (event, message, fields = {}) => {
    if (!isWanted(event)) return;
    const time = new Date(now()).toISOString();
    const line = oneLine(message);
    if (format === 'text') write(prefix === undefined ? `${time} ${line}` : `${prefix}${line}`);
    else write(JSON.stringify({ time, level: LEVELS[event], event, message: line, ...fields }));
  };

  const said = new Set<string>();
  const once: Log['once'] = (event, message) => {
    if (said.has(message)) return;
    said.add(message);
    entry(event, message);
  };

  const limited: Log['limited'] = (event, message, fields = {}, kind = event) => {
    if (!isWanted(event)) return;
    const at = now();
    const bucket = buckets.get(kind) ?? { tokens: BURST, at, left: 0 };
    buckets.set(kind, bucket);
    const refill = Math.max(0, Math.floor((at - bucket.at) / REFILL_MS));
    bucket.tokens = Math.min(BURST, bucket.tokens + refill);
    bucket.at = bucket.tokens === BURST ? at : bucket.at + refill * REFILL_MS;
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

  return { entry, once, limited, close };
}
