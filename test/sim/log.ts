/** Who sent what to whom, when, and what the network did with it. */
import type { Endpoint } from '@sealane/protocol';

export type Kind = 'initiation' | 'response' | 'cookie' | 'data' | 'keepalive' | 'other';

export type Fate = 'sent' | 'lost' | 'filtered' | 'partitioned' | 'unreachable';

export interface LogEntry {
  /** Milliseconds of world time at which it was sent. */
  readonly at: number;
  readonly from: string;
  /** The node that it was meant for when it left; '' when no node is there. */
  readonly to: string;
  readonly kind: Kind;
  readonly fate: Fate;
  readonly source: Endpoint;
  readonly destination: Endpoint;
  readonly bytes: Uint8Array;
}

/** By the paper's message numbers (section 5.4) and lengths; an empty transport message is a keepalive. */
export function kindOf(bytes: Uint8Array): Kind {
  if (bytes[0] === 1 && bytes.length === 148) return 'initiation';
  if (bytes[0] === 2 && bytes.length === 92) return 'response';
  if (bytes[0] === 3 && bytes.length === 64) return 'cookie';
  if (bytes[0] === 4 && bytes.length === 32) return 'keepalive';
  if (bytes[0] === 4 && bytes.length > 32) return 'data';
  return 'other';
}

export interface Query {
  readonly from?: string;
  readonly to?: string;
  readonly kind?: Kind | readonly Kind[];
  /** World time, inclusive. */
  readonly since?: number;
}

export class Log {
  readonly entries: LogEntry[] = [];
  readonly #counts = new Map<string, number>();
  /** Which entries are kept whole; all are counted. */
  keep: (entry: LogEntry) => boolean = () => true;

  add(entry: LogEntry): void {
    const key = `${entry.from} ${entry.kind}`;
    this.#counts.set(key, (this.#counts.get(key) ?? 0) + 1);
    if (this.keep(entry)) this.entries.push(entry);
  }

  /** How many datagrams of a kind a node ever sent, kept or not. */
  count(from: string, kind: Kind): number {
    return this.#counts.get(`${from} ${kind}`) ?? 0;
  }

  of(query: Query): LogEntry[] {
    const kinds = typeof query.kind === 'string' ? [query.kind] : query.kind;
    return this.entries.filter(
      (entry) =>
        (query.from === undefined || entry.from === query.from) &&
        (query.to === undefined || entry.to === query.to) &&
        (kinds === undefined || kinds.includes(entry.kind)) &&
        (query.since === undefined || entry.at >= query.since),
    );
  }

  /** One line a datagram, for people and for comparing two runs. */
  toString(): string {
    return this.entries
      .map((e) => `${e.at.toFixed(3)} ${e.from} -> ${e.to} ${e.kind} ${e.bytes.length} ${e.fate} ${checksum(e.bytes)}`)
      .join('\n');
  }
}

function checksum(bytes: Uint8Array): string {
  let hash = 0x811c9dc5;
  for (const byte of bytes) hash = Math.imul(hash ^ byte, 0x01000193);
  return (hash >>> 0).toString(16);
}
