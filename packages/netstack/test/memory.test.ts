import { describe, expect, it } from 'vitest';
import { IpAddress, type TcpConnection } from '../src/index.ts';
import { A4, B4, Drain, Sim, Source } from './support/sim.ts';
import { icmp } from './support/packets.ts';

describe('memory for streams', () => {
  const LIMIT = 1 << 20;
  const COUNT = 100;
  const TOTAL = 60_000;

  it('has a limit that many connections share, and none of them starves for ever', () => {
    const limits = { maxBufferBytes: LIMIT };
    const sim = new Sim(3, { delay: 2 }, { limits }, { limits });
    const drains: { readonly drain: Drain; readonly connection: TcpConnection }[] = [];
    sim.b.stack.listen({ port: 80 }, (incoming) => {
      const drain = new Drain(1);
      drain.paused = true;
      drains.push({ drain, connection: incoming.accept(drain) });
    });
    const sources = Array.from({ length: COUNT }, () => new Source(1, TOTAL));
    for (const source of sources) sim.a.stack.connect({ address: B4, port: 80 }, source);
    let most = 0;
    const watch = (): void => {
      for (const { stack } of [sim.a, sim.b]) most = Math.max(most, stack.status().bufferBytes);
    };
    sim.run(5000, () => {
      watch();
      return false;
    });
    expect(drains).toHaveLength(COUNT);
    expect(most).toBeGreaterThan(LIMIT / 2);
    expect(sources.some(({ sent }) => sent < TOTAL)).toBe(true);
    for (const { drain, connection } of drains) {
      drain.paused = false;
      drain.onReadable(connection);
    }
    const isDone = (): boolean => {
      watch();
      return sources.every(({ closed }) => closed) && drains.every(({ drain }) => drain.closed);
    };
    expect(sim.run(600_000, isDone)).toBe(true);
    for (const { drain } of drains)
      expect([drain.received, drain.wrongAt, drain.error]).toEqual([TOTAL, -1, undefined]);
    expect(most).toBeLessThanOrEqual(LIMIT);
    for (const { stack } of [sim.a, sim.b]) expect(stack.status().bufferBytes).toBe(0);
  });

  it('is told of to a writer that found none', () => {
    const limits = { maxBufferBytes: 2048 };
    const sim = new Sim(4, { delay: 1 }, { limits });
    const sources = [new Source(1, 10_000), new Source(1, 10_000), new Source(1, 10_000)];
    const drains: Drain[] = [];
    sim.b.stack.listen({ port: 80 }, (incoming) => {
      drains.push(new Drain(1));
      incoming.accept(drains.at(-1)!);
    });
    for (const source of sources) sim.a.stack.connect({ address: B4, port: 80 }, source);
    expect(sim.run(60_000, () => drains.length === 3 && drains.every(({ closed }) => closed))).toBe(true);
    for (const drain of drains) expect([drain.received, drain.wrongAt]).toEqual([10_000, -1]);
  });
});

