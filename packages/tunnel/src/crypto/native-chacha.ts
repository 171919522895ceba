/**
 * ChaCha20-Poly1305 (RFC 8439 section 2.8, without associated data) put together from libcrypto's two halves. EVP spends as much
 * time around them as they take themselves, and each call as much as 200 bytes of work, so there are as few as can be:
 *
 * One ChaCha20 run starts 64 bytes before the packet, so that its first block is the one that gives the Poly1305 key.
 * Poly1305's last block stands behind the packet for the one call that reads both. What lies there meanwhile is put back.
 * Packets that do not lie 4-aligned, or at the edge of their buffer, take a way through a scratch buffer.
 */
import type { Aead, PacketOpener, PacketSealer } from '@sealane/protocol';
import { foreign, memoryOf, type ForeignFunction, type Memory } from '../linux/foreign.ts';
import { lowBuffer, LowPool, type LowSlot } from '../linux/low-memory.ts';

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
  /** Words to be put back. */
  readonly saved: Uint32Array;
  readonly states: LowPool;
  /** The longest packet that went through the scratch buffer since it was erased. */
  longest: number;
}

let bound: Functions | undefined;

function functions(): Functions {
  if (bound !== undefined) return bound;
  const scratch = new Uint8Array(lowBuffer(SCRATCH));
  const { address, words } = memoryOf(scratch);
  const contextSize = foreign('size_t Poly1305_ctx_size()')();
  if (contextSize > INPUT - POLY) throw new Error(`libcrypto's Poly1305 needs ${contextSize} bytes`);
  bound = {
    chacha: foreign('void ChaCha20_ctr32(uintptr_t, uintptr_t, size_t, uintptr_t, uintptr_t)'),
    polyInit: foreign('void Poly1305_Init(uintptr_t, uintptr_t)'),
    polyUpdate: foreign('void Poly1305_Update(uintptr_t, uintptr_t, size_t)'),
    polyFinal: foreign('void Poly1305_Final(uintptr_t, uintptr_t)'),
    copy: foreign('void memcpy(uintptr_t, uintptr_t, size_t)'),
    scratch,
    words,
    address,
    saved: new Uint32Array(16),
    states: new LowPool(48),
    longest: 0,
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
  readonly #call: Functions = functions();
  /** The key, then ChaCha20's counter and nonce; undefined once it was wiped. */
  #state: LowSlot | undefined;

  constructor(key: Uint8Array) {
    this.#state = this.#call.states.take();
    this.#state.bytes.set(key);
  }

  seal(buffer: Uint8Array, offset: number, length: number, low: number, high: number): void {
    const memory = memoryOf(buffer);
    const at = buffer.byteOffset + offset;
    const { address, chacha, polyInit, polyUpdate, polyFinal, saved } = this.#call;
    if (!liesWell(memory, at, length)) return this.#sealAside(memory, at, length, low, high);
    const own = memory.words;
    const before = (at - BLOCK) >> 2;
    const end = (at + length) >> 2;
    const padding = (-length & 15) >> 2;
    const key = this.#setCounter(low, high);
    for (let i = 0; i < 16; i++) saved[i] = own[before + i]!;
    chacha(memory.address + at - BLOCK, memory.address + at - BLOCK, BLOCK + length, key, key + 32);
    this.#takeKey(own, before);
    for (let i = 0; i < 16; i++) own[before + i] = saved[i]!;
    for (let i = 0; i < padding; i++) saved[i] = own[end + 4 + i]!;
    endWords(own, end, padding, length);
    polyInit(address + POLY, address + ONE_TIME_KEY);
    polyUpdate(address + POLY, memory.address + at, length + 4 * padding + 16);
    polyFinal(address + POLY, memory.address + at + length);
    for (let i = 0; i < padding; i++) own[end + 4 + i] = saved[i]!;
  }

  open(buffer: Uint8Array, offset: number, length: number, low: number, high: number): boolean {
    const plain = length - TAG_LENGTH;
    if (plain < 0) return false;
    const { words, address, polyInit, polyUpdate, polyFinal, saved, copy } = this.#call;
    const memory = memoryOf(buffer);
    const at = buffer.byteOffset + offset;
    this.#run(memory, at, plain, low, high);
    if (!liesWell(memory, at, plain)) return this.#openAside(memory, buffer, offset, plain);
    const own = memory.words;
    const end = (at + plain) >> 2;
    const padding = (-plain & 15) >> 2;
    for (let i = 0; i < 4 + padding; i++) saved[i] = own[end + i]!;
    endWords(own, end, padding, plain);
    polyInit(address + POLY, address + ONE_TIME_KEY);
    polyUpdate(address + POLY, memory.address + at, plain + 4 * padding + 16);
    polyFinal(address + POLY, address + TAG);
    for (let i = 0; i < 4 + padding; i++) own[end + i] = saved[i]!;
    let difference = 0;
    for (let i = 0; i < 4; i++) difference |= words[(TAG >> 2) + i]! ^ saved[i]!;
    if (difference !== 0) return false;
    copy(memory.address + at, address + OUTPUT + BLOCK, plain);
    return true;
  }

  wipe(): void {
    const { scratch, saved, states, longest } = this.#call;
    if (this.#state !== undefined) states.give(this.#state);
    this.#state = undefined;
    scratch.fill(0, 0, INPUT + BLOCK + longest);
    scratch.fill(0, OUTPUT, OUTPUT + BLOCK + longest + 64);
    saved.fill(0);
    this.#call.longest = 0;
  }

  /** Returns the key's address. */
  #setCounter(low: number, high: number): number {
    const state = this.#state;
    if (state === undefined) throw new TypeError('the key was wiped');
    state.words[10] = low;
    state.words[11] = high;
    return state.address;
  }

  #sealAside(memory: Memory, at: number, length: number, low: number, high: number): void {
    const { scratch, address, polyInit, polyUpdate, polyFinal, copy } = this.#call;
    this.#run(memory, at, length, low, high);
    const tail = OUTPUT + BLOCK + length;
    const padded = endBlocks(scratch, tail, length);
    polyInit(address + POLY, address + ONE_TIME_KEY);
    polyUpdate(address + POLY, address + OUTPUT + BLOCK, length + padded);
    polyFinal(address + POLY, address + tail);
    copy(memory.address + at, address + OUTPUT + BLOCK, length + TAG_LENGTH);
  }

  #openAside(memory: Memory, buffer: Uint8Array, offset: number, plain: number): boolean {
    const { scratch, address, polyInit, polyUpdate, polyFinal, copy } = this.#call;
    const from = memory.address + buffer.byteOffset + offset;
    const whole = plain & ~15;
    let tail = TAIL;
    for (let i = offset + whole; i < offset + plain; i++) scratch[tail++] = buffer[i]!;
    const padded = endBlocks(scratch, tail, plain);
    polyInit(address + POLY, address + ONE_TIME_KEY);
    polyUpdate(address + POLY, from, whole);
    polyUpdate(address + POLY, address + TAIL, tail - TAIL + padded);
    polyFinal(address + POLY, address + TAG);
    let difference = 0;
    for (let i = 0; i < TAG_LENGTH; i++) difference |= scratch[TAG + i]! ^ buffer[offset + plain + i]!;
    if (difference !== 0) return false;
    copy(from, address + OUTPUT + BLOCK, plain);
    return true;
  }

  /** Leaves the Poly1305 key at ONE_TIME_KEY and the packet, enciphered or deciphered, at OUTPUT + BLOCK. */
  #run(memory: Memory, at: number, length: number, low: number, high: number): void {
    const { words, address, chacha, copy, saved } = this.#call;
    const key = this.#setCounter(low, high);
    if (length > this.#call.longest) this.#call.longest = length;
    let from = memory.words;
    let first = (at - BLOCK) >> 2;
    let source = memory.address + at - BLOCK;
    if (at < BLOCK || (at & 3) !== 0) {
      source = address + INPUT;
      copy(source + BLOCK, memory.address + at, length);
      from = words;
      first = INPUT >> 2;
    }
    for (let i = 0; i < 8; i++) saved[i] = from[first + i]!;
    chacha(address + OUTPUT, source, BLOCK + length, key, key + 32);
    this.#takeKey(words, OUTPUT >> 2);
  }

  /** The first block's keystream is what enciphering made of `saved`. */
  #takeKey(enciphered: Uint32Array, first: number): void {
    const { words, saved } = this.#call;
    for (let i = 0; i < 8; i++) words[i] = enciphered[first + i]! ^ saved[i]!;
  }
}

/** Whether the packet may be worked on where it lies: whole words, a block before it, room for Poly1305's last block behind it. */
function liesWell(memory: Memory, at: number, length: number): boolean {
  return at >= BLOCK && ((at | length) & 3) === 0 && at + length + 28 <= memory.words.length * 4;
}

/** Like `endBlocks`, for whole words. */
function endWords(words: Uint32Array, end: number, padding: number, length: number): void {
  for (let i = 0; i < padding + 4; i++) words[end + i] = 0;
  words[end + padding + 2] = length;
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
