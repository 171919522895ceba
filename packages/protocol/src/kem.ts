/**
 * ML-KEM-768 (FIPS 203) with the randomness injected. What is handed out is secret outside of the JavaScript heap, to be wiped by
 * its owner; noble's arithmetic leaves copies of the shared secret and of what it is made of in the heap, out of our reach.
 */
import { ml_kem768 } from '@noble/post-quantum/ml-kem.js';
import { copySecret, wipe } from './crypto.ts';

export const ENCAPSULATION_KEY_LENGTH = 1_184;
export const CIPHERTEXT_LENGTH = 1_088;

const SEED_LENGTH = 64;
const MESSAGE_LENGTH = 32;

export interface KemKeys {
  readonly encapsulationKey: Uint8Array;
  /** Its owner wipes it. */
  readonly decapsulationKey: Uint8Array;
}

/** `ML-KEM.KeyGen` (FIPS 203 section 7.1). */
export function generateKemKeys(random: (length: number) => Uint8Array): KemKeys {
  const seed = random(SEED_LENGTH);
  const { publicKey, secretKey } = ml_kem768.keygen(seed);
  wipe(seed);
  return { encapsulationKey: publicKey, decapsulationKey: secretKey };
}

/** `ML-KEM.Encaps` (section 7.2). Undefined for a key that fails the checks of that section. */
export function encapsulate(
  encapsulationKey: Uint8Array,
  random: (length: number) => Uint8Array,
): { readonly ciphertext: Uint8Array; readonly sharedSecret: Uint8Array } | undefined {
  const message = random(MESSAGE_LENGTH);
  try {
    const { cipherText, sharedSecret } = ml_kem768.encapsulate(encapsulationKey, message);
    return { ciphertext: cipherText, sharedSecret: outOfHeap(sharedSecret) };
  } catch {
    // Nothing else can be wrong: the length of the message is ours.
    return undefined;
  } finally {
    wipe(message);
  }
}

/**
 * `ML-KEM.Decaps` (section 7.3). A ciphertext that was not made for this key gives a secret that nobody else knows, not an
 * error (implicit rejection). Undefined for a wrong length.
 */
export function decapsulate(ciphertext: Uint8Array, decapsulationKey: Uint8Array): Uint8Array | undefined {
  if (ciphertext.length !== CIPHERTEXT_LENGTH) return undefined;
  return outOfHeap(ml_kem768.decapsulate(ciphertext, decapsulationKey));
}

function outOfHeap(secret: Uint8Array): Uint8Array {
  const copy = copySecret(secret);
  wipe(secret);
  return copy;
}
