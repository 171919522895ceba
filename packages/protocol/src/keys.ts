/** Keys as people handle them: 32 bytes, 44 characters of base64. */

export const KEY_LENGTH = 32;

const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';
const ENCODED_LENGTH = 44;

/** A fresh X25519 private key, clamped as `wg genkey` does (RFC 7748 section 5). */
export function generatePrivateKey(random: (length: number) => Uint8Array): Uint8Array {
  return clamp(random(KEY_LENGTH));
}

/** Clamps in place and returns the key. */
export function clamp(privateKey: Uint8Array): Uint8Array {
  privateKey[0]! &= 248;
  privateKey[31] = (privateKey[31]! & 127) | 64;
  return privateKey;
}

/** Parses canonical base64 of exactly 32 bytes; undefined otherwise. */
export function parseKey(text: string): Uint8Array | undefined {
  if (text.length !== ENCODED_LENGTH || text[ENCODED_LENGTH - 1] !== '=') return undefined;
  const bytes = new Uint8Array(KEY_LENGTH);
  let bits = 0;
  let bitCount = 0;
  let at = 0;
  for (let i = 0; i < ENCODED_LENGTH - 1; i++) {
    const value = ALPHABET.indexOf(text[i]!);
    if (value < 0) return undefined;
    bits = ((bits << 6) | value) & 0xffff;
    bitCount += 6;
    if (bitCount < 8) continue;
    bitCount -= 8;
    bytes[at++] = bits >>> bitCount;
  }
  const canonical = (bits & ((1 << bitCount) - 1)) === 0;
  return canonical ? bytes : undefined;
}

export function formatKey(key: Uint8Array): string {
  let text = '';
  for (let i = 0; i < key.length; i += 3) {
    const group = (key[i]! << 16) | ((key[i + 1] ?? 0) << 8) | (key[i + 2] ?? 0);
    text += ALPHABET[group >>> 18]! + ALPHABET[(group >>> 12) & 63]!;
    text += i + 1 < key.length ? ALPHABET[(group >>> 6) & 63]! : '=';
    text += i + 2 < key.length ? ALPHABET[group & 63]! : '=';
  }
  return text;
}

export function isZeroKey(key: Uint8Array): boolean {
  let bits = 0;
  for (const byte of key) bits |= byte;
  return bits === 0;
}

/** The order of two public keys, which both of their owners see alike. */
export function isSmaller(publicKey: Uint8Array, than: Uint8Array): boolean {
  return keyId(publicKey) < keyId(than);
}

/** A map key for public keys: one character a byte. */
export function keyId(publicKey: Uint8Array): string {
  return String.fromCharCode(...publicKey);
}
