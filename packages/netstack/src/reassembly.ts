/**
 * Fragments back into packets (RFC 791 §3.2, RFC 815, RFC 8200 §4.5), within bounds: a datagram whose fragments overlap is
 * dropped whole (RFC 5722), the number of datagrams and their bytes are limited, and what stays incomplete is forgotten.
 */
import type { IpAddress } from './address.ts';
import type { DropReason } from './drops.ts';
import { IPV4_HEADER_LENGTH, IPV6_HEADER_LENGTH, type IpPacket, sourceOf, writeIpv4Header } from './ip.ts';
import { viewOf } from './output.ts';

export interface ReassemblyLimits {
  /** Incomplete datagrams kept at once; beyond it, the source that has the most loses its oldest to one that has fewer. */
  readonly maxDatagrams: number;
  /** Incomplete datagrams kept at once of one source. */
  readonly maxDatagramsPerSource: number;
  /** Bytes of fragments kept at once, by the same rule. */
  readonly maxBytes: number;
}

export const DEFAULT_REASSEMBLY_LIMITS: ReassemblyLimits = {
  maxDatagrams: 256,
  maxDatagramsPerSource: 32,
  maxBytes: 4 << 20,
};

/** RFC 8200 §4.5 says 60 s; fragments of one datagram travel together, so less is kinder to memory (Linux: 30 s). */
const TIMEOUT_MS = 30_000;
const MAX_PAYLOAD = 65_535;
const MAX_FRAGMENTS = 128;

interface Fragment {
  readonly start: number;
  readonly end: number;
  readonly bytes: Uint8Array;
}

/** What is kept of one source. */
interface Share {
  readonly key: string | number;
  datagrams: number;
  bytes: number;
}

interface Datagram {
  readonly share: Share;
  readonly until: number;
  readonly fragments: Fragment[];
  bytes: number;
  /** Payload length, known once the last fragment came. */
  total: number;
  /** The IPv6 header and the protocol of the fragment at offset 0: those of the whole (RFC 8200 §4.5). */
  header: Uint8Array | undefined;
  protocol: number;
  /** An overlap was seen: nothing of it will be delivered. */
  poisoned: boolean;
}

export class Reassembler {
  readonly #limits: ReassemblyLimits;
  /** In order of arrival, so in order of expiry. */
  readonly #datagrams = new Map<string, Datagram>();
  readonly #shares = new Map<string | number, Share>();
  readonly #sourceKey: (address: IpAddress) => string | number;
  #bytes = 0;

  constructor(limits: ReassemblyLimits, sourceKey: (address: IpAddress) => string | number) {
    this.#limits = limits;
    this.#sourceKey = sourceKey;
  }

