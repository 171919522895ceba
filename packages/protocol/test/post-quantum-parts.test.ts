/** The parts of the post-quantum exchange by themselves: its messages on the wire, and the keys that a side holds. */
import { describe, expect, it } from 'vitest';
import { DerivedKeys } from '../src/derived-keys.ts';
import {
  decodeExchangeMessage,
  encodeExchangeMessage,
  EXCHANGE_MTU,
  isExchangeMessage,
} from '../src/exchange-messages.ts';
import { nobleCrypto } from '../src/noble.ts';
import { hex, isZero } from './support/bytes.ts';
import * as exchange from './support/exchange.ts';

const ID = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);
const OFFER = exchange.message(1, ID, new Uint8Array(1_184).fill(9));
const ANSWER = exchange.message(2, ID, new Uint8Array(1_088).fill(8));

/** Asked of a view in which the message does not lie at the beginning. */
function accepts(message: Uint8Array): boolean {
  const bytes = new Uint8Array(message.length + 8);
  bytes.set(message, 3);
  return isExchangeMessage(new DataView(bytes.buffer), 3, message.length);
}

describe('the messages of the exchange', () => {
  it.each([
    ['offer', OFFER],
    ['answer', ANSWER],
  ] as const)('are known as %s by header and length, whatever id and body are', (type, message) => {
    expect(accepts(message)).toBe(true);
    for (let i = 0; i < message.length; i++) {
      for (const bit of [1, 2, 0x80]) {
        const changed = message.map((byte, at) => (at === i ? byte ^ bit : byte));
        if (accepts(changed) !== i >= 8) expect.fail(`byte ${i}, bit ${bit}`);
      }
    }
    for (const length of [0, 16, message.length - 1, message.length - 16]) {
      expect(accepts(message.subarray(0, length))).toBe(false);
    }
    const { body } = decodeExchangeMessage(message);
    expect(decodeExchangeMessage(message)).toEqual({ type, id: ID, body: message.subarray(16) });
    expect(hex(encodeExchangeMessage({ type, id: ID, body }))).toBe(hex(message));
  });

  it('of the one kind with the length of the other are none', () => {
    expect(accepts(exchange.message(2, ID, new Uint8Array(1_184)))).toBe(false);
    expect(accepts(exchange.message(1, ID, new Uint8Array(1_088)))).toBe(false);
    expect(EXCHANGE_MTU).toBe(1_200);
  });
});

