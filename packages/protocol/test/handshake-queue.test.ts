/** The queue of handshake messages: first in, first out, with room for everybody, and the measure of load (paper section 5.3). */
import { describe, expect, it } from 'vitest';
import { HandshakeQueue } from '../src/handshake-queue.ts';
import { ip } from './support/bytes.ts';

const FULL = 1_024;
const HALF = 512;

const v4 = (host: number, port = 1): { address: Uint8Array; port: number; scopeId: number } => ({
  address: Uint8Array.of(10, host >>> 16, host >>> 8, host),
  port,
  scopeId: 0,
});
const v6 = (text: string): { address: Uint8Array; port: number; scopeId: number } => ({ ...v4(0), address: ip(text) });

/** A queue in which sources 0, 1, ... have one message each. */
function holding(count: number): HandshakeQueue {
  const queue = new HandshakeQueue();
  for (let i = 0; i < count; i++) queue.push(Uint8Array.of(i), v4(i));
  return queue;
}

describe('HandshakeQueue', () => {
  it('gives back what came first, however often it is filled and emptied', () => {
    const queue = new HandshakeQueue();
    const expected: number[] = [];
    let next = 0;
    for (let round = 0; round < 3_000; round++) {
      for (let n = 0; n <= round % 3; n++) {
        queue.push(Uint8Array.of(next & 0xff), v4(next & 0xffff));
        expected.push(next++);
      }
      for (let n = 0; n <= (round + 1) % 3; n++) {
        const wanted = expected.shift();
        const message = queue.shift();
        expect(message?.bytes[0]).toBe(wanted === undefined ? undefined : wanted & 0xff);
        expect(message?.source).toEqual(wanted === undefined ? undefined : v4(wanted & 0xffff));
      }
      expect(queue.length).toBe(expected.length);
    }
  });

  it('has room for all sources until it is half full, then for those with nothing waiting, then for none', () => {
    const queue = holding(HALF - 1);
    expect([queue.hasRoom(v4(0)), queue.hasRoom(v4(HALF))]).toEqual([true, true]);
    queue.push(Uint8Array.of(1), v4(0, 2));
    expect([queue.hasRoom(v4(0)), queue.hasRoom(v4(1)), queue.hasRoom(v4(HALF))]).toEqual([false, false, true]);
    for (let i = HALF; i < FULL - 1; i++) queue.push(Uint8Array.of(i), v4(i));
    expect([queue.length, queue.hasRoom(v4(FULL - 2)), queue.hasRoom(v4(FULL))]).toEqual([FULL - 1, false, true]);
    queue.push(Uint8Array.of(1), v4(FULL));
    expect([queue.length, queue.hasRoom(v4(FULL + 1))]).toEqual([FULL, false]);
    // The first of two from source 0, and the only one of source 1.
    queue.shift();
    queue.shift();
    expect([queue.hasRoom(v4(0)), queue.hasRoom(v4(1)), queue.hasRoom(v4(2))]).toEqual([false, true, false]);
  });

  it('takes the /64 of an IPv6 address for one source', () => {
    const queue = holding(HALF);
    queue.push(Uint8Array.of(1), v6('2001:db8:0:1::1'));
    expect(queue.hasRoom(v6('2001:db8:0:1:ffff::9'))).toBe(false);
    expect(queue.hasRoom(v6('2001:db8:0:2::1'))).toBe(true);
  });

  it('is under load from 128 messages on and for a second after', () => {
    const queue = holding(127);
    expect(queue.underLoad(0)).toBe(false);
    queue.push(Uint8Array.of(1), v4(0));
    expect(queue.underLoad(500)).toBe(true);
    while (queue.shift() !== undefined);
    expect([queue.underLoad(1_499), queue.underLoad(1_500)]).toEqual([true, false]);
  });

  it('forgets messages and sources when it is cleared', () => {
    const queue = holding(HALF + 1);
    queue.clear();
    expect([queue.length, queue.shift()]).toEqual([0, undefined]);
    for (let i = 0; i < HALF; i++) queue.push(Uint8Array.of(1), v4(HALF + 1 + i));
    expect([queue.hasRoom(v4(0)), queue.hasRoom(v4(HALF)), queue.hasRoom(v4(HALF + 1))]).toEqual([true, true, false]);
  });
});