describe('memory by source', () => {
  const MiB = 1 << 20;
  const limits = { maxBufferBytes: 16 * MiB, maxBufferBytesPerSource: MiB };

  const addresses = Array.from({ length: 30 }, (_, i) => new IpAddress(0, 0, 0xffff, 0x7f010001 + i));

  /** A server that sends for ever. */
  function world(): Sim {
    const sim = new Sim(11, { delay: 1 }, { addresses: [A4, ...addresses] }, { limits });
    sim.b.stack.listen({ port: 80 }, (incoming) => incoming.accept(new Source(1, 100 * MiB, 'stay')));
    return sim;
  }

  /** Opens downloads that nobody reads; returns the most that the server held for its connections. */
  function takeAll(sim: Sim, local: IpAddress, count: number): number {
    const paused = new Drain(1);
    paused.paused = true;
    for (let i = 0; i < count; i++) sim.a.stack.connect({ address: B4, port: 80 }, paused, { local });
    let most = 0;
    sim.run(500, () => {
      most = Math.max(most, sim.b.stack.status().bufferBytes);
      return false;
    });
    return most;
  }

  it('is bounded, and who has none left opens no more connections until it gives some back', () => {
    const sim = world();
    let most = 0;
    for (let i = 0; i < 30; i++) most = Math.max(most, takeAll(sim, addresses[0]!, 10));
    expect(most).toBeGreaterThan(MiB / 2);
    expect(most).toBeLessThanOrEqual(MiB);
    expect(sim.b.stack.drops['limit-memory']).toBeGreaterThan(100);
    expect(sim.b.stack.status().connections).toBeLessThan(100);
    // Its peer gone, the server's connections time out, and what they held with them.
    sim.a.faults.blackHole = true;
    sim.run(1_000_000);
    expect(sim.b.stack.status()).toMatchObject({ connections: 0, bufferBytes: 0 });
    sim.a.faults.blackHole = false;
    const again = new Drain(1);
    sim.a.stack.connect({ address: B4, port: 80 }, again, { local: addresses[0]! });
    expect(sim.run(60_000, () => again.received > 2 * MiB)).toBe(true);
    expect(again.wrongAt).toBe(-1);
  });

  it('leaves something for the next source, however many take all they can', () => {
    const sim = world();
    const greedy = addresses.slice(0, -1);
    const most = Math.max(...greedy.map((local) => takeAll(sim, local, 20)));
    expect(most).toBeGreaterThan(10 * MiB);
    expect(most).toBeLessThanOrEqual(16 * MiB);
    const modest = new Drain(1);
    sim.a.stack.connect({ address: B4, port: 80 }, modest, { local: addresses.at(-1)! });
    expect(sim.run(20_000, () => modest.received > 2 * MiB)).toBe(true);
    expect(modest.wrongAt).toBe(-1);
  });

  it('feeds those that wait as it comes free, and nobody starves', () => {
    const tight = { maxBufferBytes: 8 * MiB, maxBufferBytesPerSource: 128 << 10 };
    const sim = new Sim(12, { delay: 2, loss: 0.01 }, {}, { limits: tight });
    const drains: Drain[] = [];
    sim.b.stack.listen({ port: 80 }, (incoming) => incoming.accept(new Source(1, 300_000)));
    for (let i = 0; i < 40; i++) {
      drains.push(new Drain(1));
      sim.a.stack.connect({ address: B4, port: 80 }, drains.at(-1)!);
    }
    expect(sim.run(600_000, () => drains.every(({ closed }) => closed))).toBe(true);
    const served = drains.filter(({ error }) => error === undefined);
    expect(served.length).toBeGreaterThan(10);
    for (const drain of served) expect([drain.received, drain.wrongAt]).toEqual([300_000, -1]);
    expect(sim.b.stack.status()).toMatchObject({ connections: 0, bufferBytes: 0 });
  });
});

describe('a window that stays shut', () => {
  it('ends a connection of the transparent mode after half an hour, and others never', () => {
    for (const anyDestination of [true, false]) {
      const source = new Source(1, 1_000_000, 'stay');
      const drain = new Drain(1);
      drain.paused = true;
      const sim = new Sim(6, { delay: 1 }, {}, { anyDestination });
      sim.b.stack.listen({ port: 80 }, (incoming) => void incoming.accept(source));
      sim.a.stack.connect({ address: B4, port: 80 }, drain);
      sim.run(29 * 60_000, () => source.closed);
      expect(source.closed).toBe(false);
      sim.run(3 * 60_000, () => source.closed);
      expect(source.error).toBe(anyDestination ? 'ETIMEDOUT' : undefined);
      expect(source.closed).toBe(anyDestination);
    }
  });
});

describe('path MTU for datagrams', () => {
  it('is believed for a datagram that was sent, and for no other', () => {
    const sim = new Sim(8);
    const lengths: number[] = [];
    let first: Uint8Array | undefined;
    sim.a.tap = (packet) => {
      lengths.push(packet.length);
      first ??= packet.slice();
    };
    const socket = sim.a.stack.bindUdp({ port: 5000, onMessage: () => {} });
    const send = (): void => {
      socket.send(new Uint8Array(1300), { address: B4, port: 53 });
      sim.settle();
    };
    send();
    expect(lengths).toEqual([1328]);
    const forged = first!.slice();
    forged[23] = 54;
    sim.inject(sim.a, icmp(B4, A4, 3, 4, 800, forged.slice(0, 28)));
    send();
    expect(lengths).toEqual([1328, 1328]);
    sim.inject(sim.a, icmp(B4, A4, 3, 4, 800, first!.slice(0, 28)));
    send();
    expect(lengths.slice(2)).toEqual([796, 552]);
  });
});
