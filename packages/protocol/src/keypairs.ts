import type { IndexTable } from './index-table.ts';
import type { Keypair } from './keypair.ts';

/**
 * The three sessions of a peer (paper section 6.3): packets are sent on `current`; `previous` still opens what was on its
 * way; `next` waits for the first packet that proves the initiator has it. A session that leaves is wiped and its index freed.
 */
export class Keypairs<T> {
  current: Keypair | undefined;
  previous: Keypair | undefined;
  next: Keypair | undefined;
  readonly #indexes: IndexTable<T>;

  constructor(indexes: IndexTable<T>) {
    this.#indexes = indexes;
  }

  /** Takes in the session of a completed handshake. */
  begin(keypair: Keypair): void {
    if (keypair.isInitiator) {
      // A waiting `next` is known to the peer and newer than `current`: it becomes what we still open.
      if (this.next !== undefined) {
        this.#retire(this.previous);
        this.#retire(this.current);
        this.previous = this.next;
        this.next = undefined;
      } else {
        this.#retire(this.previous);
        this.previous = this.current;
      }
      this.current = keypair;
    } else {
      this.#retire(this.next);
      this.next = keypair;
      this.#retire(this.previous);
      this.previous = undefined;
    }
  }

  /** Called for every authentic packet; true when it confirmed `next`, which then became `current`. */
  confirm(keypair: Keypair): boolean {
    if (keypair !== this.next) return false;
    this.#retire(this.previous);
    this.previous = this.current;
    this.current = keypair;
    this.next = undefined;
    return true;
  }

  /** Erases sessions past Reject-After-Time; returns when the next of the rest will be. */
  retireExpired(now: number): number {
    let nextExpiry = Infinity;
    const keep = (keypair: Keypair | undefined): Keypair | undefined => {
      if (keypair === undefined) return undefined;
      if (now >= keypair.expiresAt) {
        this.#retire(keypair);
        return undefined;
      }
      nextExpiry = Math.min(nextExpiry, keypair.expiresAt);
      return keypair;
    };
    this.current = keep(this.current);
    this.previous = keep(this.previous);
    this.next = keep(this.next);
    return nextExpiry;
  }

  clear(): void {
    this.#retire(this.current);
    this.#retire(this.previous);
    this.#retire(this.next);
    this.current = this.previous = this.next = undefined;
  }

  #retire(keypair: Keypair | undefined): void {
    if (keypair === undefined) return;
    keypair.wipe();
    this.#indexes.delete(keypair.localIndex);
  }
}
