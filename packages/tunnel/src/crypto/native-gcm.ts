/**
 * AES-256-GCM (NIST SP 800-38D, without associated data) from the parts of libcrypto that EVP stands on: three calls a packet, each of
 * them short, where EVP spends a third of the time on asking itself for parameters. For x86-64 with AES instructions.
 */
import { readFileSync } from 'node:fs';
import type { Aead, PacketOpener, PacketSealer } from '@sealane/protocol';
import { addressOf, foreign, symbolAddress, type ForeignFunction } from '../linux/foreign.ts';
import { LowPool, type LowSlot } from '../linux/low-memory.ts';

const TAG_LENGTH = 16;
const NONCE_LENGTH = 12;

/** Offsets in a cipher's state: AES_KEY has 244 bytes, GCM128_CONTEXT 440. */
const SCHEDULE = 0;
const CONTEXT = 256;
const NONCE = 1_024;
const KEY = 1_040;
const STATE = 1_088;

interface Functions {
  readonly setKey: ForeignFunction;
  readonly init: ForeignFunction;
  readonly setNonce: ForeignFunction;
  readonly encrypt: ForeignFunction;
  readonly decrypt: ForeignFunction;
  readonly tag: ForeignFunction;
  readonly finish: ForeignFunction;
  /** Addresses of the functions that GCM calls. */
  readonly block: number;
  readonly stream: readonly [number, undefined];
  readonly states: LowPool;
}

let bound: Functions | undefined;

function functions(): Functions {
  bound ??= {
    setKey: foreign('int aesni_set_encrypt_key(uintptr_t, int, uintptr_t)'),
    init: foreign('void CRYPTO_gcm128_init(uintptr_t, uintptr_t, uintptr_t)'),
    setNonce: foreign('void CRYPTO_gcm128_setiv(uintptr_t, uintptr_t, size_t)'),
    encrypt: foreign('int CRYPTO_gcm128_encrypt_ctr32(uintptr_t, uintptr_t, uintptr_t, size_t, uintptr_t)'),
    decrypt: foreign('int CRYPTO_gcm128_decrypt_ctr32(uintptr_t, uintptr_t, uintptr_t, size_t, uintptr_t)'),
    tag: foreign('void CRYPTO_gcm128_tag(uintptr_t, uintptr_t, size_t)'),
    finish: foreign('int CRYPTO_gcm128_finish(uintptr_t, uintptr_t, size_t)'),
    block: symbolAddress('aesni_encrypt'),
    stream: [symbolAddress('aesni_ctr32_encrypt_blocks'), undefined],
    states: new LowPool(STATE),
  };
  return bound;
}

/** Sealers and openers; undefined when this processor or this node binary lacks what they need. */
export function nativeGcm(): Pick<Aead, 'sealer' | 'opener'> | undefined {
  try {
    if (!hasAesInstructions()) return undefined;
    functions();
  } catch {
    return undefined;
  }
  return { sealer: (key) => new GcmPacketCipher(key), opener: (key) => new GcmPacketCipher(key) };
}

function hasAesInstructions(): boolean {
  if (process.arch !== 'x64' || process.platform !== 'linux') return false;
  const flags = /^flags\s*:(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1]?.split(' ') ?? [];
  return ['aes', 'ssse3', 'sse4_1', 'pclmulqdq'].every((flag) => flags.includes(flag));
}

class GcmPacketCipher implements PacketSealer, PacketOpener {
  readonly #call: Functions = functions();
  /** Undefined once the key was wiped. */
  #state: LowSlot | undefined;
  readonly #nonce: DataView;

  constructor(key: Uint8Array) {
    const { setKey, init, block, states } = this.#call;
    const state = states.take();
    this.#state = state;
    this.#nonce = new DataView(state.bytes.buffer, state.bytes.byteOffset + NONCE, NONCE_LENGTH);
    state.bytes.set(key, KEY);
    setKey(state.address + KEY, 256, state.address + SCHEDULE);
    state.bytes.fill(0, KEY, KEY + 32);
    init(state.address + CONTEXT, state.address + SCHEDULE, block);
  }

  seal(buffer: Uint8Array, offset: number, length: number, low: number, high: number): void {
    const { encrypt, tag, stream } = this.#call;
    const context = this.#begin(low, high);
    const at = addressOf(buffer) + offset;
    if (length > 0) encrypt(context, at, at, length, stream[0]);
    tag(context, at + length, TAG_LENGTH);
  }

  open(buffer: Uint8Array, offset: number, length: number, low: number, high: number): boolean {
    const { decrypt, finish, stream } = this.#call;
    const plain = length - TAG_LENGTH;
    if (plain < 0) return false;
    const context = this.#begin(low, high);
    const at = addressOf(buffer) + offset;
    if (plain > 0) decrypt(context, at, at, plain, stream[0]);
    // Compares in constant time.
    return finish(context, at + plain, TAG_LENGTH) === 0;
  }

  wipe(): void {
    if (this.#state !== undefined) this.#call.states.give(this.#state);
    this.#state = undefined;
  }

  /** Sets the nonce (Noise section 12.4); returns the address of the GCM context. */
  #begin(low: number, high: number): number {
    const state = this.#state;
    if (state === undefined) throw new TypeError('the key was wiped');
    this.#nonce.setUint32(4, high);
    this.#nonce.setUint32(8, low);
    const context = state.address + CONTEXT;
    this.#call.setNonce(context, state.address + NONCE, NONCE_LENGTH);
    return context;
  }
}
