/** Seeded randomness (sfc32): the same seed gives the same run on every machine. */

export interface Generator {
  readonly seed: number;
  /** A float in [0, 1). */
  next(): number;
  /** An integer in [0, bound). */
  below(bound: number): number;
  /** A float in [low, high). */
  between(low: number, high: number): number;
  chance(probability: number): boolean;
  bytes(length: number): Uint8Array;
  /** A generator of its own: what it gives does not depend on how often this one is asked later. */
  fork(label: string): Generator;
}

export function generator(seed: number): Generator {
  let a = seed >>> 0;
  let b = Math.floor(seed / 2 ** 32) >>> 0;
  let c = 0x9e3779b9;
  let count = 1;
  const uint32 = (): number => {
    const t = (((a + b) | 0) + count) | 0;
    count = (count + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (c << 21) | (c >>> 11);
    c = (c + t) | 0;
    return t >>> 0;
  };
  for (let i = 0; i < 15; i++) uint32();
  const next = (): number => uint32() / 2 ** 32;
  return {
    seed,
    next,
    below: (bound) => Math.floor(next() * bound),
    between: (low, high) => low + next() * (high - low),
    chance: (probability) => next() < probability,
    bytes(length) {
      const bytes = new Uint8Array(length);
      const words = new Uint32Array(bytes.buffer, 0, length >> 2);
      for (let i = 0; i < words.length; i++) words[i] = uint32();
      for (let i = words.length * 4; i < length; i++) bytes[i] = uint32();
      return bytes;
    },
    fork(label) {
      let mixed = 0x811c9dc5 ^ seed;
      for (let i = 0; i < label.length; i++) mixed = Math.imul(mixed ^ label.charCodeAt(i), 0x01000193);
      return generator((mixed >>> 0) + (seed >>> 0) * 2 ** 20);
    },
  };
}
