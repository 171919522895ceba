/** SipHash-2-4 (Aumasson, Bernstein 2012) over 32-bit words: the keyed hash behind initial sequence numbers and table slots. */

/** A keyed hash of words to 32 bits; `key` is 16 random bytes. */
export class SipHash {
  readonly #k: Int32Array;
  readonly #v: Int32Array = new Int32Array(8);

  constructor(key: Uint8Array) {
    if (key.length !== 16) throw new RangeError('key must have 16 bytes');
    const view = new DataView(key.buffer, key.byteOffset, 16);
    this.#k = Int32Array.from([0, 4, 8, 12], (i) => view.getInt32(i, true));
  }

  /** The low and high words of the 64-bit hash of the words' little-endian bytes, low first, in `out`. */
  hash(words: Int32Array, out: Int32Array): void {
    const v = this.#v;
    const k = this.#k;
    v[0] = k[0]! ^ 0x70736575;
    v[1] = k[1]! ^ 0x736f6d65;
    v[2] = k[2]! ^ 0x6e646f6d;
    v[3] = k[3]! ^ 0x646f7261;
    v[4] = k[0]! ^ 0x6e657261;
    v[5] = k[1]! ^ 0x6c796765;
    v[6] = k[2]! ^ 0x79746573;
    v[7] = k[3]! ^ 0x74656462;
    const { length } = words;
    let i = 0;
    for (; i + 2 <= length; i += 2) compress(v, words[i]!, words[i + 1]!);
    compress(v, i < length ? words[i]! : 0, (length * 4) << 24);
    v[4] ^= 0xff;
    for (let round = 0; round < 4; round++) sipRound(v);
    xor(v, 0, 2);
    xor(v, 4, 6);
    xor(v, 0, 4);
    out.set(v.subarray(0, 2));
  }
}

function compress(v: Int32Array, low: number, high: number): void {
  v[6] = v[6]! ^ low;
  v[7] = v[7]! ^ high;
  sipRound(v);
  sipRound(v);
  v[0] = v[0]! ^ low;
  v[1] = v[1]! ^ high;
}

function sipRound(v: Int32Array): void {
  add(v, 0, 2);
  rotate(v, 2, 13);
  xor(v, 2, 0);
  swap(v, 0);
  add(v, 4, 6);
  rotate(v, 6, 16);
  xor(v, 6, 4);
  add(v, 0, 6);
  rotate(v, 6, 21);
  xor(v, 6, 0);
  add(v, 4, 2);
  rotate(v, 2, 17);
  xor(v, 2, 4);
  swap(v, 4);
}

/** 64-bit values are pairs of words, low first; `a` and `b` index the low words. */
function add(v: Int32Array, a: number, b: number): void {
  const low = (v[a]! >>> 0) + (v[b]! >>> 0);
  v[a] = low | 0;
  v[a + 1] = v[a + 1]! + v[b + 1]! + (low > 0xffffffff ? 1 : 0);
}

function xor(v: Int32Array, a: number, b: number): void {
  v[a] = v[a]! ^ v[b]!;
  v[a + 1] = v[a + 1]! ^ v[b + 1]!;
}

/** Rotates left by fewer than 32 bits. */
function rotate(v: Int32Array, a: number, bits: number): void {
  const low = v[a]!;
  const high = v[a + 1]!;
  v[a] = (low << bits) | (high >>> (32 - bits));
  v[a + 1] = (high << bits) | (low >>> (32 - bits));
}

/** Rotates by 32 bits. */
function swap(v: Int32Array, a: number): void {
  const low = v[a]!;
  v[a] = v[a + 1]!;
  v[a + 1] = low;
}
