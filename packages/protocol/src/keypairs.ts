import { CROSSING_TIMEOUT } from './constants.ts';
import type { IndexTable } from './index-table.ts';
import type { Keypair } from './keypair.ts';

/**
 * The three sessions of a peer (paper section 6.3): packets are sent on `current`; `previous` still opens what was on its
 * way; `next` waits for the first packet that proves the initiator has it. A session that leaves is wiped and its index freed.
 *
 * When two handshakes cross, each side is the initiator of its `current` and keeps the peer's session as `previous`. Nothing
 * says that the peer still has the former; a packet proves that it has the latter. So the side with the larger static key,
 * which `yields`, always moves to the session on which the other sends. The other stays, unless it has waited for long
 * enough in vain for a packet on its own. Whatever was lost or came late, one session is left, and one initiator who renews it.
 * A session with a post-quantum preshared key is never left for one without: then the peer is the one to move.
 */
export class Keypairs<T> {
  current: Keypair | undefined;
  previous: Keypair | undefined;
  next: Keypair | undefined;
  readonly #indexes: IndexTable<T>;
  #follow: 'never' | 'when-silent' | 'always' = 'never';

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
        this.#follow = keypair.yields ? 'always' : 'when-silent';
      } else {
        this.#retire(this.previous);
        this.previous = this.current;
        this.#follow = 'never';
      }
      this.current = keypair;
    } else {
      this.#retire(this.next);
      this.next = keypair;
    }
  }

  /** Called for every authentic packet; true when it confirmed `next`, which then became `current`. */
  confirm(keypair: Keypair, now: number): boolean {
    keypair.confirm();
    if (keypair === this.previous && this.#follows(keypair, now)) {
      this.previous = this.current;
      this.current = keypair;
    }
    if (keypair !== this.next) return false;
    this.#follow = 'never';
    this.#retire(this.previous);
    this.previous = this.current;
    this.current = keypair;
    this.next = undefined;
    return true;
  }

  #follows(keypair: Keypair, now: number): boolean {
    if (this.#follow === 'never' || this.current === undefined) return false;
    const { isConfirmed, createdAt, derivedKey } = this.current;
    // Whoever held the peer's messages back must not make us speak without a derived key, with which it answered.
    if (derivedKey !== 0 && keypair.derivedKey === 0) return false;
    return this.#follow === 'always' || (!isConfirmed && now - createdAt >= CROSSING_TIMEOUT);
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

  /** The sessions still receive. */
  stopSending(): void {
    this.current?.stopSending();
    this.previous?.stopSending();
    this.next?.stopSending();
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
