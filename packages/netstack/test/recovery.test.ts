/** What losses cost, in virtual time: round trips and probes, not retransmission timeouts (RFC 8985, RFC 9438). */
import { describe, expect, it } from 'vitest';
import { B4, Drain, type Faults, Sim, Source } from './support/sim.ts';

const MSS = 1420 - 20 - 20 - 12;

/** Virtual milliseconds that a transfer took from its first data on. */
function transfer(seed: number, faults: Faults, total: number): number {
  const sim = new Sim(seed);
  const source = new Source(seed, total);
  const drain = new Drain(seed);
  sim.b.stack.listen({ port: 80 }, (incoming) => void incoming.accept(drain));
  sim.a.stack.connect({ address: B4, port: 80 }, source);
  sim.run(10_000, () => source.connected);
  sim.a.faults = { ...faults };
  sim.b.faults = { ...faults };
  const start = sim.now;
  expect(sim.run(3_600_000, () => drain.ended)).toBe(true);
  expect([drain.received, drain.wrongAt]).toEqual([total, -1]);
  return sim.now - start;
}

describe('losses where one acknowledgment answers a whole flight', () => {
  it.each([1, 2, 3, 4, 5, 6])('cost no retransmission timeouts, seed %i', (seed) => {
    // About 73 segments and 30 acknowledgments are lost. What a lost acknowledgment costs is a probe of 2 ms; a timeout is 200 ms.
    expect(transfer(seed, { loss: 0.01 }, 10_000_000)).toBeLessThan(200);
  });

  it('are probed for soon although the handshake was lost too', () => {
    // The whole first flight is lost. Without a round trip from the handshake there is no probe, and the timeout is a whole second.
    const sim = new Sim(7, { delay: 10 });
    const source = new Source(7, 100_000);
    const drain = new Drain(7);
    sim.b.stack.listen({ port: 80 }, (incoming) => void incoming.accept(drain));
    let handshakes = 1;
    let flight = 10;
    sim.a.faults.drop = (packet) => (packet.length > 1000 ? flight-- > 0 : handshakes-- > 0);
    sim.a.stack.connect({ address: B4, port: 80 }, source);
    sim.run(10_000, () => source.connected);
    const start = sim.now;
    sim.run(60_000, () => drain.ended);
    expect(drain.received).toBe(100_000);
    expect(sim.now - start).toBeLessThan(500);
  });
});

describe('random losses', () => {
  it('leave the window that RFC 9438 expects', () => {
    // RFC 9438 §4.3 and §5.2: at so short a round trip CUBIC is as fast as Reno, whose mean window is sqrt(3 / 2p) segments.
    const expected = (Math.sqrt(3 / (2 * 0.01)) * MSS) / 20;
    const seeds = [1, 2, 3, 4];
    const total = 6_000_000;
    const took = seeds.reduce((sum, seed) => sum + transfer(seed, { loss: 0.01, delay: 10 }, total), 0);
    const rate = (seeds.length * total) / took;
    expect(rate).toBeGreaterThan(0.8 * expected);
    expect(rate).toBeLessThan(1.4 * expected);
  });
});