describe('derived keys', () => {
  const key = (fill: number): Uint8Array => new Uint8Array(32).fill(fill);

  /** Keys 1 to `count`, added in this order at these milliseconds. */
  function holding(count: number, heldByPeer: boolean): { readonly keys: DerivedKeys; readonly given: Uint8Array[] } {
    const keys = new DerivedKeys();
    const given = Array.from({ length: count }, (_, i) => key(i + 1));
    for (const [i, each] of given.entries()) keys.add(nobleCrypto, each, heldByPeer, i + 1);
    return { keys, given };
  }

  const nameOf = (fill: number): number => {
    const { keys } = holding(0, true);
    keys.add(nobleCrypto, key(fill), true, 0);
    return keys.newestShared!.name;
  };
  const held = (keys: DerivedKeys, most = 6): number[] =>
    Array.from({ length: most }, (_, i) => i + 1).filter((fill) => keys.named(nameOf(fill))?.key[0] === fill);

  it('have a name of 24 bits that is never 0 and depends on the key', () => {
    const names = Array.from({ length: 250 }, (_, i) => nameOf(i + 1));
    expect(new Set(names).size).toBe(250);
    for (const name of names) {
      expect(Number.isInteger(name)).toBe(true);
      expect(name).toBeGreaterThanOrEqual(1);
      expect(name).toBeLessThan(2 ** 24);
    }
    expect(Math.max(...names)).toBeGreaterThan(2 ** 23);
    const nothing = new Uint8Array(0);
    const transcript = {
      offeredBy: nothing,
      answeredBy: nothing,
      id: ID,
      encapsulationKey: nothing,
      ciphertext: nothing,
    };
    for (let fill = 0; fill < 20; fill++) {
      const derived = exchange.derive({ secret: key(fill), ...transcript });
      const keys = new DerivedKeys();
      keys.add(nobleCrypto, derived.key, true, 0);
      expect(keys.newestShared?.name).toBe(derived.name);
    }
  });

  it('are four at most: the oldest is erased for a fifth', () => {
    const { keys, given } = holding(4, true);
    expect([held(keys), given.filter((each) => isZero(each)).length]).toEqual([[1, 2, 3, 4], 0]);
    keys.add(nobleCrypto, key(5), true, 5);
    expect([held(keys), given.map((each) => isZero(each))]).toEqual([
      [2, 3, 4, 5],
      [true, false, false, false],
    ]);
  });

  it('are named to the peer only when it is known to have them, the newest first', () => {
    const { keys } = holding(2, false);
    expect([keys.newestShared, held(keys)]).toEqual([undefined, [1, 2]]);
    keys.add(nobleCrypto, key(3), true, 3);
    keys.add(nobleCrypto, key(4), false, 4);
    expect([keys.newestShared?.key[0], keys.newestShared?.createdAt]).toEqual([3, 3]);
    keys.confirm(keys.named(nameOf(4))!);
    expect([keys.newestShared?.key[0], held(keys)]).toEqual([4, [4]]);
  });

  it('that are used erase all older ones, and none that are newer', () => {
    const { keys, given } = holding(4, false);
    keys.confirm(keys.named(nameOf(2))!);
    expect([held(keys), given.map((each) => isZero(each))]).toEqual([
      [2, 3, 4],
      [true, false, false, false],
    ]);
    expect(keys.newestShared?.key[0]).toBe(2);
    keys.confirm({ name: nameOf(6), key: key(6), createdAt: 0 });
    expect(held(keys)).toEqual([2, 3, 4]);
  });

  it('that the peer has lost are erased, and no others', () => {
    const { keys, given } = holding(4, true);
    keys.lost({ name: nameOf(6), key: key(6), createdAt: 0 });
    expect(held(keys)).toEqual([1, 2, 3, 4]);
    keys.lost(keys.named(nameOf(4))!);
    expect([held(keys), given.map((each) => isZero(each))]).toEqual([
      [1, 2, 3],
      [false, false, false, true],
    ]);
    expect(keys.newestShared?.key[0]).toBe(3);
    for (const fill of [3, 1, 2]) keys.lost(keys.named(nameOf(fill))!);
    expect([held(keys), keys.newestShared, given.every((each) => isZero(each))]).toEqual([[], undefined, true]);
  });

  it('that the peer is known to have are never given up for those that it may have missed', () => {
    const { keys, given } = holding(2, true);
    for (const fill of [3, 4, 5, 6]) keys.add(nobleCrypto, (given[fill - 1] = key(fill)), false, fill);
    expect(held(keys)).toEqual([1, 2, 5, 6]);
    expect(given.map((each) => isZero(each))).toEqual([false, false, true, true, false, false]);
    keys.add(nobleCrypto, key(7), true, 7);
    expect([held(keys, 7), keys.newestShared?.key[0]]).toEqual([[1, 2, 6, 7], 7]);
  });

  it('are not taken under a name that another has', () => {
    const { keys } = holding(2, true);
    const again = key(1);
    expect([keys.add(nobleCrypto, again, false, 9), isZero(again)]).toEqual([false, true]);
    expect([held(keys), keys.named(nameOf(1))?.createdAt]).toEqual([[1, 2], 1]);
    expect(keys.add(nobleCrypto, key(3), false, 9)).toBe(true);
  });

  it('are all erased together', () => {
    const { keys, given } = holding(3, true);
    keys.clear();
    expect([held(keys), given.every((each) => isZero(each)), keys.newestShared]).toEqual([[], true, undefined]);
  });
});
