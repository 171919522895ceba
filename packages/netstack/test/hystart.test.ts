/** The end of the first slow start (RFC 9406, HyStart++): by delay where a queue builds up, and not by jitter. */
import { describe, expect, it } from 'vitest';
import { Cubic } from '../src/tcp/cubic.ts';
import { Dice } from './support/random.ts';
import { B4, Drain, Sim, Source } from './support/sim.ts';

const MSS = 1000;

describe('a link with a deep queue', () => {
  it('makes slow start end before the queue is full, and is full itself', () => {
    // 10 Mbit/s with a round trip of 50 ms take 62,500 bytes; 16 times as many may wait.
    const [rate, seconds] = [1250, 6];
    const sim = new Sim(1, {}, { tcp: { maxSendBuffer: 4 << 20 } }, { tcp: { maxReceiveBuffer: 4 << 20 } });
    Object.assign(sim.a.faults, { delay: 25, rate, queue: 1_000_000 });
    sim.b.faults.delay = 25;
    const drain = new Drain(1);
    sim.b.stack.listen({ port: 80 }, (incoming) => incoming.accept(drain));
    sim.a.stack.connect({ address: B4, port: 80 }, new Source(1, 50_000_000));
    sim.run(seconds * 1000);
    expect(sim.a.stack.status().retransmissions).toBe(0);
    expect(drain.received).toBeGreaterThan(rate * 1000 * seconds * 0.85);
  });
});

/** What a window of 10 segments has become after each of the rounds, whose segments have these round trips. */
function grow(rounds: readonly (readonly number[])[]): number[] {
  const cubic = new Cubic(MSS);
  let [acked, sent] = [0, 0];
  return rounds.map((samples, i) => {
    sent += 1_000_000;
    for (const [n, rtt] of samples.entries()) {
      // An acknowledgment for each part of the window.
      cubic.onRtt(rtt, 1000, acked + 1 + n, sent);
      cubic.onAck(cubic.inSlowStart ? 10_000 / samples.length : 0, i * 100, 50);
    }
    acked = sent;
    return Math.round(cubic.cwnd);
  });
}

const steady = (rtt: number, rounds: number): number[][] =>
  Array.from({ length: rounds }, () => Array<number>(10).fill(rtt));

describe('rounds', () => {
  const FULL = 10_000;

  it('whose segments all take longer end slow start, after five of careful growth (§4.2)', () => {
    const grown = grow([...steady(50, 2), ...steady(57, 9)]);
    // The eighth sample of the third round tells; its other two, and four rounds more, count a quarter.
    const careful = [0, 1, 2, 3, 4].map((n) => 3 * FULL + 7000 + 750 + n * 2500);
    expect(grown).toEqual([2 * FULL, 3 * FULL, ...careful, ...Array<number>(4).fill(careful[4]!)]);
  });

  it('of which some segments take longer do not', () => {
    const dice = new Dice(7);
    const jittery = Array.from({ length: 30 }, () =>
      Array.from({ length: 10 }, (_, i) => (i === 3 ? 50 + 4 * dice.next() : 50 + 100 * dice.next())),
    );
    expect(grow(jittery).at(-1)).toBe(31 * FULL);
  });

  it('that take longer by less than an eighth do not, nor below 4 ms; more than 16 ms always do', () => {
    expect(grow([...steady(50, 2), ...steady(56, 20)]).at(-1)).toBe(23 * FULL);
    expect(grow([...steady(8, 2), ...steady(11.9, 20)]).at(-1)).toBe(23 * FULL);
    expect(grow([...steady(400, 2), ...steady(415.9, 20)]).at(-1)).toBe(23 * FULL);
    expect(grow([...steady(400, 2), ...steady(416, 20)]).at(-1)).toBeLessThan(6 * FULL);
  });

  it('that took longer for a while let slow start go on (§4.2)', () => {
    const grown = grow([...steady(50, 2), ...steady(60, 2), ...steady(50, 20)]);
    expect(grown.at(-1)! - grown.at(-2)!).toBe(FULL);
  });
});
