/**
 * The one interface between the protocol and its primitives. `noble.ts` is the reference implementation;
 * faster ones must reproduce its answers. Every key is a 32-byte Uint8Array that its owner wipes.
 */

/** ChaCha20-Poly1305 is WireGuard; AES-256-GCM is for two Sealane peers that agreed on it. */
export type CipherSuite = 'chacha20poly1305' | 'aes256gcm';

export const CIPHER_SUITES: readonly CipherSuite[] = ['chacha20poly1305', 'aes256gcm'];

/** The sending half of a transport session: one key, only the counter changes. */
export interface PacketSealer {
  /**
   * Encrypts the `length` bytes at `offset` where they lie and writes the 16-byte tag behind them.
   * The counter is 64 bits in two unsigned halves; the caller never repeats one.
   */
  seal(buffer: Uint8Array, offset: number, length: number, counterLow: number, counterHigh: number): void;
  /** Destroys the key; the sealer must not be used afterwards. */
  wipe(): void;
}

/** The receiving half of a transport session. */
export interface PacketOpener {
  /**
   * Decrypts the `length` bytes at `offset` (ciphertext and its 16-byte tag) where they lie.
   * Returns false for a wrong tag; what then lies in the buffer is undefined and must be discarded.
   */
  open(buffer: Uint8Array, offset: number, length: number, counterLow: number, counterHigh: number): boolean;
  wipe(): void;
}

/** One AEAD of the Noise specification (section 12.3, 12.4): 32-byte key, 64-bit counter as nonce, 16-byte tag. */
export interface Aead {
  /** Returns ciphertext and tag. `counter` stays below 2^53: handshakes use 0. */
  seal(key: Uint8Array, counter: number, plaintext: Uint8Array, associatedData: Uint8Array): Uint8Array;
  /** Returns the plaintext, or undefined when the tag is wrong. */
  open(key: Uint8Array, counter: number, ciphertext: Uint8Array, associatedData: Uint8Array): Uint8Array | undefined;
  /** Copies `key`; the caller keeps (and wipes) its own. */
  sealer(key: Uint8Array): PacketSealer;
  opener(key: Uint8Array): PacketOpener;
}

export interface Crypto {
  /** For status: 'native', 'node' or 'noble', with the version of what is behind it. */
  readonly name: string;
  /** X25519 (RFC 7748) with the base point. */
  publicKey(privateKey: Uint8Array): Uint8Array;
  /** X25519; undefined when the result is all zeros, as it is for low-order points. */
  dh(privateKey: Uint8Array, publicKey: Uint8Array): Uint8Array | undefined;
  /** BLAKE2s-256 (RFC 7693) of the concatenated inputs. */
  hash(...inputs: readonly Uint8Array[]): Uint8Array;
  /** HMAC (RFC 2104) with BLAKE2s-256. */
  hmac(key: Uint8Array, ...inputs: readonly Uint8Array[]): Uint8Array;
  /** Keyed BLAKE2s with 16 bytes of output; the key has up to 32 bytes. */
  mac(key: Uint8Array, ...inputs: readonly Uint8Array[]): Uint8Array;
  aead(suite: CipherSuite): Aead;
  /** XChaCha20-Poly1305 with a 24-byte nonce (cookie replies). */
  xseal(key: Uint8Array, nonce: Uint8Array, plaintext: Uint8Array, associatedData: Uint8Array): Uint8Array;
  xopen(key: Uint8Array, nonce: Uint8Array, ciphertext: Uint8Array, associatedData: Uint8Array): Uint8Array | undefined;
  /** Compares without a data-dependent branch; false for different lengths. */
  equal(a: Uint8Array, b: Uint8Array): boolean;
}

/**
 * Zeroed bytes for a secret, outside of the JavaScript heap. What lies in it (any array of 64 bytes and less made the usual way)
 * is moved by the garbage collector, and wiping does not reach what that leaves behind.
 */
export function secretBytes(length: number): Uint8Array {
  return new Uint8Array(new ArrayBuffer(length));
}

/** A copy of a secret, to be wiped by its owner. */
export function copySecret(secret: Uint8Array): Uint8Array {
  const copy = secretBytes(secret.length);
  copy.set(secret);
  return copy;
}

/** Overwrites secrets with zeros. JavaScript may hold copies that no one can reach; see SECURITY.md. */
export function wipe(...secrets: readonly (Uint8Array | undefined)[]): void {
  for (const secret of secrets) secret?.fill(0);
}
