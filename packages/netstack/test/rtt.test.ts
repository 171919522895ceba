import { describe, expect, it } from 'vitest';
import { RttEstimator } from '../src/tcp/rtt.ts';
import { Dice } from './support/random.ts';

describe('the round-trip estimator', () => {
  it.each([0.02, 1, 300, 9000])('follows RFC 6298 §2 to the microsecond around %s ms', (scale) => {
    const dice = new Dice(7);
    const estimator = new RttEstimator();
    let srtt = 0;
    let rttvar = 0;
    for (let i = 0; i < 500; i++) {
      const rtt = (scale * (1 + dice.below(1000))) / 500;
      if (i === 0) {
        srtt = rtt;
        rttvar = rtt / 2;
      } else {
        rttvar = (3 / 4) * rttvar + (1 / 4) * Math.abs(srtt - rtt);
        srtt = (7 / 8) * srtt + (1 / 8) * rtt;
      }
      estimator.sample(rtt, i);
      // Rounding down loses up to a microsecond a sample, of which seven eighths and three quarters are kept.
      expect(Math.abs(estimator.srtt - srtt)).toBeLessThan(0.01);
      const rto = Math.min(Math.max(200, srtt + Math.max(1, 4 * rttvar)), 60_000);
      expect(Math.abs(estimator.rto - rto)).toBeLessThan(1.1);
    }
  });

  it('never holds a measured round trip for none at all', () => {
    const estimator = new RttEstimator();
    expect([estimator.srtt, estimator.minimum]).toEqual([0, Infinity]);
    for (let i = 0; i < 50; i++) estimator.sample(0, i);
    expect(estimator.srtt).toBeGreaterThan(0);
    expect(estimator.minimum).toBe(0);
  });

  it('forgets a lowest round trip after 10 to 20 s', () => {
    const estimator = new RttEstimator();
    estimator.sample(5, 100_000);
    for (let now = 100_500; now < 110_000; now += 500) estimator.sample(50, now);
    expect(estimator.minimum).toBe(5);
    for (let now = 110_000; now < 123_000; now += 500) estimator.sample(50, now);
    expect(estimator.minimum).toBe(50);
  });
});
