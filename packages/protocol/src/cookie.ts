/** The denial-of-service defence of the paper (sections 5.3, 5.4.4 and 5.4.7): mac1, mac2 and cookie replies. */
import { COOKIE_SECRET_LATENCY, COOKIE_SECRET_LIFETIME } from './constants.ts';
import type { Crypto } from './crypto.ts';
import { wipe } from './crypto.ts';
import type { Endpoint } from './endpoint.ts';
import { encodeCookieReply, mac1Offset, MAC_LENGTH, senderIndex } from './messages.ts';
import type { CookieReply } from './messages.ts';

const LABEL_MAC1 = Uint8Array.from('mac1----', (character) => character.charCodeAt(0));
const LABEL_COOKIE = Uint8Array.from('cookie--', (character) => character.charCodeAt(0));
const NONCE_LENGTH = 24;
/** Nonces drawn at once: asking the system for each costs more than the rest of a reply. */
const NONCES = 32;

/** Judges the MACs of handshake messages to us and makes cookie replies. */
export class CookieChecker {
  readonly #crypto: Crypto;
  readonly #random: (length: number) => Uint8Array;
  readonly #mac1Key: Uint8Array;
  readonly #cookieKey: Uint8Array;
  #secret: Uint8Array | undefined;
  #secretAt = 0;
  #nonces: Uint8Array = new Uint8Array(0);
  #noncesUsed = 0;

  constructor(crypto: Crypto, random: (length: number) => Uint8Array, ourPublicKey: Uint8Array) {
    this.#crypto = crypto;
    this.#random = random;
    this.#mac1Key = crypto.hash(LABEL_MAC1, ourPublicKey);
    this.#cookieKey = crypto.hash(LABEL_COOKIE, ourPublicKey);
  }

  checkMac1(message: Uint8Array): boolean {
    const at = mac1Offset(message);
    const expected = this.#crypto.mac(this.#mac1Key, message.subarray(0, at));
    return this.#crypto.equal(expected, message.subarray(at, at + MAC_LENGTH));
  }

  /** True when the sender proved with our cookie that it receives at `source`. */
  checkMac2(message: Uint8Array, source: Endpoint, now: number): boolean {
    if (this.#secret === undefined || now - this.#secretAt >= COOKIE_SECRET_LIFETIME) return false;
    const at = mac1Offset(message) + MAC_LENGTH;
    // Section 5.4.4: zeros stand there when the sender has no cookie.
    if (message.subarray(at, at + MAC_LENGTH).every((byte) => byte === 0)) return false;
    const cookie = this.#crypto.mac(this.#secret, sourceBytes(source));
    const expected = this.#crypto.mac(cookie, message.subarray(0, at));
    return this.#crypto.equal(expected, message.subarray(at, at + MAC_LENGTH));
  }

  /** The reply that hands `source` its cookie, encrypted so that only the sender of `message` can read it. */
  createReply(message: Uint8Array, source: Endpoint, now: number): Uint8Array {
    if (this.#secret === undefined || now - this.#secretAt >= COOKIE_SECRET_LIFETIME) {
      wipe(this.#secret);
      this.#secret = this.#random(32);
      this.#secretAt = now;
    }
    const at = mac1Offset(message);
    const nonce = this.#nonce();
    const cookie = this.#crypto.mac(this.#secret, sourceBytes(source));
    const encryptedCookie = this.#crypto.xseal(this.#cookieKey, nonce, cookie, message.subarray(at, at + MAC_LENGTH));
    return encodeCookieReply({ receiver: senderIndex(message), nonce, encryptedCookie });
  }

  wipe(): void {
    wipe(this.#secret, this.#mac1Key, this.#cookieKey);
    this.#secret = undefined;
  }

  #nonce(): Uint8Array {
    const from = this.#noncesUsed;
    if (from === this.#nonces.length) {
      this.#nonces = this.#random(NONCES * NONCE_LENGTH);
      this.#noncesUsed = 0;
      return this.#nonce();
    }
    this.#noncesUsed = from + NONCE_LENGTH;
    return this.#nonces.subarray(from, this.#noncesUsed);
  }
}

/** Puts MACs on handshake messages to one peer and keeps the cookie that the peer gave us. */
export class CookieGenerator {
  readonly #crypto: Crypto;
  readonly #mac1Key: Uint8Array;
  readonly #cookieKey: Uint8Array;
  /** mac1 of the last message sent: a cookie reply must be about it. */
  #lastMac1: Uint8Array | undefined;
  #cookie: Uint8Array | undefined;
  #cookieAt = 0;

  constructor(crypto: Crypto, peerPublicKey: Uint8Array) {
    this.#crypto = crypto;
    this.#mac1Key = crypto.hash(LABEL_MAC1, peerPublicKey);
    this.#cookieKey = crypto.hash(LABEL_COOKIE, peerPublicKey);
  }

  /** Writes mac1, and mac2 while we hold a fresh cookie, into the message. */
  addMacs(message: Uint8Array, now: number): void {
    const at = mac1Offset(message);
    const mac1 = this.#crypto.mac(this.#mac1Key, message.subarray(0, at));
    message.set(mac1, at);
    this.#lastMac1 = mac1;
    if (this.#cookie === undefined) return;
    if (now - this.#cookieAt >= COOKIE_SECRET_LIFETIME - COOKIE_SECRET_LATENCY) {
      this.clear();
      return;
    }
    message.set(this.#crypto.mac(this.#cookie, message.subarray(0, at + MAC_LENGTH)), at + MAC_LENGTH);
  }

  /** Takes the cookie of a reply; false when it is not about the last message sent or not authentic. */
  consumeReply(reply: CookieReply, now: number): boolean {
    if (this.#lastMac1 === undefined) return false;
    const cookie = this.#crypto.xopen(this.#cookieKey, reply.nonce, reply.encryptedCookie, this.#lastMac1);
    if (cookie === undefined) return false;
    wipe(this.#cookie);
    this.#cookie = cookie;
    this.#cookieAt = now;
    // One reply a message: a recorded one cannot be played again.
    this.#lastMac1 = undefined;
    return true;
  }

  /** Forgets the cookie, as when the peer moved or was removed. */
  clear(): void {
    wipe(this.#cookie);
    this.#cookie = undefined;
  }
}

function sourceBytes(source: Endpoint): Uint8Array {
  const bytes = new Uint8Array(source.address.length + 2);
  bytes.set(source.address);
  bytes[bytes.length - 2] = source.port >>> 8;
  bytes[bytes.length - 1] = source.port;
  return bytes;
}
