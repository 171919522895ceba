/**
 * The deadlines of one peer (paper section 6). The first two are work that the data path leaves for the next tick; the others
 * are the paper's timers and that of the post-quantum exchange. Each is an instant or off; triggers in peer.ts move them and nothing computes "time since".
 */
export const TIMER = {
  initiate: 0,
  flush: 1,
  'retransmit-handshake': 2,
  'send-keepalive': 3,
  'new-handshake': 4,
  'expire-session': 5,
  'zero-keys': 6,
  'persistent-keepalive': 7,
  exchange: 8,
} as const;

const NAMES: readonly string[] = Object.keys(TIMER);

export class Timers {
  readonly #at = new Float64Array(NAMES.length).fill(Infinity);
  readonly #onEarlier: (at: number) => void;

  /** `onEarlier` hears of every instant that is set; later ones may be found out lazily. */
  constructor(onEarlier: (at: number) => void) {
    this.#onEarlier = onEarlier;
  }

  set(timer: number, at: number): void {
    this.#at[timer] = at;
    this.#onEarlier(at);
  }

  clear(timer: number): void {
    this.#at[timer] = Infinity;
  }

  clearAll(): void {
    this.#at.fill(Infinity);
  }

  isSet(timer: number): boolean {
    return this.#at[timer] !== Infinity;
  }

  /** True, and off from then on, when the timer is due. */
  take(timer: number, now: number): boolean {
    if (this.#at[timer]! > now) return false;
    this.#at[timer] = Infinity;
    return true;
  }

  /** The earliest instant, Infinity when all are off. */
  next(): number {
    let earliest = Infinity;
    for (const at of this.#at) if (at < earliest) earliest = at;
    return earliest;
  }

  /** The name of the timer that is due first. */
  why(): string {
    return NAMES[this.#at.indexOf(this.next())]!;
  }
}
