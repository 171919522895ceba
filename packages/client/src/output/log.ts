/** What long-running commands say while they run: lines for people, or JSON, on standard error. */
import { oneLine } from '../errors.ts';
import { note } from './terminal.ts';

export type LogFormat = 'text' | 'json';

/** What an entry says beside its message; `undefined` values are left out. Never a secret. */
export type LogFields = Readonly<Record<string, string | number | boolean | undefined>>;

export interface Log {
  entry(event: string, message: string, fields?: LogFields): void;
  /** As long as entries of this event are rare: for what the far side can cause as often as it likes. */
  limited(event: string, message: string, fields?: LogFields): void;
}

const BURST = 10;
const REFILL_MS = 6_000;

/** `write` takes a line without its end; `now` is Unix milliseconds. */
export function createLog(format: LogFormat, write: (line: string) => void = note, now: () => number = Date.now): Log {
  const buckets = new Map<string, { tokens: number; at: number; left: number }>();
  const entry: Log['entry'] = (event, message, fields = {}) => {
    if (format === 'text') write(`sealane: ${oneLine(message)}`);
    else write(JSON.stringify({ time: new Date(now()).toISOString(), event, message: oneLine(message), ...fields }));
  };
  const limited: Log['limited'] = (event, message, fields = {}) => {
    const at = now();
    const bucket = buckets.get(event) ?? { tokens: BURST, at, left: 0 };
    buckets.set(event, bucket);
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
  return { entry, limited };
}

export const textLog: Log = createLog('text');
