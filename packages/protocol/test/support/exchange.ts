/**
 * The post-quantum exchange written down a second time, from its description and with noble's own HKDF. It shares no line with
 * the package under test; tests use it as the other side and to forge messages.
 */
import { blake2s } from '@noble/hashes/blake2.js';
import { hkdf } from '@noble/hashes/hkdf.js';
import { hmac } from '@noble/hashes/hmac.js';
import { ml_kem768 } from '@noble/post-quantum/ml-kem.js';
import { concat } from './bytes.ts';

const ascii = (text: string): Uint8Array => Uint8Array.from(text, (c) => c.codePointAt(0)!);

export function message(type: 1 | 2, id: Uint8Array, body: Uint8Array): Uint8Array {
  return concat(Uint8Array.of(0xf0, 0x73, 0x70, 0x71, 1, type, 0, 0), id, body);
}

export interface ParsedMessage {
  readonly type: number;
  readonly id: Uint8Array;
  readonly body: Uint8Array;
}

/** Undefined when it is no message of the exchange. */
export function parse(plaintext: Uint8Array): ParsedMessage | undefined {
  const magic = [0xf0, 0x73, 0x70, 0x71, 1].every((byte, i) => plaintext[i] === byte);
  if (!magic || plaintext[6] !== 0 || plaintext[7] !== 0) return undefined;
  return { type: plaintext[5]!, id: plaintext.slice(8, 16), body: plaintext.slice(16) };
}

export interface DerivedKey {
  readonly key: Uint8Array;
  readonly name: number;
}

export function derive(given: {
  readonly secret: Uint8Array;
  readonly offeredBy: Uint8Array;
  readonly answeredBy: Uint8Array;
  readonly id: Uint8Array;
  readonly encapsulationKey: Uint8Array;
  readonly ciphertext: Uint8Array;
  readonly presharedKey?: Uint8Array;
}): DerivedKey {
  const { offeredBy, answeredBy, id, encapsulationKey, ciphertext } = given;
  const label = ascii('sealane post-quantum psk v1');
  const transcript = blake2s(concat(label, offeredBy, answeredBy, id, encapsulationKey, ciphertext));
  const salt = given.presharedKey ?? new Uint8Array(32);
  const key = hkdf(blake2s, concat(given.secret, transcript), salt, undefined, 32);
  return { key, name: nameOf(key) };
}

export function nameOf(key: Uint8Array): number {
  const hash = hmac(blake2s, key, ascii('sealane psk name'));
  return 1 + (new DataView(hash.buffer, hash.byteOffset).getUint32(0, true) % (0x9aca00 - 1));
}

/** A TAI64N timestamp that names a key. */
export function naming(timestamp: Uint8Array, name: number): Uint8Array {
  const copy = timestamp.slice();
  const view = new DataView(copy.buffer);
  view.setUint32(8, view.getUint32(8) + name);
  return copy;
}

export const nameIn = (timestamp: Uint8Array): number =>
  new DataView(timestamp.buffer, timestamp.byteOffset).getUint32(8) % 2 ** 24;

export const kem: typeof ml_kem768 = ml_kem768;
