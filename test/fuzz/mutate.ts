/** Changes to bytes as a fuzzer makes them, all from one generator. */
import type { Generator } from '../sim/random.ts';

const INTERESTING = [0, 1, 2, 3, 4, 5, 0x0f, 0x10, 0x45, 0x60, 0x7f, 0x80, 0xfe, 0xff];

/** A copy with one to four changes: bits, bytes, runs, cuts, growth, or a piece of another message. */
export function mutate(random: Generator, bytes: Uint8Array, others: readonly Uint8Array[]): Uint8Array {
  let result: Uint8Array = bytes.slice();
  for (let n = 1 + random.below(4); n > 0; n--) result = change(random, result, others);
  return result;
}

function change(random: Generator, bytes: Uint8Array, others: readonly Uint8Array[]): Uint8Array {
  const at = random.below(bytes.length + 1);
  switch (random.below(8)) {
    case 0:
      return bytes.slice(0, at);
    case 1:
      return joined(bytes.slice(0, at), random.bytes(random.below(40)), bytes.slice(at));
    case 2:
      return joined(bytes, random.bytes(random.below(300)));
    case 3:
      return joined(bytes.slice(0, at), bytes.slice(at + random.below(20)));
    case 4: {
      const other = others[random.below(others.length)] ?? bytes;
      const from = random.below(other.length + 1);
      return joined(bytes.slice(0, at), other.slice(from));
    }
    case 5:
      if (at < bytes.length) bytes[at] = INTERESTING[random.below(INTERESTING.length)]!;
      return bytes;
    case 6:
      bytes.fill(random.below(256), at, at + random.below(16));
      return bytes;
    default:
      if (at < bytes.length) bytes[at]! ^= 1 << random.below(8);
      return bytes;
  }
}

function joined(...parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
