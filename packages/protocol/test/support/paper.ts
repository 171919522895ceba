/**
 * WireGuard written down a second time, straight from the paper (Donenfeld, NDSS 2017, section 5.4) and in its words.
 * It shares no line with the package under test; tests use it as the other side and to forge messages.
 */
import { chacha20poly1305, xchacha20poly1305 } from '@noble/ciphers/chacha.js';
import { x25519 } from '@noble/curves/ed25519.js';
import { blake2s } from '@noble/hashes/blake2.js';
import { hmac } from '@noble/hashes/hmac.js';
import { concat } from './bytes.ts';

const ascii = (text: string): Uint8Array => Uint8Array.from(text, (c) => c.codePointAt(0)!);
const CONSTRUCTION = ascii('Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s');
const IDENTIFIER = ascii('WireGuard v1 zx2c4 Jason@zx2c4.com');
const LABEL_MAC1 = ascii('mac1----');
const LABEL_COOKIE = ascii('cookie--');
const EMPTY = new Uint8Array(0);
const NO_PSK = new Uint8Array(32);

const HASH = (...input: Uint8Array[]): Uint8Array => blake2s(concat(...input));
const MAC = (key: Uint8Array, input: Uint8Array): Uint8Array => blake2s(input, { key, dkLen: 16 });
const HMAC = (key: Uint8Array, input: Uint8Array): Uint8Array => hmac(blake2s, key, input);

function KDF(n: number, key: Uint8Array, input: Uint8Array): Uint8Array[] {
  const t0 = HMAC(key, input);
  const t: Uint8Array[] = [];
  for (let i = 1; i <= n; i++) t.push(HMAC(t0, concat(t.at(-1) ?? EMPTY, Uint8Array.of(i))));
  return t;
}

function nonce(counter: bigint): Uint8Array {
  const bytes = new Uint8Array(12);
  new DataView(bytes.buffer).setBigUint64(4, counter, true);
  return bytes;
}

const AEAD = (key: Uint8Array, counter: bigint, plain: Uint8Array, auth: Uint8Array): Uint8Array =>
  chacha20poly1305(key, nonce(counter), auth).encrypt(plain);

function unAEAD(key: Uint8Array, counter: bigint, sealed: Uint8Array, auth: Uint8Array): Uint8Array | undefined {
  try {
    return chacha20poly1305(key, nonce(counter), auth).decrypt(sealed);
  } catch {
    return undefined;
  }
}

export const DH = (privateKey: Uint8Array, publicKey: Uint8Array): Uint8Array =>
  x25519.getSharedSecret(privateKey, publicKey);
export const publicOf = (privateKey: Uint8Array): Uint8Array => x25519.getPublicKey(privateKey);

function u32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}

export const readU32 = (bytes: Uint8Array, offset: number): number =>
  new DataView(bytes.buffer, bytes.byteOffset).getUint32(offset, true);

/** Section 5.1: TAI64N; whitened as implementations do. */
export function tai64n(unixMs: number): Uint8Array {
  const bytes = new Uint8Array(12);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, 0x400000000000000an + BigInt(Math.floor(unixMs / 1000)));
  view.setUint32(8, (Math.floor(unixMs % 1000) * 1_000_000) & ~0xff_ffff);
  return bytes;
}

export interface Keys {
  readonly send: Uint8Array;
  readonly receive: Uint8Array;
  readonly chainingKey: Uint8Array;
  readonly hash: Uint8Array;
}

/** Section 5.4.4: mac1 under the receiver's public key, mac2 under a cookie if there is one. */
export function withMacs(body: Uint8Array, receiverPublic: Uint8Array, cookie?: Uint8Array): Uint8Array {
  const mac1 = MAC(HASH(LABEL_MAC1, receiverPublic), body);
  const first = concat(body, mac1);
  return concat(first, cookie === undefined ? new Uint8Array(16) : MAC(cookie, first));
}

/** Section 5.4.2, made by an initiator. */
export function initiation(given: {
  readonly staticPrivate: Uint8Array;
  readonly responderPublic: Uint8Array;
  readonly ephemeralPrivate: Uint8Array;
  readonly sender: number;
  readonly timestamp: Uint8Array;
  readonly presharedKey?: Uint8Array;
  readonly cookie?: Uint8Array;
}): {
  readonly message: Uint8Array;
  readonly mac1: Uint8Array;
  readonly finish: (response: Uint8Array) => (Keys & { readonly receiver: number }) | undefined;
} {
  let C = HASH(CONSTRUCTION);
  let H = HASH(C, IDENTIFIER);
  H = HASH(H, given.responderPublic);
  const E = publicOf(given.ephemeralPrivate);
  [C] = KDF(1, C, E) as [Uint8Array];
  H = HASH(H, E);
  let k: Uint8Array;
  [C, k] = KDF(2, C, DH(given.ephemeralPrivate, given.responderPublic)) as [Uint8Array, Uint8Array];
  const encryptedStatic = AEAD(k, 0n, publicOf(given.staticPrivate), H);
  H = HASH(H, encryptedStatic);
  [C, k] = KDF(2, C, DH(given.staticPrivate, given.responderPublic)) as [Uint8Array, Uint8Array];
  const encryptedTimestamp = AEAD(k, 0n, given.timestamp, H);
  H = HASH(H, encryptedTimestamp);
  const body = concat(Uint8Array.of(1, 0, 0, 0), u32(given.sender), E, encryptedStatic, encryptedTimestamp);
  const message = withMacs(body, given.responderPublic, given.cookie);
  return {
    message,
    mac1: message.slice(116, 132),
    finish(response) {
      if (response.length !== 92 || readU32(response, 8) !== given.sender) return undefined;
      const Er = response.subarray(12, 44);
      let [c] = KDF(1, C, Er) as [Uint8Array];
      let h = HASH(H, Er);
      [c] = KDF(1, c, DH(given.ephemeralPrivate, Er)) as [Uint8Array];
      [c] = KDF(1, c, DH(given.staticPrivate, Er)) as [Uint8Array];
      const [c2, t, k2] = KDF(3, c, given.presharedKey ?? NO_PSK) as [Uint8Array, Uint8Array, Uint8Array];
      h = HASH(h, t);
      const empty = response.subarray(44, 60);
      if (unAEAD(k2, 0n, empty, h) === undefined) return undefined;
      h = HASH(h, empty);
      const [send, receive] = KDF(2, c2, EMPTY) as [Uint8Array, Uint8Array];
      return { send, receive, chainingKey: c2, hash: h, receiver: readU32(response, 4) };
    },
  };
}

