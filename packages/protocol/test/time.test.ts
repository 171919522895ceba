/** What the device knows of time: its clock, its timers and the random delays. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DeviceClock } from '../src/clock.ts';
import { JitterSource } from '../src/jitter.ts';
import { TIMER, Timers } from '../src/timers.ts';

describe('DeviceClock', () => {
  it('stands still while the caller goes back, and goes on from there', () => {
    const clock = new DeviceClock();
    expect([1_000, 1_000, 400, 400.5, 1_400.5, 1_300].map((now) => clock.read(now))).toEqual([
      1_000, 1_000, 1_000, 1_000.5, 2_000.5, 2_000.5,
    ]);
    expect([clock.timeAt(1_300), clock.callersNow(), clock.callersTime(2_100.5)]).toEqual([2_000.5, 1_300, 1_400]);
  });

  it.each([
    [0, 0],
    [1_000, 0],
    [1_000.5, 1_000.5],
    [3_600_000, 3_600_000],
    [-1_000.5, 0],
    [-3_600_000, 0],
  ])('of a wall clock that gains %d ms takes %d ms for sleep', (gained, slept) => {
    const clock = new DeviceClock();
    expect(clock.tick(5_000, 1_700_000_000_000)).toBe(5_000);
    expect(clock.tick(5_100, 1_700_000_000_100 + gained)).toBe(5_100 + slept);
    // Once, and what comes after is measured from there.
    expect(clock.tick(5_200, 1_700_000_000_200 + gained)).toBe(5_200 + slept);
    expect(clock.tick(5_300, 1_700_000_002_300 + gained)).toBe(7_300 + slept);
    expect(clock.read(5_400)).toBe(7_400 + slept);
  });

  it('wants a look at the wall clock with the first packet, then with one a second after the last look', () => {
    const clock = new DeviceClock();
    const due = (at: number): boolean => {
      clock.packetsSent(clock.read(at));
      return clock.wallClockDue;
    };
    expect(clock.wallClockDue).toBe(false);
    expect(due(0)).toBe(true);
    clock.tick(10, 1_000);
    expect([clock.wallClockDue, due(1_009), due(1_010), due(1_011)]).toEqual([false, false, true, true]);
    clock.tick(1_020, 2_010);
    expect([clock.wallClockDue, due(2_019), due(2_020)]).toEqual([false, false, true]);
  });

  it('names times to its caller at which it is that late, and hardly later', () => {
    const time = fc.double({ min: 0, max: 1e9, noNaN: true });
    fc.assert(
      fc.property(time, time, time, (now, back, at) => {
        const clock = new DeviceClock();
        clock.read(now);
        clock.read(now - back);
        expect(clock.timeAt(clock.callersTime(at))).toBeGreaterThanOrEqual(at);
        expect(clock.timeAt(clock.callersTime(at))).toBeLessThanOrEqual(at + 0.002);
      }),
      { seed: 4, numRuns: 2_000 },
    );
    expect(new DeviceClock().callersTime(7)).toBe(7);
  });
});

describe('JitterSource', () => {
  it('is uniform from 0 to 333 ms, 16 bits of randomness each, drawn 128 at a time', () => {
    const drawn: Uint8Array[] = [];
    const random = (length: number): Uint8Array => {
      const from = drawn.length * 31;
      return drawn[drawn.push(Uint8Array.from({ length }, (_, i) => from + i * 89)) - 1]!;
    };
    const jitter = new JitterSource(random);
    const delays = Array.from({ length: 300 }, () => jitter.next());
    expect(drawn.map(({ length }) => length)).toEqual([256, 256, 256]);
    const words = drawn.flatMap((bytes) =>
      Array.from({ length: 128 }, (_, i) => bytes[2 * i]! + 256 * bytes[2 * i + 1]!),
    );
    expect(delays).toEqual(words.slice(0, 300).map((word) => Math.floor((word * 334) / 65_536)));
    const of = (byte: number): number => new JitterSource((length) => new Uint8Array(length).fill(byte)).next();
    expect([of(0), of(255)]).toEqual([0, 333]);
  });
});

describe('Timers', () => {
  const all = Object.values(TIMER);

  it('are off at first', () => {
    const timers = new Timers(() => {});
    expect(all.map((timer) => timers.isSet(timer) || timers.take(timer, Number.MAX_VALUE))).toEqual(
      all.map(() => false),
    );
    expect(timers.next()).toBe(Infinity);
  });

  it('tell of every instant, name the earliest, and go off once, when they are due', () => {
    const heard: number[] = [];
    const timers = new Timers((at) => heard.push(at));
    for (const [i, timer] of all.entries()) timers.set(timer, 900 - 100 * i);
    expect(heard).toEqual(all.map((_, i) => 900 - 100 * i));
    for (const [name, timer] of Object.entries(TIMER).toReversed()) {
      const at = timers.next();
      expect([at, timers.why()]).toEqual([900 - 100 * timer, name]);
      expect([timers.take(timer, at - 1), timers.isSet(timer)]).toEqual([false, true]);
      expect([timers.take(timer, at), timers.isSet(timer), timers.take(timer, at)]).toEqual([true, false, false]);
    }
    expect(timers.next()).toBe(Infinity);
  });

  it('are cleared one by one or all together', () => {
    const timers = new Timers(() => {});
    for (const timer of all) timers.set(timer, 5);
    timers.clear(TIMER.flush);
    expect(all.filter((timer) => !timers.isSet(timer))).toEqual([TIMER.flush]);
    timers.clearAll();
    expect(all.filter((timer) => timers.isSet(timer))).toEqual([]);
  });
});
