/** How fast each peer's traffic was from look to look: what `status --watch` draws. */
import type { StatusReport } from '@sealane/tunnel';

/** Bytes a second, oldest first. */
export interface Rates {
  readonly received: readonly number[];
  readonly sent: readonly number[];
}

interface Entry {
  at: number;
  rxBytes: number;
  txBytes: number;
  readonly received: number[];
  readonly sent: number[];
}

const LONGEST = 30;
const BARS = '▁▂▃▄▅▆▇█';

export class RateHistory {
  readonly #entries = new Map<string, Entry>();

  /** Takes a look; `at` is in milliseconds of a clock that does not go back. */
  add({ name, peers }: StatusReport, at: number): void {
    for (const { publicKey, rxBytes, txBytes } of peers) {
      const key = `${name} ${publicKey}`;
      const entry = this.#entries.get(key);
      if (entry === undefined) {
        this.#entries.set(key, { at, rxBytes, txBytes, received: [], sent: [] });
        continue;
      }
      const seconds = Math.max(0.001, (at - entry.at) / 1_000);
      // A peer that was removed and added again counts from zero.
      keep(entry.received, Math.max(0, rxBytes - entry.rxBytes) / seconds);
      keep(entry.sent, Math.max(0, txBytes - entry.txBytes) / seconds);
      Object.assign(entry, { at, rxBytes, txBytes });
    }
  }

  /** Undefined until the second look. */
  of(name: string, publicKey: string): Rates | undefined {
    const entry = this.#entries.get(`${name} ${publicKey}`);
    return entry === undefined || entry.sent.length === 0 ? undefined : entry;
  }
}

/** Values as bars, relative to the largest. */
export function sparkline(values: readonly number[]): string {
  const top = Math.max(...values, 1);
  return values.map((value) => BARS[Math.min(BARS.length - 1, Math.floor((value / top) * BARS.length))]).join('');
}

function keep(list: number[], value: number): void {
  list.push(value);
  if (list.length > LONGEST) list.shift();
}
