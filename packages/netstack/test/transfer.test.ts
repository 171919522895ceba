import { describe, expect, it } from 'vitest';
import type { IpAddress } from '../src/index.ts';
import { A4, A6, B4, B6, Drain, type Faults, Sim, Source } from './support/sim.ts';

interface Outcome {
  readonly sim: Sim;
  readonly source: Source;
  readonly drain: Drain;
  readonly took: number;
}

/** Sends `total` bytes from a to b over the link and closes both directions. */
function transfer(seed: number, faults: Faults, total: number, to: IpAddress = B4, limit = 600_000): Outcome {
  const sim = new Sim(seed, faults);
  const drain = new Drain(seed);
  const source = new Source(seed, total);
  sim.b.stack.listen({ port: 80 }, (incoming) => incoming.accept(drain));
  sim.a.stack.connect({ address: to, port: 80 }, source);
  const start = sim.now;
  sim.run(limit, () => source.closed && drain.closed);
  return { sim, source, drain, took: sim.now - start };
}

function expectWhole({ source, drain, sim }: Outcome, total: number): void {
  expect({ received: drain.received, wrongAt: drain.wrongAt, ended: drain.ended }).toEqual({
    received: total,
    wrongAt: -1,
    ended: true,
  });
  expect([source.error, drain.error, source.closed, drain.closed]).toEqual([undefined, undefined, true, true]);
  sim.run(120_000);
  for (const node of [sim.a, sim.b]) {
    const { connections, halfOpen, timeWaits, bufferBytes, timers, sources } = node.stack.status();
    expect({ connections, halfOpen, timeWaits, bufferBytes, timers, sources }).toEqual({
      connections: 0,
      halfOpen: 0,
      timeWaits: 0,
      bufferBytes: 0,
      timers: 0,
      sources: 0,
    });
    expect(node.stack.nextDeadline()).toBe(Infinity);
  }
}

describe('a transfer', () => {
  const links: Record<string, Faults> = {
    'a perfect link': { delay: 1 },
    'no delay at all': {},
    'a slow, long link': { delay: 100, rate: 1000, queue: 100_000 },
    'loss of 5 %': { delay: 10, loss: 0.05 },
    'loss of 30 %': { delay: 10, loss: 0.3 },
    reordering: { delay: 5, jitter: 20 },
    duplicates: { delay: 5, duplicate: 0.3 },
    corruption: { delay: 5, corrupt: 0.05 },
    'all of it': { delay: 10, jitter: 15, loss: 0.05, duplicate: 0.05, corrupt: 0.02 },
  };
  for (const [name, faults] of Object.entries(links)) {
    for (const [family, to] of [
      ['IPv4', B4],
      ['IPv6', B6],
    ] as const) {
      it(`arrives whole and leaves nothing behind: ${name}, ${family}`, () => {
        for (let seed = 1; seed <= 4; seed++) expectWhole(transfer(seed, faults, 300_000, to), 300_000);
      });
    }
  }

  it('of nothing at all arrives too', () => {
    expectWhole(transfer(1, { delay: 5 }, 0), 0);
  });

  it('survives a black hole of 20 s in the middle', () => {
    const sim = new Sim(7, { delay: 10, rate: 500 });
    const drain = new Drain(7);
    const source = new Source(7, 2_000_000);
    sim.b.stack.listen({ port: 80 }, (incoming) => incoming.accept(drain));
    sim.a.stack.connect({ address: B4, port: 80 }, source);
    sim.run(1000);
    sim.a.faults.blackHole = true;
    sim.b.faults.blackHole = true;
    sim.run(20_000);
    sim.a.faults.blackHole = false;
    sim.b.faults.blackHole = false;
    sim.run(300_000, () => source.closed && drain.closed);
    expectWhole({ sim, source, drain, took: 0 }, 2_000_000);
  });

  it('waits for a receiver that does not read, for an hour, and goes on', () => {
    const sim = new Sim(8, { delay: 10, loss: 0.02 });
    const drain = new Drain(8);
    drain.paused = true;
    const source = new Source(8, 3_000_000);
    let server: Parameters<Drain['onReadable']>[0] | undefined;
    sim.b.stack.listen({ port: 80 }, (incoming) => {
      server = incoming.accept(drain);
    });
    sim.a.stack.connect({ address: B4, port: 80 }, source);
    sim.run(3_600_000);
    expect(source.closed).toBe(false);
    expect(server!.readableLength).toBeLessThanOrEqual(512 << 10);
    drain.paused = false;
    drain.onReadable(server!);
    sim.run(300_000, () => source.closed && drain.closed);
    expectWhole({ sim, source, drain, took: 0 }, 3_000_000);
  });

  it('goes both ways at once', () => {
    const sim = new Sim(9, { delay: 10, loss: 0.02, jitter: 5 });
    const ends = [new Source(1, 500_000, 'stay'), new Source(2, 500_000, 'stay')] as const;
    const drains = [new Drain(2), new Drain(1)] as const;
    const both = (i: 0 | 1) => ({
      onConnect: (c: Parameters<Source['pump']>[0]) => ends[i].onConnect(c),
      onWritable: (c: Parameters<Source['pump']>[0]) => ends[i].pump(c),
      onReadable: (c: Parameters<Source['pump']>[0]) => drains[i].onReadable(c),
    });
    sim.b.stack.listen({ port: 80 }, (incoming) => incoming.accept(both(1)));
    sim.a.stack.connect({ address: B6, port: 80 }, both(0));
    expect(sim.run(300_000, () => drains[0].received === 500_000 && drains[1].received === 500_000)).toBe(true);
    expect([drains[0].wrongAt, drains[1].wrongAt]).toEqual([-1, -1]);
  });
});

