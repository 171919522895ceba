import type { Aead, Crypto } from './crypto.ts';
import { copySecret, wipe } from './crypto.ts';

const EMPTY: Uint8Array = new Uint8Array(0);
const COUNTERS = [Uint8Array.of(1), Uint8Array.of(2), Uint8Array.of(3)] as const;

/**
 * Key derivation of the Noise specification (section 4.3) and the paper (section 5.4): HKDF with HMAC-BLAKE2s.
 * Returns `count` keys of 32 bytes.
 */
export function kdf(crypto: Crypto, chainingKey: Uint8Array, input: Uint8Array, count: 1 | 2 | 3): Uint8Array[] {
  const secret = crypto.hmac(chainingKey, input);
  const outputs: Uint8Array[] = [];
  let previous = EMPTY;
  for (let i = 0; i < count; i++) {
    previous = crypto.hmac(secret, previous, COUNTERS[i]!);
    outputs.push(previous);
  }
  wipe(secret);
  return outputs;
}

/**
 * The SymmetricState of the Noise specification (section 5.2) together with its CipherState: chaining key,
 * transcript hash and the current handshake key. `decryptAndHash` leaves the state unusable after a failure,
 * so a caller that may go on works on a `clone`.
 */
export class SymmetricState {
  readonly #crypto: Crypto;
  readonly #aead: Aead;
  #chainingKey: Uint8Array;
  #hash: Uint8Array;
  #key: Uint8Array | undefined;
  #counter = 0;

  private constructor(crypto: Crypto, aead: Aead, chainingKey: Uint8Array, hash: Uint8Array) {
    this.#crypto = crypto;
    this.#aead = aead;
    this.#chainingKey = chainingKey;
    this.#hash = hash;
  }

  /** `protocolName` is ASCII; names of more than 32 bytes are hashed, as ours are. */
  static initialize(crypto: Crypto, aead: Aead, protocolName: Uint8Array): SymmetricState {
    const hash = new Uint8Array(32);
    hash.set(protocolName.length > 32 ? crypto.hash(protocolName) : protocolName);
    return new SymmetricState(crypto, aead, copySecret(hash), hash);
  }

  clone(): SymmetricState {
    const copy = new SymmetricState(this.#crypto, this.#aead, copySecret(this.#chainingKey), this.#hash.slice());
    copy.#key = this.#key && copySecret(this.#key);
    copy.#counter = this.#counter;
    return copy;
  }

  mixHash(data: Uint8Array): void {
    this.#hash = this.#crypto.hash(this.#hash, data);
  }

  /** WireGuard also mixes the ephemeral public keys this way, without taking a cipher key (paper section 5.4.2). */
  mixChainingKey(input: Uint8Array): void {
    const [chainingKey] = kdf(this.#crypto, this.#chainingKey, input, 1);
    this.#replace(chainingKey!, this.#key);
  }

  mixKey(input: Uint8Array): void {
    const [chainingKey, key] = kdf(this.#crypto, this.#chainingKey, input, 2);
    this.#replace(chainingKey!, key);
    this.#counter = 0;
  }

  mixKeyAndHash(input: Uint8Array): void {
    const [chainingKey, hashInput, key] = kdf(this.#crypto, this.#chainingKey, input, 3);
    this.#replace(chainingKey!, key);
    this.#counter = 0;
    this.mixHash(hashInput!);
    wipe(hashInput);
  }

  encryptAndHash(plaintext: Uint8Array): Uint8Array {
    const ciphertext =
      this.#key === undefined ? plaintext.slice() : this.#aead.seal(this.#key, this.#counter++, plaintext, this.#hash);
    this.mixHash(ciphertext);
    return ciphertext;
  }

  /** Returns undefined when the ciphertext is not authentic. */
  decryptAndHash(ciphertext: Uint8Array): Uint8Array | undefined {
    const plaintext =
      this.#key === undefined
        ? ciphertext.slice()
        : this.#aead.open(this.#key, this.#counter++, ciphertext, this.#hash);
    if (plaintext !== undefined) this.mixHash(ciphertext);
    return plaintext;
  }

  /** The two transport keys: initiator to responder, responder to initiator. */
  split(): [Uint8Array, Uint8Array] {
    const [first, second] = kdf(this.#crypto, this.#chainingKey, EMPTY, 2);
    return [first!, second!];
  }

  /** A copy of the transcript hash. */
  handshakeHash(): Uint8Array {
    return this.#hash.slice();
  }

  wipe(): void {
    wipe(this.#chainingKey, this.#hash, this.#key);
    this.#key = undefined;
  }

  #replace(chainingKey: Uint8Array, key: Uint8Array | undefined): void {
    wipe(this.#chainingKey);
    if (key !== this.#key) wipe(this.#key);
    this.#chainingKey = chainingKey;
    this.#key = key;
  }
}
