/**
 * Why a packet went no further: a closed set, counted per device, never thrown and never told to the sender.
 * The order is the order of status output.
 */
export const DROP_REASONS = [
  /** Datagram: no known message type, reserved bytes set, a length that the type does not have, or from port 0. */
  'malformed',
  /** Handshake: mac1 is not made with our public key. */
  'bad-mac1',
  /** Handshake: under load and no valid mac2; a cookie reply was sent. */
  'cookie-required',
  /** Handshake: the source address exceeded its rate while we were under load. */
  'rate-limited',
  /** Handshake: the queue was full. */
  'handshake-queue-full',
  /** Initiation: the sender's static key is not among our peers. */
  'unknown-peer',
  /** Handshake: decryption failed (wrong key, wrong preshared key, other cipher, forgery). */
  'handshake-failed',
  /** Initiation: it is made with the other cipher suite than this peer is configured for. */
  'cipher-mismatch',
  /** Initiation: its timestamp is not newer than the last one (a replay, or a clock set back). */
  'stale-timestamp',
  /** Initiation: closer than 20 ms to the one before from this peer. */
  'initiation-flood',
  /** Cookie reply: no handshake is waiting for it or it does not open. */
  'bad-cookie-reply',
  /** Handshake response or data: the receiver index names nothing of ours. */
  'unknown-index',
  /** Data: the session is past Reject-After-Time or Reject-After-Messages. */
  'expired-session',
  /** Data: the tag is wrong. */
  'bad-tag',
  /** Data: the counter was seen already or is too old for the window. */
  'replay',
  /** Data: what was inside is no whole IP packet. */
  'bad-inner-packet',
  /** Data: the inner source address does not belong to this peer. */
  'refused-source',
  /**
   * Data: a message of the post-quantum exchange that is out of turn, too soon after the last or made of a bad key.
   * Response: with the configured preshared key while there is a derived one that the peer was not asked for yet.
   */
  'exchange-refused',
  /** Outbound: no IP packet. */
  'not-ip',
  /** Outbound: no peer owns the destination address. */
  'no-route',
  /** Outbound: the peer has no known endpoint. */
  'no-endpoint',
  /** Outbound: pushed out of the queue of a peer without session, or the handshake was given up. */
  'staging-overflow',
  /** Outbound: the device has no private key or is closed. */
  'device-down',
] as const;

export type DropReason = (typeof DROP_REASONS)[number];

/** What became of a packet in a batch. Values from FIRST_DROP on are drops: FIRST_DROP + index in DROP_REASONS. */
export const VERDICT = {
  /** Not looked at yet. */
  pending: 0,
  /** Outbound: a sealed datagram for `peers[i]`, to be sent to its endpoint. */
  send: 1,
  /** Inbound: an IP packet of `peers[i]`, to be written to the packet device. */
  deliver: 2,
  /** Taken: staged, queued as a handshake, or a keepalive. Nothing is left to do. */
  consumed: 3,
  /** Inbound: a datagram of a session that another lane opens, as it came. */
  elsewhere: 4,
} as const;

export const FIRST_DROP = 16;

/** The verdict number of a drop. */
export function dropVerdict(reason: DropReason): number {
  return FIRST_DROP + DROP_REASONS.indexOf(reason);
}

/** The reason behind a verdict, or undefined when it is no drop. */
export function dropReason(verdict: number): DropReason | undefined {
  return DROP_REASONS[verdict - FIRST_DROP];
}

/** Counts by reason. */
export class DropCounters {
  readonly #counts = new Float64Array(DROP_REASONS.length);

  add(verdict: number): void {
    this.#counts[verdict - FIRST_DROP]! += 1;
  }

  addMany(counts: readonly (readonly [verdict: number, count: number])[]): void {
    for (const [verdict, count] of counts) this.#counts[verdict - FIRST_DROP]! += count;
  }

  get isEmpty(): boolean {
    return this.#counts.every((count) => count === 0);
  }

  /** The verdicts with their counts, which begin at zero again. */
  take(): readonly (readonly [verdict: number, count: number])[] {
    const some = [...this.#counts.entries()].filter(([, count]) => count > 0);
    this.#counts.fill(0);
    return some.map(([i, count]) => [FIRST_DROP + i, count] as const);
  }

  /** Every reason with its count, zeros included. */
  snapshot(): Record<DropReason, number> {
    const entries = DROP_REASONS.map((reason, i) => [reason, this.#counts[i]!]);
    return Object.fromEntries(entries) as Record<DropReason, number>;
  }
}
