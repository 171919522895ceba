import { describe, expect, it } from 'vitest';
import type { TcpConnection } from '../src/index.ts';
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
