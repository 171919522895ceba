/** What a reset leaves of the data before it: as with Linux, what came in order is read first, and what was written is sent first. */
import { describe, expect, it } from 'vitest';
import { Probe, establish } from './support/probe.ts';
import { SACK_PERMITTED } from './support/packets.ts';
import { B4, Drain, Sim, Source } from './support/sim.ts';

const bytes = (length: number, first = 0): Uint8Array => Uint8Array.from({ length }, (_, i) => first + i);

describe('a reset behind data', () => {
  it('leaves to the reader what came in order, and nothing of what lies beyond a gap', () => {
    const probe = new Probe();
    const { connection, theirs, closed } = establish(probe, { options: SACK_PERMITTED });
    probe.tcp({ seq: 1001, ack: theirs, data: bytes(10) });
    probe.tcp({ seq: 1021, ack: theirs, data: bytes(10, 20) });
    probe.tcp({ seq: 1011, ack: theirs, flags: 'r' });
    expect(closed()).toEqual({ error: 'ECONNRESET' });
    expect(connection.readableLength).toBe(10);
    expect(connection.hasEnded).toBe(false);
    expect(connection.read()).toEqual(bytes(10));
    expect(connection.read()).toBeUndefined();
    expect(probe.stack.status()).toMatchObject({ bufferBytes: 0, connections: 0, timers: 0 });
  });

  it('does not free the place of a connection whose data nobody has read or given up', () => {
    const probe = new Probe({ limits: { maxConnectionsPerSource: 1 } });
    const first = establish(probe);
    probe.tcp({ seq: 1001, ack: first.theirs, data: bytes(10) });
    probe.tcp({ seq: 1011, ack: first.theirs, flags: 'r' });
    expect(probe.stack.status().connections).toBe(1);
    probe.stack.listen({ port: 81 }, (incoming) => incoming.accept({}));
    expect(probe.tcp({ fromPort: 4001, toPort: 81, seq: 1, flags: 's' })).toEqual([]);
    expect(probe.stack.drops['limit-source']).toBe(1);
    first.connection.close();
    expect(probe.stack.status()).toMatchObject({ bufferBytes: 0, connections: 0, sources: 0 });
    expect(probe.tcp({ fromPort: 4001, toPort: 81, seq: 1, flags: 's' })).toMatchObject([{ flags: 'sa' }]);
  });

  it('is the end at once where there is nothing to read', () => {
    const probe = new Probe();
    const { theirs, closed } = establish(probe);
    probe.tcp({ seq: 1011, ack: theirs, data: bytes(10) });
    probe.tcp({ seq: 1001, ack: theirs, flags: 'r' });
    expect(closed()).toEqual({ error: 'ECONNRESET' });
    expect(probe.stack.status()).toMatchObject({ bufferBytes: 0, connections: 0 });
  });
});

describe('abort()', () => {
  it('sends first what was written, as far as the window goes', () => {
    const probe = new Probe();
    const { connection, theirs } = establish(probe, { window: 1072 });
    connection.write(new Uint8Array(2000));
    connection.abort();
    expect(probe.answers()).toMatchObject([
      { flags: 'a', seq: theirs },
      { flags: 'a', seq: (theirs + 536) | 0 },
      { flags: 'ra', seq: (theirs + 1072) | 0 },
    ]);
    expect(probe.stack.status()).toMatchObject({ bufferBytes: 0, connections: 0 });
  });
});

describe('abortOnceDelivered()', () => {
  it('resets a peer that has everything, whatever is lost on the way, and never looks like an end', () => {
    for (let seed = 1; seed <= 20; seed++) {
      const sim = new Sim(seed, { delay: 10, loss: 0.05 });
      const drain = new Drain(1);
      sim.b.stack.listen({ port: 80 }, (incoming) => incoming.accept(drain));
      const source = new Source(1, 200_000, 'stay');
      const connection = sim.a.stack.connect({ address: B4, port: 80 }, source);
      expect(sim.run(60_000, () => source.sent === source.total)).toBe(true);
      connection.abortOnceDelivered();
      connection.close();
      expect(sim.run(60_000, () => drain.closed || sim.a.stack.status().connections === 0)).toBe(true);
      expect(drain).toMatchObject({ received: 200_000, wrongAt: -1, ended: false });
    }
  });

  it('gives up a peer that takes nothing', () => {
    const sim = new Sim(1, { delay: 10 });
    sim.b.stack.listen({ port: 80 }, (incoming) => incoming.accept(new Drain(1)));
    const source = new Source(1, 50_000, 'stay');
    const connection = sim.a.stack.connect({ address: B4, port: 80 }, source);
    expect(sim.run(60_000, () => source.connected)).toBe(true);
    sim.a.faults.blackHole = true;
    connection.abortOnceDelivered();
    sim.run(300_000);
    expect(sim.a.stack.status()).toMatchObject({ bufferBytes: 0, connections: 0, timers: 0 });
  });
});
