/** Token bucket a source: 20 a second, bursts of 5, at most 65,536 sources, closed when full. */
import { describe, expect, it } from 'vitest';
import { RateLimiter } from '../src/ratelimiter.ts';
import { ip, vectors } from './support/bytes.ts';

const file = vectors<{
  readonly addresses: readonly string[];
  readonly steps: readonly (readonly [number, boolean])[];
}>('wireguard-go/ratelimiter.json');

function ipv4(i: number): Uint8Array {
  return Uint8Array.of(10, i >>> 16, i >>> 8, i);
}

describe('RateLimiter', () => {
  it('walks the timeline of wireguard-go for every address', () => {
    const limiter = new RateLimiter();
    let now = 0;
    for (const address of file.addresses) {
      for (const [wait, allowed] of file.steps) {
        now += wait / 1e6 + 1e-6;
        expect(limiter.allow(ip(address), now), `${address} at ${now}`).toBe(allowed);
      }
    }
  });

  it('lets 20 a second through in the long run', () => {
    const limiter = new RateLimiter();
    let allowed = 0;
    for (let now = 0; now < 60_000; now += 1) if (limiter.allow(ip('192.0.2.1'), now)) allowed++;
    expect(allowed).toBeGreaterThanOrEqual(1200);
    expect(allowed).toBeLessThanOrEqual(1205);
  });

  it('counts IPv6 by /64 and IPv4 by address', () => {
    const limiter = new RateLimiter();
    for (let i = 1; i <= 5; i++) expect(limiter.allow(ip(`2001:db8:0:1::${i}`), 0)).toBe(true);
    expect(limiter.allow(ip('2001:db8:0:1::6'), 0)).toBe(false);
    expect(limiter.allow(ip('2001:db8:0:2::6'), 0)).toBe(true);
    for (let i = 0; i < 1_000; i++) expect(limiter.allow(ipv4(i), 0)).toBe(true);
  });

  it('asks for a sweep a second after the last while it keeps anything', () => {
    const limiter = new RateLimiter();
    expect(limiter.nextSweep()).toBe(Infinity);
    limiter.allow(ipv4(1), 10_000);
    expect(limiter.nextSweep()).toBe(11_000);
    limiter.allow(ipv4(2), 10_400);
    expect(limiter.nextSweep()).toBe(11_000);
    limiter.sweep(11_000);
    expect([limiter.size, limiter.nextSweep()]).toEqual([1, 12_000]);
    // A source is kept until it was quiet for a second, and not longer.
    limiter.sweep(11_399.9);
    expect(limiter.size).toBe(1);
    limiter.sweep(11_400);
    expect([limiter.size, limiter.nextSweep()]).toEqual([0, Infinity]);
  });

  it('keeps at most 65,536 of 300,000 sources, fails closed, and forgets them after 2 s', () => {
    const limiter = new RateLimiter();
    let allowed = 0;
    for (let i = 0; i < 300_000; i++) if (limiter.allow(ipv4(i), i / 600)) allowed++;
    expect(limiter.size).toBe(65_536);
    expect(allowed).toBe(65_536);
    expect(limiter.allow(ipv4(0), 500)).toBe(true);
    limiter.allow(ipv4(2_000_000), 2_500);
    expect(limiter.size).toBeLessThanOrEqual(1);
  });
});
