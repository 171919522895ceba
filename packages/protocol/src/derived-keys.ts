/**
 * The preshared keys that post-quantum exchanges with one peer gave, newest first, and what is known of the peer's side.
 * In a handshake the responder mixes the preshared key in, so it must be one that the initiator has. The initiator therefore
 * names one in its initiation, and names only what the peer is known to have derived; the responder takes that key if it has
 * it and the configured one if not. Nobody ever guesses, so losing any message cannot make the two sides use different keys.
 */
import type { Crypto } from './crypto.ts';
import { wipe } from './crypto.ts';
import { LABEL_LIMIT } from './tai64n.ts';

export interface DerivedKey {
  /** 1 to LABEL_LIMIT - 1: what an initiation calls it. */
  readonly name: number;
  readonly key: Uint8Array;
  readonly createdAt: number;
}

/** Two that the peer has at most, the one in use and the one that is new; the others are answers that it may have missed. */
const MOST_KEYS = 4;
const NAME_LABEL = Uint8Array.from('sealane psk name', (character) => character.charCodeAt(0));

export class DerivedKeys {
  readonly #held: (DerivedKey & { heldByPeer: boolean })[] = [];

  /**
   * Takes `key` over. `heldByPeer`: the peer is known to have derived it already. False, and the key is erased, when another
   * has its name. One too many costs the oldest that the peer is not known to have: nobody makes us forget the others.
   */
  add(crypto: Crypto, key: Uint8Array, heldByPeer: boolean, now: number): boolean {
    const name = nameOf(crypto, key);
    if (this.named(name) !== undefined) {
      wipe(key);
      return false;
    }
    this.#held.unshift({ name, key, createdAt: now, heldByPeer });
    if (this.#held.length > MOST_KEYS)
      this.#drop(
        this.#held.findLastIndex((held) => !held.heldByPeer),
        1,
      );
    return true;
  }

  /** What an initiation of ours may name. */
  get newestShared(): DerivedKey | undefined {
    return this.#held.find(({ heldByPeer }) => heldByPeer);
  }

  named(name: number): DerivedKey | undefined {
    return this.#held.find((key) => key.name === name);
  }

  /** The peer used `key` in an authentic message: older ones will not be named by either side any more, and are erased. */
  confirm({ name }: DerivedKey): void {
    const i = this.#held.findIndex((key) => key.name === name);
    if (i < 0) return;
    this.#held[i]!.heldByPeer = true;
    this.#drop(i + 1);
  }

  /** The peer answered with the configured key, so it does not have this one. */
  lost({ name }: DerivedKey): void {
    const i = this.#held.findIndex((key) => key.name === name);
    if (i >= 0) this.#drop(i, 1);
  }

  clear(): void {
    this.#drop(0);
  }

  #drop(from: number, count = Infinity): void {
    for (const { key } of this.#held.splice(from, count)) wipe(key);
  }
}

/** A short name that says nothing about the key; two keys share one in ten million times. */
function nameOf(crypto: Crypto, key: Uint8Array): number {
  const hash = crypto.hmac(key, NAME_LABEL);
  const number = new DataView(hash.buffer, hash.byteOffset).getUint32(0, true);
  wipe(hash);
  return 1 + (number % (LABEL_LIMIT - 1));
}
