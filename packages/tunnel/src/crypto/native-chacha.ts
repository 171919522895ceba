/**
 * ChaCha20-Poly1305 (RFC 8439 section 2.8, without associated data) put together from libcrypto's two halves. EVP spends as much
 * time around them as they take themselves. One ChaCha20 run starts 64 bytes before the packet, so that its first block is the
 * one that gives the Poly1305 key; it writes to a scratch buffer, and only what is wanted comes back.
 */
import { wipe, type Aead, type PacketOpener, type PacketSealer } from '@sealane/protocol';
import { addressOf, foreign, memoryOf, type ForeignFunction, type Memory } from '../linux/foreign.ts';

const TAG_LENGTH = 16;
const BLOCK = 64;
const MAX_PACKET = 65_536;

/** Offsets in the scratch buffer. */
const ONE_TIME_KEY = 0;
const TAG = 32;
const TAIL = 64;
const POLY = 128;
const INPUT = 1_024;
const OUTPUT = INPUT + BLOCK + MAX_PACKET;
const SCRATCH = OUTPUT + BLOCK + MAX_PACKET + 64;

interface Functions {
  readonly chacha: ForeignFunction;
  readonly polyInit: ForeignFunction;
  readonly polyUpdate: ForeignFunction;
  readonly polyFinal: ForeignFunction;
  readonly copy: ForeignFunction;
  readonly scratch: Uint8Array;
  readonly words: Uint32Array;
  readonly address: number;
}

let bound: Functions | undefined;

function functions(): Functions {
  if (bound !== undefined) return bound;
  const scratch = new Uint8Array(new ArrayBuffer(SCRATCH));
  const { address, words } = memoryOf(scratch);
  const contextSize = foreign('size_t Poly1305_ctx_size()')();
  if (contextSize > INPUT - POLY) throw new Error(`libcrypto's Poly1305 needs ${contextSize} bytes`);
  bound = {
    chacha: foreign('void ChaCha20_ctr32(uintptr_t, uintptr_t, size_t, uintptr_t, uintptr_t)'),
    polyInit: foreign('void Poly1305_Init(uintptr_t, uintptr_t)'),
    polyUpdate: foreign('void Poly1305_Update(uintptr_t, uintptr_t, size_t)'),
    polyFinal: foreign('void Poly1305_Final(uintptr_t, uintptr_t)'),
    copy: foreign('uintptr_t memcpy(uintptr_t, uintptr_t, size_t)'),
    scratch,
    words,
    address,
  };
  return bound;
}

/** Sealers and openers; undefined when this node binary does not export the halves. */
export function nativeChacha(): Pick<Aead, 'sealer' | 'opener'> | undefined {
  try {
    functions();
  } catch {
    return undefined;
  }
  return { sealer: (key) => new ChachaPacketCipher(key), opener: (key) => new ChachaPacketCipher(key) };
}

class ChachaPacketCipher implements PacketSealer, PacketOpener {
  /** The key, then ChaCha20's counter and nonce. */
  readonly #state = new Uint8Array(new ArrayBuffer(48));
  readonly #stateWords = new Uint32Array(this.#state.buffer);
  readonly #key: number;
  readonly #call: Functions = functions();

  constructor(key: Uint8Array) {
    this.#state.set(key);
    this.#key = addressOf(this.#state);
  }

  seal(buffer: Uint8Array, offset: number, length: number, low: number, high: number): void {
    const { scratch, address, chacha, polyInit, polyUpdate, polyFinal, copy } = this.#call;
    const memory = memoryOf(buffer);
    const at = buffer.byteOffset + offset;
    this.#run(memory, at, length, low, high, chacha, copy);
    const tail = OUTPUT + BLOCK + length;
    const padded = endBlocks(scratch, tail, length);
    polyInit(address + POLY, address + ONE_TIME_KEY);
    polyUpdate(address + POLY, address + OUTPUT + BLOCK, length + padded);
    polyFinal(address + POLY, address + tail);
    copy(memory.address + at, address + OUTPUT + BLOCK, length + TAG_LENGTH);
  }

  open(buffer: Uint8Array, offset: number, length: number, low: number, high: number): boolean {
    const plain = length - TAG_LENGTH;
    if (plain < 0) return false;
    const { scratch, address, chacha, polyInit, polyUpdate, polyFinal, copy } = this.#call;
    const memory = memoryOf(buffer);
    const at = buffer.byteOffset + offset;
    this.#run(memory, at, plain, low, high, chacha, copy);
    const whole = plain & ~15;
    let tail = TAIL;
    for (let i = offset + whole; i < offset + plain; i++) scratch[tail++] = buffer[i]!;
    const padded = endBlocks(scratch, tail, plain);
    polyInit(address + POLY, address + ONE_TIME_KEY);
    polyUpdate(address + POLY, memory.address + at, whole);
    polyUpdate(address + POLY, address + TAIL, tail - TAIL + padded);
    polyFinal(address + POLY, address + TAG);
    let difference = 0;
    for (let i = 0; i < TAG_LENGTH; i++) difference |= scratch[TAG + i]! ^ buffer[offset + plain + i]!;
    if (difference !== 0) return false;
    copy(memory.address + at, address + OUTPUT + BLOCK, plain);
    return true;
  }

  wipe(): void {
    wipe(this.#state);
    const { scratch } = this.#call;
    scratch.fill(0);
  }

  /** Leaves the Poly1305 key at ONE_TIME_KEY and the packet, enciphered or deciphered, at OUTPUT + BLOCK. */
  #run(
    memory: Memory,
    at: number,
    length: number,
    low: number,
    high: number,
    chacha: ForeignFunction,
    copy: ForeignFunction,
  ): void {
    const { words, address } = this.#call;
    const state = this.#stateWords;
    state[10] = low;
    state[11] = high;
    let from = memory.words;
    let first = (at - BLOCK) >> 2;
    let source = memory.address + at - BLOCK;
    if (at < BLOCK || (at & 3) !== 0) {
      source = address + INPUT;
      copy(source + BLOCK, memory.address + at, length);
      from = words;
      first = INPUT >> 2;
    }
    chacha(address + OUTPUT, source, BLOCK + length, this.#key, this.#key + 32);
    for (let i = 0; i < 8; i++) words[i] = words[(OUTPUT >> 2) + i]! ^ from[first + i]!;
  }
}

/** Writes the padding and the two lengths that end Poly1305's input; returns how many bytes that is. */
function endBlocks(bytes: Uint8Array, at: number, length: number): number {
  const padding = -length & 15;
  const end = at + padding + 8;
  for (let i = at; i < end + 8; i++) bytes[i] = 0;
  bytes[end] = length & 0xff;
  bytes[end + 1] = (length >> 8) & 0xff;
  bytes[end + 2] = length >> 16;
  return padding + 16;
}
