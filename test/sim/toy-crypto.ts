/**
 * Primitives with the shape of the real ones and none of their strength, a hundred times as fast: for runs in which the
 * protocol's state machine is the subject and the cryptography is not. Tags still fail for another key, counter or bit.
 */
import { nobleCrypto, wipe } from '@sealane/protocol';
import type { Aead, Crypto, PacketOpener, PacketSealer } from '@sealane/protocol';

const TAG_LENGTH = 16;
const PRIME = 67_108_859;
const GENERATOR = 2;

/** Products of two numbers below 2^26 are exact. */
function power(base: number, exponent: number): number {
  let result = 1;
  let square = base;
  for (let e = exponent; e > 0; e = Math.floor(e / 2)) {
    if (e % 2 === 1) result = (result * square) % PRIME;
    square = (square * square) % PRIME;
  }
  return result;
}

/** Eight words in, mixed once more; the key's clamped bits are not among those that count. */
function exponentOf(privateKey: Uint8Array): number {
  const [a, b] = digest([privateKey.subarray(1, 31)]) as unknown as [number, number];
  return (a ^ b) >>> 0;
}

function element(value: number): Uint8Array {
  const bytes = new Uint8Array(32);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, value);
  for (let i = 4; i < 32; i += 4) view.setUint32(i, Math.imul(value + i, 0x9e3779b1));
  return bytes;
}

/** Shared by all, because nothing here is called again before it returns. */
const lanes = new Uint32Array(8);

function digest(inputs: readonly Uint8Array[]): Uint32Array {
  for (let i = 0; i < 8; i++) lanes[i] = 0x811c9dc5 + i;
  let at = 0;
  let carry = 0;
  for (const input of inputs) {
    for (let i = 0; i < input.length; i++) {
      carry = Math.imul(carry ^ lanes[at & 7]! ^ input[i]!, 0x01000193);
      carry = (carry << 13) | (carry >>> 19);
      lanes[at & 7] = carry;
      at++;
    }
  }
  for (let i = 0; i < 24; i++) {
    carry = Math.imul(carry ^ lanes[i & 7]! ^ at, 0x85ebca6b);
    carry ^= carry >>> 15;
    lanes[i & 7] = carry;
  }
  return lanes;
}

function hashOf(length: number, ...inputs: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(digest(inputs).buffer.slice(0, length));
}

function counterBytes(low: number, high: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(low, high).buffer);
}

class ToyPacketCipher implements PacketSealer, PacketOpener {
  readonly #key: Uint32Array;

  constructor(key: Uint8Array) {
    this.#key = new Uint32Array(key.slice().buffer);
  }

  seal(buffer: Uint8Array, offset: number, length: number, low: number, high: number): void {
    const tag = this.#tag(buffer, offset, length, low, high);
    const at = offset + length;
    for (let i = 0; i < TAG_LENGTH; i++) buffer[at + i] = tag >>> ((i & 3) * 8);
  }

  open(buffer: Uint8Array, offset: number, length: number, low: number, high: number): boolean {
    if (length < TAG_LENGTH) return false;
    const tag = this.#tag(buffer, offset, length - TAG_LENGTH, low, high);
    const at = offset + length - TAG_LENGTH;
    let difference = 0;
    for (let i = 0; i < TAG_LENGTH; i++) difference |= buffer[at + i]! ^ ((tag >>> ((i & 3) * 8)) & 0xff);
    return difference === 0;
  }

  wipe(): void {
    this.#key.fill(0);
  }

  #tag(buffer: Uint8Array, offset: number, length: number, low: number, high: number): number {
    let tag = Math.imul(low ^ this.#key[0]!, 0x85ebca6b) ^ Math.imul(high ^ this.#key[1]!, 0xc2b2ae35) ^ this.#key[2]!;
    for (let i = offset; i < offset + length; i++) {
      tag = Math.imul(tag ^ buffer[i]!, 0x01000193);
      tag = (tag << 13) | (tag >>> 19);
    }
    tag = Math.imul(tag ^ (tag >>> 16) ^ length, 0x85ebca6b);
    return tag ^ (tag >>> 13);
  }
}

const aead: Aead = {
  seal(key, counter, plaintext, associatedData) {
    const sealed = new Uint8Array(plaintext.length + TAG_LENGTH);
    sealed.set(plaintext);
    sealed.set(hashOf(TAG_LENGTH, key, counterBytes(counter, 0), associatedData, plaintext), plaintext.length);
    return sealed;
  },
  open(key, counter, ciphertext, associatedData) {
    if (ciphertext.length < TAG_LENGTH) return undefined;
    const plaintext = ciphertext.slice(0, -TAG_LENGTH);
    const tag = hashOf(TAG_LENGTH, key, counterBytes(counter, 0), associatedData, plaintext);
    return nobleCrypto.equal(tag, ciphertext.subarray(-TAG_LENGTH)) ? plaintext : undefined;
  },
  sealer: (key) => new ToyPacketCipher(key),
  opener: (key) => new ToyPacketCipher(key),
};

export const toyCrypto: Crypto = {
  name: 'toy',
  publicKey: (privateKey) => element(power(GENERATOR, exponentOf(privateKey))),
  dh(privateKey, publicKey) {
    const base = new DataView(publicKey.buffer, publicKey.byteOffset).getUint32(0) % PRIME;
    return base < 2 ? undefined : element(power(base, exponentOf(privateKey)));
  },
  hash: (...inputs) => hashOf(32, ...inputs),
  hmac: (key, ...inputs) => hashOf(32, key, ...inputs),
  mac: (key, ...inputs) => hashOf(16, key, ...inputs),
  aead: () => aead,
  xseal: (key, nonce, plaintext, associatedData) => {
    const keyed = hashOf(32, key, nonce);
    const sealed = aead.seal(keyed, 0, plaintext, associatedData);
    wipe(keyed);
    return sealed;
  },
  xopen: (key, nonce, ciphertext, associatedData) => aead.open(hashOf(32, key, nonce), 0, ciphertext, associatedData),
  equal: (a, b) => nobleCrypto.equal(a, b),
};
