/** Paper section 5.1 with the whitening that hides the sender's clock: steps of 2^24 nanoseconds. */
import { describe, expect, it } from 'vitest';
import { isAfter, labelled, labelOf, laterOf, timestampAfter, timestampAt } from '../src/tai64n.ts';
import { generator } from '../../../test/sim/random.ts';
import { hex, vectors } from './support/bytes.ts';
import { tai64n } from './support/paper.ts';

const STEP = 2n ** 24n;
const nanosOf = (timestamp: Uint8Array): bigint => {
  const view = new DataView(timestamp.buffer, timestamp.byteOffset);
  return (view.getBigUint64(0) - 0x400000000000000an) * 1_000_000_000n + BigInt(view.getUint32(8));
};

describe('timestampAt', () => {
  it('is seconds + 0x400000000000000a and nanoseconds rounded down to 2^24, big endian', () => {
    expect(hex(timestampAt(0))).toBe('400000000000000a00000000');
    expect(hex(timestampAt(1_000))).toBe('400000000000000b00000000');
    expect(hex(timestampAt(16))).toBe('400000000000000a00000000');
    expect(hex(timestampAt(17))).toBe('400000000000000a01000000');
    expect(hex(timestampAt(4_102_444_800_999.9))).toBe(hex(tai64n(4_102_444_800_999)));
  });

  it('agrees with the paper at random times and never runs ahead of the clock', () => {
    const random = generator(1);
    for (let i = 0; i < 10_000; i++) {
      const ms = Math.floor(random.next() * 5e12);
      const timestamp = timestampAt(ms);
      expect(hex(timestamp)).toBe(hex(tai64n(ms)));
      const behind = BigInt(ms) * 1_000_000n - nanosOf(timestamp);
      expect(behind >= 0n && behind < STEP).toBe(true);
    }
  });

  it('has the form of what wireguard-go sent', () => {
    const { peer_as_initiator: sent } = vectors<{
      readonly peer_as_initiator: { readonly timestamp_decrypted: string };
    }>('wireguard-go/transcript.json');
    expect(sent.timestamp_decrypted).toMatch(/^40000000[0-9a-f]{8}[0-9a-f]{2}000000$/);
  });

  it('survives clocks that are nonsense', () => {
    for (const ms of [-1, -1e15, Number.NaN, Number.NEGATIVE_INFINITY])
      expect(hex(timestampAt(ms))).toBe('400000000000000a00000000');
  });
});

describe('timestampAfter', () => {
  it('is strictly increasing on a clock that stands still, jumps back or ends a second', () => {
    const random = generator(2);
    let last = timestampAt(1_700_000_000_000);
    for (let i = 0; i < 5_000; i++) {
      const clock = 1_700_000_000_000 + random.below(40_000) - 20_000;
      const next = timestampAfter(last, clock);
      expect(isAfter(next, last)).toBe(true);
      expect(hex(next) > hex(last)).toBe(true);
      expect((nanosOf(next) % 1_000_000_000n) % STEP).toBe(0n);
      expect(nanosOf(next) - nanosOf(last) <= 1_000_000_000n || hex(next) === hex(timestampAt(clock))).toBe(true);
      last = next;
    }
  });

  it('follows a floor of any century step by step, and its last step of a second by the next second', () => {
    for (const [floor, next] of [
      ['400000000000000a00000000', '400000000000000a01000000'],
      ['400000000000000a00ffffff', '400000000000000a01000000'],
      // 59 steps of 2^24 fit into a second.
      ['400000000000000a3a000000', '400000000000000a3b000000'],
      ['400000000000000a3b000000', '400000000000000b00000000'],
      ['400000000000000a3b9ac9ff', '400000000000000b00000000'],
      // Unix time needs more than 32 bits from 2106 on.
      ['40000000ffffffff3b000000', '400000010000000000000000'],
      ['400000010000000001000000', '400000010000000002000000'],
      ['4000000700000005ffffffff', '400000070000000600000000'],
    ] as const) {
      expect(hex(timestampAfter(Uint8Array.from(Buffer.from(floor, 'hex')), 0))).toBe(next);
    }
  });

  it('is the time of the clock when there is no floor, or one that lies behind', () => {
    const clock = 1_700_000_000_000;
    const expected = hex(timestampAt(clock));
    expect(hex(timestampAfter(undefined, clock))).toBe(expected);
    for (const behind of [17, 1_000, 86_400_000]) {
      expect(hex(timestampAfter(timestampAt(clock - behind), clock))).toBe(expected);
    }
  });

  it('gives 50 distinct timestamps in a second', () => {
    const distinct = new Set(Array.from({ length: 50 }, (_, i) => hex(timestampAt(1_700_000_000_000 + i * 20))));
    expect(distinct.size).toBe(50);
  });
});

describe('labelled', () => {
  it('puts 24 bits where whitening left zeros, into a copy', () => {
    const timestamp = timestampAt(1_700_000_000_016);
    const plain = hex(timestamp);
    for (const label of [0, 1, 0x80, 0x1234, 0x8000, 0x9ac9ff, 0x123456]) {
      const made = labelled(timestamp, label);
      expect(hex(made)).toBe(plain.slice(0, 18) + label.toString(16).padStart(6, '0'));
      expect([labelOf(made), hex(timestamp)]).toEqual([label, plain]);
    }
    expect(labelOf(timestamp)).toBe(0);
  });
});

describe('isAfter', () => {
  it('is strict', () => {
    const a = timestampAt(1e12);
    expect(isAfter(a, a.slice())).toBe(false);
    expect(isAfter(timestampAt(1e12 + 17), a)).toBe(true);
    expect(isAfter(a, timestampAt(1e12 + 17))).toBe(false);
  });
});

describe('laterOf', () => {
  it('is the later of two, or the only one', () => {
    const [a, b] = [timestampAt(1e12), timestampAt(1e12 + 17)];
    expect(laterOf(a, b)).toBe(b);
    expect(laterOf(b, a)).toBe(b);
    expect(laterOf(a, undefined)).toBe(a);
    expect(laterOf(undefined, b)).toBe(b);
    expect(laterOf(undefined, undefined)).toBeUndefined();
  });
});
