/** How windows grow, in virtual time: the congestion window after a loss, the receive window on a long fat path. */
import { describe, expect, it } from 'vitest';
import type { StackOptions } from '../src/index.ts';
import { B4, Drain, Sim, Source } from './support/sim.ts';

const MSS = 1420 - 40;

describe('the congestion window after a loss (RFC 9438)', () => {
  // Retyped from §4.1 and §4.2: W_cubic(t) = C (t - K)^3 + W_max, in segments and seconds.
  const C = 0.4;
  const BETA = 0.7;
  const rtt = 200;

  it('returns along the cubic: fast, then flat around the old window, then faster and faster', () => {
    const sim = new Sim(1, { delay: rtt / 2 });
    const drain = new Drain(1);
    const source = new Source(1, 200e6);
    sim.b.stack.listen({ port: 80 }, (incoming) => incoming.accept(drain));
    const connection = sim.a.stack.connect({ address: B4, port: 80 }, source);
    let lost = 0;
    sim.a.faults.drop = (packet) => {
      if (lost > 0 || packet.length < MSS || connection.congestionWindow < 100 * MSS) return false;
      lost++;
      return true;
    };
    let before = 0;
    expect(
      sim.run(10_000, () => {
        if (connection.congestionWindow < before) return true;
        before = connection.congestionWindow;
        return false;
      }),
    ).toBe(true);
    const maximum = before / MSS;
    const k = Math.cbrt((maximum * (1 - BETA)) / C);
    const samples = Array.from({ length: 60 }, () => {
      sim.run(rtt);
      return connection.congestionWindow / MSS;
    });
    for (const [i, window] of samples.entries()) {
      const expected = C * ((i * rtt) / 1000 - k) ** 3 + maximum;
      expect(window / expected, `after ${i} round trips`).toBeCloseTo(1, 1.5);
    }
    // What Reno would have by then: a segment a round trip, or 0.53 beside CUBIC (§4.3).
    const atK = samples[Math.round((k * 1000) / rtt)]!;
    expect(atK - samples[0]!).toBeGreaterThan(1.5 * ((k * 1000) / rtt));
    expect([lost, drain.wrongAt]).toEqual([1, -1]);
  });
});

describe('the receive window', () => {
  const MEBIBYTE = 2 ** 20;

  /** A stream over a link of `rate` bytes a millisecond for `ms`; what arrived in the last second of it, and the most that was held. */
  function flow(
    rate: number,
    rtt: number,
    ms: number,
    options: Partial<StackOptions> = {},
    isPaused = false,
  ): { readonly lastSecond: number; readonly most: number } {
    const sim = new Sim(2, { delay: rtt / 2, rate, queue: rate * rtt }, {}, options);
    const drain = new Drain(2);
    drain.paused = isPaused;
    sim.b.stack.listen({ port: 80 }, (incoming) => incoming.accept(drain));
    sim.a.stack.connect({ address: B4, port: 80 }, new Source(2, 1e9));
    let most = 0;
    let before = 0;
    for (let at = 0; at < ms; at += 10) {
      if (at === ms - 1000) before = drain.received;
      sim.run(10);
      most = Math.max(most, sim.b.stack.status().bufferBytes);
    }
    expect(drain.wrongAt).toBe(-1);
    return { lastSecond: drain.received - before, most };
  }

  it('grows until a long fat path is full, eight times what it begins with', () => {
    // 10 MB/s at a round trip of 200 ms need 2 MB; with the first 256 KiB an eighth of that rate would be all.
    const { lastSecond, most } = flow(10_000, 200, 5_000);
    expect(lastSecond).toBeGreaterThan(0.9 * 10e6);
    expect(most).toBeLessThanOrEqual(8 * MEBIBYTE);
  });

  it('ends at its limit however much the path would take', () => {
    const { lastSecond, most } = flow(20_000, 200, 4_000, { tcp: { maxReceiveBuffer: MEBIBYTE } });
    expect(lastSecond / (MEBIBYTE / 0.2)).toBeCloseTo(1, 1);
    expect(most).toBeLessThanOrEqual(2 * MEBIBYTE);
  });

  it('stays as it is where nothing is read, and takes what it needs where the path is short', () => {
    expect(flow(20_000, 100, 2_000, {}, true).most).toBeLessThanOrEqual(MEBIBYTE / 2);
    const { lastSecond, most } = flow(1_000, 10, 3_000);
    expect(lastSecond).toBeGreaterThan(0.9 * 1e6);
    expect(most).toBeLessThanOrEqual(MEBIBYTE / 8);
  });
});