  get datagrams(): number {
    return this.#datagrams.size;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** When the oldest incomplete datagram is given up; Infinity when there is none. */
  nextDeadline(): number {
    for (const datagram of this.#datagrams.values()) return datagram.until;
    return Infinity;
  }

  /** Forgets what is overdue; returns how many datagrams that were. */
  expire(now: number): number {
    let count = 0;
    for (const [key, datagram] of this.#datagrams) {
      if (datagram.until > now) break;
      this.#forget(key, datagram);
      count++;
    }
    return count;
  }

  /** Takes a fragment; returns the whole packet under a plain IP header, why the fragment was dropped, or undefined to wait. */
  add(packet: IpPacket, now: number): Uint8Array | DropReason | undefined {
    const start = packet.fragmentOffset;
    const end = start + packet.payloadLength;
    // RFC 8200 §4.5: all but the last are multiples of 8, and the whole stays within 65,535.
    if (packet.payloadLength === 0 || end > MAX_PAYLOAD) return 'fragment-invalid';
    if (packet.moreFragments && packet.payloadLength % 8 !== 0) return 'fragment-invalid';
    const upper = packet.family === 4 ? packet.protocol : 0;
    const key = `${packet.s0}.${packet.s1}.${packet.s2}.${packet.s3}>${packet.d0}.${packet.d1}.${packet.d2}.${packet.d3}/${packet.fragmentId}/${upper}`;
    const datagram = this.#datagrams.get(key) ?? this.#open(key, sourceOf(packet), now);
    if (datagram === undefined) return 'fragment-limit';
    if (datagram.poisoned) return 'fragment-overlap';
    const at = datagram.fragments.findIndex((other) => other.end > start);
    const next = at < 0 ? undefined : datagram.fragments[at];
    if (next !== undefined && next.start < end) {
      // RFC 8200 §4.5: an exact duplicate may be ignored.
      if (next.start === start && next.end === end) return undefined;
      this.#poison(datagram);
      return 'fragment-overlap';
    }
    const isLast = !packet.moreFragments;
    const last = datagram.fragments.at(-1);
    if (datagram.total >= 0 ? isLast || end > datagram.total : isLast && last !== undefined && last.end > end) {
      this.#poison(datagram);
      return 'fragment-overlap';
    }
    if (!this.#makeRoom(datagram.share, packet.payloadLength) || datagram.fragments.length === MAX_FRAGMENTS) {
      this.#poison(datagram);
      return 'fragment-limit';
    }
    const bytes = packet.buffer.slice(packet.payload, packet.payload + packet.payloadLength);
    datagram.fragments.splice(at < 0 ? datagram.fragments.length : at, 0, { start, end, bytes });
    this.#count(datagram, bytes.length);
    if (isLast) datagram.total = end;
    if (start === 0) {
      datagram.protocol = packet.protocol;
      if (packet.family === 6) datagram.header = packet.buffer.slice(packet.start, packet.start + IPV6_HEADER_LENGTH);
    }
    if (datagram.bytes !== datagram.total) return undefined;
    this.#forget(key, datagram);
    return assemble(packet, datagram);
  }

  #open(key: string, address: IpAddress, now: number): Datagram | undefined {
    const source = this.#sourceKey(address);
    const share = this.#shares.get(source) ?? { key: source, datagrams: 0, bytes: 0 };
    const { maxDatagrams, maxDatagramsPerSource } = this.#limits;
    if (share.datagrams >= maxDatagramsPerSource) return undefined;
    if (this.#datagrams.size >= maxDatagrams && !this.#evict('datagrams', share, 1)) return undefined;
    const datagram: Datagram = {
      share,
      until: now + TIMEOUT_MS,
      fragments: [],
      bytes: 0,
      total: -1,
      header: undefined,
      protocol: 0,
      poisoned: false,
    };
    this.#datagrams.set(key, datagram);
    this.#shares.set(source, share);
    share.datagrams++;
    return datagram;
  }

  #makeRoom(share: Share, length: number): boolean {
    while (this.#bytes + length > this.#limits.maxBytes) if (!this.#evict('bytes', share, length)) return false;
    return true;
  }

  /** Forgets the oldest datagram of the source that has the most; false when that has no more than `share` would with `added`. */
  #evict(measure: 'datagrams' | 'bytes', share: Share, added: number): boolean {
    let most = share;
    for (const other of this.#shares.values()) if (other[measure] > most[measure]) most = other;
    if (most[measure] <= share[measure] + added) return false;
    for (const [key, datagram] of this.#datagrams) {
      if (datagram.share !== most || (measure === 'bytes' && datagram.bytes === 0)) continue;
      this.#forget(key, datagram);
      return true;
    }
    return false;
  }

  #count(datagram: Datagram, bytes: number): void {
    datagram.bytes += bytes;
    datagram.share.bytes += bytes;
    this.#bytes += bytes;
  }

  /** Keeps the entry, so that later fragments are dropped too, but not its bytes. */
  #poison(datagram: Datagram): void {
    this.#count(datagram, -datagram.bytes);
    datagram.fragments.length = 0;
    datagram.poisoned = true;
  }

  #forget(key: string, datagram: Datagram): void {
    const { share, bytes } = datagram;
    this.#bytes -= bytes;
    share.bytes -= bytes;
    share.datagrams--;
    this.#datagrams.delete(key);
    if (share.datagrams === 0) this.#shares.delete(share.key);
  }
}

function assemble(packet: IpPacket, datagram: Datagram): Uint8Array | DropReason {
  const headerLength = packet.family === 4 ? IPV4_HEADER_LENGTH : IPV6_HEADER_LENGTH;
  if (packet.family === 4 && headerLength + datagram.total > MAX_PAYLOAD) return 'fragment-invalid';
  const whole = new Uint8Array(headerLength + datagram.total);
  const view = viewOf(whole);
  if (packet.family === 4) {
    writeIpv4Header(view, 0, packet.s3, packet.d3, datagram.protocol, datagram.total, 0, 0);
  } else {
    whole.set(datagram.header!);
    view.setUint16(4, datagram.total);
    view.setUint8(6, datagram.protocol);
  }
  for (const fragment of datagram.fragments) whole.set(fragment.bytes, headerLength + fragment.start);
  return whole;
}
