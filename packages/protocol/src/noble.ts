/** The reference implementation of `Crypto` on the noble libraries: every platform, no native code. */
import { gcm } from '@noble/ciphers/aes.js';
import { chacha20poly1305, xchacha20poly1305 } from '@noble/ciphers/chacha.js';
import { x25519 } from '@noble/curves/ed25519.js';
import { blake2s } from '@noble/hashes/blake2.js';
import { hmac } from '@noble/hashes/hmac.js';
import type { Aead, CipherSuite, Crypto, PacketOpener, PacketSealer } from './crypto.ts';
import { copySecret, wipe } from './crypto.ts';

type NobleCipher = (
  key: Uint8Array,
  nonce: Uint8Array,
  associatedData?: Uint8Array,
) => {
  encrypt(plaintext: Uint8Array, output?: Uint8Array): Uint8Array;
  decrypt(ciphertext: Uint8Array, output?: Uint8Array): Uint8Array;
};

/** Noise section 12.3: 32 zero bits, then the counter in little endian. */
function chachaNonce(low: number, high: number): Uint8Array {
  const nonce = new Uint8Array(12);
  const view = new DataView(nonce.buffer);
  view.setUint32(4, low, true);
  view.setUint32(8, high, true);
  return nonce;
}

/** Noise section 12.4: 32 zero bits, then the counter in big endian. */
function gcmNonce(low: number, high: number): Uint8Array {
  const nonce = new Uint8Array(12);
  const view = new DataView(nonce.buffer);
  view.setUint32(4, high);
  view.setUint32(8, low);
  return nonce;
}

class NoblePacketCipher implements PacketSealer, PacketOpener {
  readonly #key: Uint8Array;
  readonly #cipher: NobleCipher;
  readonly #nonce: (low: number, high: number) => Uint8Array;

  constructor(key: Uint8Array, cipher: NobleCipher, nonce: (low: number, high: number) => Uint8Array) {
    this.#key = copySecret(key);
    this.#cipher = cipher;
    this.#nonce = nonce;
  }

  seal(buffer: Uint8Array, offset: number, length: number, low: number, high: number): void {
    const sealed = this.#cipher(this.#key, this.#nonce(low, high)).encrypt(buffer.subarray(offset, offset + length));
    buffer.set(sealed, offset);
  }

  open(buffer: Uint8Array, offset: number, length: number, low: number, high: number): boolean {
    try {
      const packet = buffer.subarray(offset, offset + length);
      buffer.set(this.#cipher(this.#key, this.#nonce(low, high)).decrypt(packet), offset);
      return true;
    } catch {
      return false;
    }
  }

  wipe(): void {
    wipe(this.#key);
  }
}

function nobleAead(cipher: NobleCipher, nonce: (low: number, high: number) => Uint8Array): Aead {
  const nonceOf = (counter: number): Uint8Array => nonce(counter >>> 0, Math.floor(counter / 2 ** 32));
  return {
    seal: (key, counter, plaintext, associatedData) => cipher(key, nonceOf(counter), associatedData).encrypt(plaintext),
    open: (key, counter, ciphertext, associatedData) =>
      decryptOrUndefined(cipher, key, nonceOf(counter), ciphertext, associatedData),
    sealer: (key) => new NoblePacketCipher(key, cipher, nonce),
    opener: (key) => new NoblePacketCipher(key, cipher, nonce),
  };
}

function decryptOrUndefined(
  cipher: NobleCipher,
  key: Uint8Array,
  nonce: Uint8Array,
  ciphertext: Uint8Array,
  associatedData: Uint8Array,
): Uint8Array | undefined {
  try {
    return cipher(key, nonce, associatedData).decrypt(ciphertext);
  } catch {
    return undefined;
  }
}

const AEADS: Readonly<Record<CipherSuite, Aead>> = {
  chacha20poly1305: nobleAead(chacha20poly1305, chachaNonce),
  aes256gcm: nobleAead(gcm, gcmNonce),
};

export const nobleCrypto: Crypto = {
  name: 'noble',
  publicKey: (privateKey) => x25519.getPublicKey(privateKey),
  dh(privateKey, publicKey) {
    try {
      return x25519.getSharedSecret(privateKey, publicKey);
    } catch {
      return undefined;
    }
  },
  hash(...inputs) {
    const state = blake2s.create({});
    for (const input of inputs) state.update(input);
    return state.digest();
  },
  hmac(key, ...inputs) {
    const state = hmac.create(blake2s, key);
    for (const input of inputs) state.update(input);
    return state.digest();
  },
  mac(key, ...inputs) {
    const state = blake2s.create({ key, dkLen: 16 });
    for (const input of inputs) state.update(input);
    return state.digest();
  },
  aead: (suite) => AEADS[suite],
  xseal: (key, nonce, plaintext, associatedData) => xchacha20poly1305(key, nonce, associatedData).encrypt(plaintext),
  xopen: (key, nonce, ciphertext, associatedData) =>
    decryptOrUndefined(xchacha20poly1305, key, nonce, ciphertext, associatedData),
  equal(a, b) {
    if (a.length !== b.length) return false;
    let difference = 0;
    for (let i = 0; i < a.length; i++) difference |= a[i]! ^ b[i]!;
    return difference === 0;
  },
};
