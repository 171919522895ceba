/** Packet ciphers through libcrypto's EVP: one context a key and direction; a packet changes only the nonce. */
import type { Aead, CipherSuite, PacketOpener, PacketSealer } from '@sealane/protocol';
import { addressOf, foreign, type ForeignFunction } from '../linux/foreign.ts';
import { LowPool, type LowSlot } from '../linux/low-memory.ts';

export interface EvpCipher {
  /** EVP_chacha20_poly1305() or EVP_aes_256_gcm(). */
  readonly algorithm: number;
  /** Whether the counter stands in the nonce in big endian (Noise section 12.4) instead of little (12.3). */
  readonly bigEndian: boolean;
}

const TAG_LENGTH = 16;
const EVP_CTRL_AEAD_SET_TAG = 0x11;

/** The ciphers of this libcrypto. Throws when it has not all of them. */
export function bindEvp(): Readonly<Record<CipherSuite, EvpCipher>> {
  return {
    chacha20poly1305: { algorithm: foreign('uintptr_t EVP_chacha20_poly1305()')(), bigEndian: false },
    aes256gcm: { algorithm: foreign('uintptr_t EVP_aes_256_gcm()')(), bigEndian: true },
  };
}

interface Functions {
  readonly create: ForeignFunction;
  readonly free: ForeignFunction;
  readonly initEncrypt: ForeignFunction;
  readonly initDecrypt: ForeignFunction;
  readonly finalEncrypt: ForeignFunction;
  readonly finalDecrypt: ForeignFunction;
  readonly cipher: ForeignFunction;
  readonly control: ForeignFunction;
  readonly read: ForeignFunction;
}

let bound: Functions | undefined;

function functions(): Functions {
  bound ??= {
    create: foreign('uintptr_t EVP_CIPHER_CTX_new()'),
    free: foreign('void EVP_CIPHER_CTX_free(uintptr_t)'),
    initEncrypt: foreign('int EVP_EncryptInit_ex(uintptr_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t)'),
    initDecrypt: foreign('int EVP_DecryptInit_ex(uintptr_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t)'),
    finalEncrypt: foreign('int EVP_EncryptFinal_ex(uintptr_t, uintptr_t, uintptr_t)'),
    finalDecrypt: foreign('int EVP_DecryptFinal_ex(uintptr_t, uintptr_t, uintptr_t)'),
    cipher: foreign('int EVP_Cipher(uintptr_t, uintptr_t, uintptr_t, uint32_t)'),
    control: foreign('int EVP_CIPHER_CTX_ctrl(uintptr_t, int, int, uintptr_t)'),
    read: foreign('int EVP_CIPHER_CTX_get_params(uintptr_t, uintptr_t)'),
  };
  return bound;
}

/** Sealers and openers of one cipher. */
export function evpPacketCipher(cipher: EvpCipher): Pick<Aead, 'sealer' | 'opener'> {
  return {
    sealer: (key) => new EvpSealer(cipher, key),
    opener: (key) => new EvpOpener(cipher, key),
  };
}

const pool = new LowPool(192);

/** The context and, at fixed places, the nonce and the request for the tag (an OSSL_PARAM array). */
class EvpContext {
  readonly call: Functions = functions();
  /** Beside something that is no number, V8 keeps the address as the object that calls take. */
  readonly context: readonly [number, undefined];
  readonly nonce: number;
  readonly tagRequest: number;
  /** Where C leaves the number of bytes that it wrote last: none, for these ciphers. */
  readonly written: number;
  readonly #slot: LowSlot;
  readonly #view: DataView;
  readonly #bigEndian: boolean;

  constructor(cipher: EvpCipher, key: Uint8Array, encrypt: boolean) {
    this.#slot = pool.take();
    const { bytes, address: base } = this.#slot;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#bigEndian = cipher.bigEndian;
    this.nonce = base;
    this.tagRequest = base + 64;
    this.written = base + 52;
    // { "tag", OSSL_PARAM_OCTET_STRING, address of the tag, 16 } and the empty one that ends the list.
    bytes.set([0x74, 0x61, 0x67], 48);
    this.#view.setBigUint64(64, BigInt(base + 48), true);
    this.#view.setUint32(72, 5, true);
    this.#view.setBigUint64(88, 16n, true);

    const context = this.call.create();
    this.context = [context, undefined];
    if (context === 0) throw new Error('libcrypto has no memory for a cipher context');
    bytes.set(key, 16);
    const init = encrypt ? this.call.initEncrypt : this.call.initDecrypt;
    const ready = init(context, cipher.algorithm, 0, base + 16, 0);
    bytes.fill(0, 16, 48);
    if (ready !== 1) throw new Error('libcrypto refuses the cipher');
  }

  free(): void {
    // Frees and cleanses the key schedule.
    this.call.free(this.context[0]);
    pool.give(this.#slot);
  }

  setCounter(low: number, high: number): void {
    if (this.#bigEndian) {
      this.#view.setUint32(4, high);
      this.#view.setUint32(8, low);
    } else {
      this.#view.setUint32(4, low, true);
      this.#view.setUint32(8, high, true);
    }
  }

  setTagAddress(address: number): void {
    this.#view.setUint32(80, address >>> 0, true);
    this.#view.setUint32(84, Math.floor(address / 2 ** 32), true);
  }
}

class EvpSealer implements PacketSealer {
  #state: EvpContext | undefined;

  constructor(cipher: EvpCipher, key: Uint8Array) {
    this.#state = new EvpContext(cipher, key, true);
  }

  seal(buffer: Uint8Array, offset: number, length: number, low: number, high: number): void {
    const state = this.#state;
    if (state === undefined) throw new TypeError('the sealer was wiped');
    const { call } = state;
    const context = state.context[0];
    const at = addressOf(buffer) + offset;
    state.setCounter(low, high);
    call.initEncrypt(context, 0, 0, 0, state.nonce);
    if (length > 0) call.cipher(context, at, at, length);
    call.finalEncrypt(context, at, state.written);
    state.setTagAddress(at + length);
    call.read(context, state.tagRequest);
  }

  wipe(): void {
    this.#state?.free();
    this.#state = undefined;
  }
}

class EvpOpener implements PacketOpener {
  #state: EvpContext | undefined;

  constructor(cipher: EvpCipher, key: Uint8Array) {
    this.#state = new EvpContext(cipher, key, false);
  }

  open(buffer: Uint8Array, offset: number, length: number, low: number, high: number): boolean {
    const state = this.#state;
    if (state === undefined) throw new TypeError('the opener was wiped');
    const plain = length - TAG_LENGTH;
    if (plain < 0) return false;
    const { call } = state;
    const context = state.context[0];
    const at = addressOf(buffer) + offset;
    state.setCounter(low, high);
    call.initDecrypt(context, 0, 0, 0, state.nonce);
    call.control(context, EVP_CTRL_AEAD_SET_TAG, TAG_LENGTH, at + plain);
    if (plain > 0) call.cipher(context, at, at, plain);
    return call.finalDecrypt(context, at, state.written) === 1;
  }

  wipe(): void {
    this.#state?.free();
    this.#state = undefined;
  }
}
