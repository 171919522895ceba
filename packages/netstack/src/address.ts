/** IP addresses as four 32-bit words, so that both families compare and hash alike. */

/** Ports from here on are for whoever asks for no particular one (RFC 6056 §3.2). */
export const FIRST_EPHEMERAL_PORT = 32_768;

/** An immutable IPv4 or IPv6 address; IPv4 is held in its mapped form ::ffff:a.b.c.d (RFC 4291 §2.5.5.2). */
export class IpAddress {
  /** The 128 bits as signed 32-bit words, most significant first. */
  readonly a: number;
  readonly b: number;
  readonly c: number;
  readonly d: number;

  constructor(a: number, b: number, c: number, d: number) {
    this.a = a | 0;
    this.b = b | 0;
    this.c = c | 0;
    this.d = d | 0;
  }

  get family(): 4 | 6 {
    return this.a === 0 && this.b === 0 && this.c === 0xffff ? 4 : 6;
  }

  get isUnspecified(): boolean {
    return this.a === 0 && this.b === 0 && this.d === 0 && (this.c === 0 || this.c === 0xffff);
  }

  equals(other: IpAddress): boolean {
    return this.a === other.a && this.b === other.b && this.c === other.c && this.d === other.d;
  }

  /** The canonical text: dotted quad, or RFC 5952 for IPv6. */
  toString(): string {
    return this.family === 4 ? formatV4(this.d) : formatV6([this.a, this.b, this.c, this.d]);
  }
}

/** An address and a port. */
export interface Endpoint {
  readonly address: IpAddress;
  /** 1..65535. */
  readonly port: number;
}

/** The address that `text` writes, strictly (RFC 4291 §2.2; no zone, no octal, no short dotted forms), or undefined. */
export function parseAddress(text: string): IpAddress | undefined {
  if (text.includes(':')) return parseV6(text);
  const word = parseV4(text);
  return word === undefined ? undefined : v4Address(word);
}

/** The IPv4 address held in one 32-bit word. */
export function v4Address(word: number): IpAddress {
  return new IpAddress(0, 0, 0xffff, word);
}

/** Multicast, broadcast, or class E: nothing a connection may have as its end (RFC 1122 §3.2.1.3, RFC 4291 §2.7). */
export function isUnicast(a: number, b: number, c: number, d: number): boolean {
  if (a === 0 && b === 0 && c === 0xffff) return d >>> 28 < 0xe && d >>> 24 !== 0;
  return a >>> 24 !== 0xff && (a | b | c | d) !== 0;
}

function parseV4(text: string): number | undefined {
  const parts = text.split('.');
  if (parts.length !== 4) return undefined;
  let word = 0;
  for (const part of parts) {
    if (!/^(0|[1-9][0-9]{0,2})$/.test(part) || Number(part) > 255) return undefined;
    word = (word << 8) | Number(part);
  }
  return word;
}

function parseV6(text: string): IpAddress | undefined {
  const halves = text.split('::');
  if (halves.length > 2) return undefined;
  const head = parseGroups(halves[0]!, halves.length === 1);
  const tail = halves.length === 2 ? parseGroups(halves[1]!, true) : [];
  if (head === undefined || tail === undefined) return undefined;
  const missing = 8 - head.length - tail.length;
  if (halves.length === 1 ? missing !== 0 : missing < 1) return undefined;
  const groups = [...head, ...Array.from({ length: missing }, () => 0), ...tail];
  const word = (i: number): number => (groups[i]! << 16) | groups[i + 1]!;
  return new IpAddress(word(0), word(2), word(4), word(6));
}

function parseGroups(text: string, mayEndInV4: boolean): number[] | undefined {
  if (text === '') return [];
  const groups: number[] = [];
  const parts = text.split(':');
  for (const [i, part] of parts.entries()) {
    if (/^[0-9a-fA-F]{1,4}$/.test(part)) {
      groups.push(Number.parseInt(part, 16));
      continue;
    }
    const quad = mayEndInV4 && i === parts.length - 1 ? parseV4(part) : undefined;
    if (quad === undefined) return undefined;
    groups.push(quad >>> 16, quad & 0xffff);
  }
  return groups;
}

function formatV4(word: number): string {
  return `${word >>> 24}.${(word >>> 16) & 255}.${(word >>> 8) & 255}.${word & 255}`;
}

function formatV6(words: readonly number[]): string {
  const groups = words.flatMap((word) => [word >>> 16, word & 0xffff]);
  let start = -1;
  let length = 1;
  for (let i = 0; i < 8; i++) {
    let run = 0;
    while (i + run < 8 && groups[i + run] === 0) run++;
    if (run > length) {
      start = i;
      length = run;
    }
  }
  const hex = (part: readonly number[]): string => part.map((group) => group.toString(16)).join(':');
  if (start < 0) return hex(groups);
  return `${hex(groups.slice(0, start))}::${hex(groups.slice(start + length))}`;
}