/** Sections 5.4.2 and 5.4.3, made by a responder; undefined when the initiation does not open. */
export function answer(
  message: Uint8Array,
  given: {
    readonly staticPrivate: Uint8Array;
    readonly ephemeralPrivate: Uint8Array;
    readonly sender: number;
    readonly presharedKey?: Uint8Array;
    readonly cookie?: Uint8Array;
  },
):
  | (Keys & {
      readonly response: Uint8Array;
      readonly initiator: Uint8Array;
      readonly timestamp: Uint8Array;
      readonly receiver: number;
    })
  | undefined {
  const own = publicOf(given.staticPrivate);
  let C = HASH(CONSTRUCTION);
  let H = HASH(HASH(C, IDENTIFIER), own);
  const Ei = message.subarray(8, 40);
  [C] = KDF(1, C, Ei) as [Uint8Array];
  H = HASH(H, Ei);
  let k: Uint8Array;
  [C, k] = KDF(2, C, DH(given.staticPrivate, Ei)) as [Uint8Array, Uint8Array];
  const initiator = unAEAD(k, 0n, message.subarray(40, 88), H);
  if (initiator === undefined) return undefined;
  H = HASH(H, message.subarray(40, 88));
  [C, k] = KDF(2, C, DH(given.staticPrivate, initiator)) as [Uint8Array, Uint8Array];
  const timestamp = unAEAD(k, 0n, message.subarray(88, 116), H);
  if (timestamp === undefined) return undefined;
  H = HASH(H, message.subarray(88, 116));

  const Er = publicOf(given.ephemeralPrivate);
  [C] = KDF(1, C, Er) as [Uint8Array];
  H = HASH(H, Er);
  [C] = KDF(1, C, DH(given.ephemeralPrivate, Ei)) as [Uint8Array];
  [C] = KDF(1, C, DH(given.ephemeralPrivate, initiator)) as [Uint8Array];
  const [Cr, t, kr] = KDF(3, C, given.presharedKey ?? NO_PSK) as [Uint8Array, Uint8Array, Uint8Array];
  H = HASH(H, t);
  const empty = AEAD(kr, 0n, EMPTY, H);
  H = HASH(H, empty);
  const [receive, send] = KDF(2, Cr, EMPTY) as [Uint8Array, Uint8Array];
  const body = concat(Uint8Array.of(2, 0, 0, 0), u32(given.sender), message.subarray(4, 8), Er, empty);
  return {
    response: withMacs(body, initiator, given.cookie),
    send,
    receive,
    chainingKey: Cr,
    hash: H,
    initiator,
    timestamp,
    receiver: readU32(message, 4),
  };
}

/** Section 5.4.6: a transport data message; the plaintext is taken as it is, padding included. */
export function data(key: Uint8Array, receiver: number, counter: bigint, plaintext: Uint8Array): Uint8Array {
  const header = concat(Uint8Array.of(4, 0, 0, 0), u32(receiver), nonce(counter).subarray(4));
  return concat(header, AEAD(key, counter, plaintext, EMPTY));
}

export const counterOf = (message: Uint8Array): bigint =>
  new DataView(message.buffer, message.byteOffset).getBigUint64(8, true);

export function openData(key: Uint8Array, message: Uint8Array): Uint8Array | undefined {
  return unAEAD(key, counterOf(message), message.subarray(16), EMPTY);
}

/** Section 5.4.7. */
export function cookieReply(given: {
  readonly responderPublic: Uint8Array;
  readonly receiver: number;
  readonly nonce: Uint8Array;
  readonly cookie: Uint8Array;
  readonly mac1: Uint8Array;
}): Uint8Array {
  const key = HASH(LABEL_COOKIE, given.responderPublic);
  const sealed = xchacha20poly1305(key, given.nonce, given.mac1).encrypt(given.cookie);
  return concat(Uint8Array.of(3, 0, 0, 0), u32(given.receiver), given.nonce, sealed);
}

export function openCookieReply(
  reply: Uint8Array,
  responderPublic: Uint8Array,
  mac1: Uint8Array,
): Uint8Array | undefined {
  try {
    return xchacha20poly1305(HASH(LABEL_COOKIE, responderPublic), reply.subarray(8, 32), mac1).decrypt(
      reply.subarray(32),
    );
  } catch {
    return undefined;
  }
}