describe('congestion control', () => {
  it('makes use of a fast path with a long round trip', () => {
    const { took, ...outcome } = transfer(3, { delay: 25, rate: 12_500, queue: 1_500_000 }, 20_000_000);
    expectWhole({ took, ...outcome }, 20_000_000);
    // The link alone needs 1.65 s.
    expect(20_000_000 / took).toBeGreaterThan(12_500 * 0.6);
  });

  it('grows the window again after a loss', () => {
    const sim = new Sim(4, { delay: 10 });
    const drain = new Drain(4);
    const source = new Source(4, 60_000_000);
    sim.b.stack.listen({ port: 80 }, (incoming) => incoming.accept(drain));
    const connection = sim.a.stack.connect({ address: B4, port: 80 }, source);
    sim.run(60_000, () => connection.congestionWindow > 50_000);
    let dropNext = 1;
    sim.a.faults.drop = (packet) => packet.length > 1000 && dropNext-- > 0;
    sim.run(300);
    delete sim.a.faults.drop;
    const after = connection.congestionWindow;
    sim.run(20_000, () => connection.congestionWindow > after * 2 || drain.closed);
    expect(connection.congestionWindow).toBeGreaterThan(after * 1.5);
  });

  it('does better than 0.6 MB/s at 1 % loss and a round trip of 20 ms', () => {
    const { took, ...outcome } = transfer(5, { delay: 10, loss: 0.01 }, 10_000_000);
    expectWhole({ took, ...outcome }, 10_000_000);
    expect(10_000_000 / took).toBeGreaterThan(600);
  });

  it('repairs a lost tail without waiting for the retransmission timeout', () => {
    const sim = new Sim(6, { delay: 10 });
    const drain = new Drain(6);
    const source = new Source(6, 5000);
    sim.b.stack.listen({ port: 80 }, (incoming) => incoming.accept(drain));
    sim.a.stack.connect({ address: B4, port: 80 }, source);
    let seen = 0;
    sim.a.faults.drop = (packet) => packet.length > 100 && ++seen === 4;
    const start = sim.now;
    sim.run(10_000, () => drain.ended);
    expect(drain.received).toBe(5000);
    expect(sim.now - start).toBeLessThan(200);
  });

  it('is not fooled by a delay that outlasts the timeout', () => {
    const sim = new Sim(11, { delay: 10 });
    const drain = new Drain(11);
    const source = new Source(11, 30_000_000);
    sim.b.stack.listen({ port: 80 }, (incoming) => incoming.accept(drain));
    const connection = sim.a.stack.connect({ address: B4, port: 80 }, source);
    sim.run(60_000, () => connection.congestionWindow > 300_000);
    const before = connection.congestionWindow;
    sim.b.faults.delay = 600;
    sim.run(605);
    sim.b.faults.delay = 10;
    sim.run(2000, () => drain.closed);
    expect(connection.congestionWindow).toBeGreaterThan(before * 0.9);
  });
});

it('uses the addresses it was given', () => {
  expect([A4, B4, A6, B6].map(String)).toEqual(['127.0.0.1', '127.0.0.2', 'fd00::1', 'fd00::2']);
});
