/**
 * Whatever packets arrive, the stack throws nothing, stays within its limits, sends only whole packets with right checksums,
 * acknowledges only what was sent to it, never stays due, keeps no memory, and serves afterwards.
 */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { type Stack, UNREACHABLE_ERRORS } from '@sealane/netstack';
import { parse, tcp } from '../../packages/netstack/test/support/packets.ts';
import { A4, A6, B4, B6, Drain, Sim, Source } from '../../packages/netstack/test/support/sim.ts';
import { generator } from '../sim/random.ts';
import { heapUsed } from './heap.ts';
import { checkWhole } from './packet-checks.ts';
import { LIMITS, StackTarget } from './stack-target.ts';

/** `npm run fuzz` asks for more. */
const PACKETS = Number(process.env['SEALANE_FUZZ'] ?? 500_000);
const SEED = Number(process.env['SEALANE_SEED'] ?? 1);
const BATCH = 16;
const HOUR = 3_600_000;

function checkLimits(stack: Stack): void {
  const status = stack.status();
  const most = {
    connections: LIMITS.maxConnections,
    halfOpen: LIMITS.maxHalfOpen,
    timeWaits: LIMITS.maxTimeWait,
    udpFlows: LIMITS.maxUdpFlows,
    bufferBytes: LIMITS.maxBufferBytes,
    reassemblies: 256,
    // Who is not here any more has no timer.
    timers: status.connections + status.udpFlows,
  };
  for (const [name, limit] of Object.entries(most)) {
    const value = status[name as keyof typeof most];
    if (!(value >= 0 && value <= limit)) throw new Error(`${name} is ${value}, beyond ${limit}`);
  }
}

describe('packets', () => {
  it(`${PACKETS} of them, from one who knows all sequence numbers`, { timeout: 120_000 + PACKETS }, () => {
    const target = new StackTarget(generator(SEED));
    let heap = 0;
    const rounds = Math.ceil(PACKETS / BATCH);
    for (let round = 0; round < rounds; round++) {
      for (let i = 0; i < BATCH; i++) target.attack();
      target.turn();
      checkLimits(target.stack);
      if (round === rounds >> 2) heap = heapUsed();
    }
    const grown = heapUsed() / heap;
    expect(grown, `the heap is ${grown.toFixed(3)} times what it was`).toBeLessThan(1.1);

    // Everything was reached: all states of a connection, every reason to drop, every kind of answer.
    const { states, stack } = target;
    expect([...states].toSorted()).toEqual([
      'close-wait',
      'closed',
      'closing',
      'established',
      'fin-wait-1',
      'fin-wait-2',
      'last-ack',
      'syn-received',
      'syn-sent',
    ]);
    const neverHere = new Set(['refused-by-policy', 'output-full']);
    for (const [reason, count] of Object.entries(stack.drops))
      if (!neverHere.has(reason)) expect(count, reason).toBeGreaterThan(0);
    for (const error of ['ECONNRESET', 'ETIMEDOUT', ...Object.values(UNREACHABLE_ERRORS)])
      expect(target.errors, error).toContain(error);

    // Once it is silent, nothing waits for it for ever but what the owner may still use.
    target.pass(HOUR);
    const usable = new Set(['established', 'close-wait', 'fin-wait-2']);
    expect(target.held().filter((state) => !usable.has(state))).toEqual([]);

    // And all that it made the stack hold goes away, but for what the stack's owner has not let go of.
    target.letGo();
    target.pass(3 * HOUR);
    const { connections, halfOpen, timeWaits, udpFlows, reassemblies, timers, bufferBytes } = stack.status();
    expect({ connections, halfOpen, timeWaits, udpFlows, reassemblies, timers, bufferBytes }).toEqual({
      connections: 0,
      halfOpen: 0,
      timeWaits: 0,
      udpFlows: 0,
      reassemblies: 0,
      timers: 0,
      bufferBytes: 0,
    });
    expect(target.serves()).toBe(true);
  });

  it('of the corpus: each case once was, or could have been, a crash', () => {
    const file = new URL('corpus/packets.json', import.meta.url);
    const cases = JSON.parse(readFileSync(file, 'utf8')) as { note: string; hex: readonly string[] }[];
    expect(cases.length).toBeGreaterThan(20);
    for (const { note, hex } of cases) {
      const sim = new Sim(SEED, { delay: 1 });
      const drain = new Drain(1);
      sim.b.stack.listen({ port: 80 }, (incoming) => void incoming.accept(drain.connected ? {} : drain));
      sim.b.stack.bindUdp({ port: 9, onMessage: () => undefined });
      sim.a.stack.connect({ address: B4, port: 80 }, new Source(1, 100_000));
      sim.run(5, () => drain.connected);
      sim.b.tap = (packet) => checkWhole(packet, 1420);
      for (const text of hex) sim.inject(sim.b, new Uint8Array(Buffer.from(text, 'hex')));
      expect(
        sim.run(HOUR, () => drain.closed),
        note,
      ).toBe(true);
      expect([drain.received, drain.wrongAt, drain.error], note).toEqual([100_000, -1, undefined]);
    }
  });
});

describe('a flood', () => {
  it('of SYNs to every port of every address leaves room for who was there', () => {
    const sim = new Sim(
      SEED,
      { delay: 1 },
      {},
      { anyDestination: true, limits: { maxHalfOpen: 64 }, onIncoming: (incoming) => void incoming.accept({}) },
    );
    const drain = new Drain(1);
    sim.b.stack.listen({ port: 80 }, (incoming) => void incoming.accept(drain));
    sim.a.stack.connect({ address: B4, port: 80 }, new Source(1, 1_000_000));
    sim.run(3);
    sim.b.tap = (packet) => checkWhole(packet, 1420);
    const random = generator(SEED);
    for (let i = 0; i < 20_000; i++) {
      const [from, to] = random.chance(0.5) ? [A4, B4] : [A6, B6];
      const fields = { from, fromPort: 1 + random.below(65_535), to, toPort: 1 + random.below(65_535) };
      if (fields.toPort === 80) continue;
      const packet = tcp({ ...fields, seq: random.below(2 ** 31), flags: 's' });
      sim.b.stack.receive(packet, 0, packet.length, sim.now);
      if (i % 200 === 0) sim.run(1);
    }
    expect(sim.b.stack.status().halfOpen).toBeLessThanOrEqual(64);
    expect(sim.run(HOUR, () => drain.closed)).toBe(true);
    expect([drain.received, drain.wrongAt, drain.error]).toEqual([1_000_000, -1, undefined]);
    sim.run(200_000);
    expect(sim.b.stack.status()).toMatchObject({ connections: 0, halfOpen: 0, timers: 0 });
  });

  it('of peers that take nothing and answer every probe ends with their connections', () => {
    const sim = new Sim(SEED, {}, {}, { anyDestination: true, onIncoming: (incoming) => void incoming.accept({}) });
    const probes = new Map<number, ReturnType<typeof parse>>();
    let opened = 0;
    const closed: (string | undefined)[] = [];
    sim.b.stack.listen({ port: 80 }, (incoming) => {
      const source = new Source(1, 10_000, 'stay');
      incoming.accept({
        onConnect: (connection) => {
          opened++;
          source.onConnect(connection);
        },
        onClose: (_connection, error) => closed.push(error),
      });
    });
    // The attacker's own stack knows nothing of this.
    sim.b.faults.blackHole = true;
    sim.b.tap = (packet) => probes.set(parse(packet).toPort, parse(packet));
    for (let port = 1; port <= 20; port++)
      sim.inject(sim.b, tcp({ from: A4, fromPort: port, to: B4, toPort: 80, seq: 1, flags: 's' }));
    for (let step = 0; step < 5_000 && closed.length < 20; step++) {
      const answers = [...probes.values()];
      probes.clear();
      for (const { seq, toPort, data, flags } of answers) {
        const ack = (seq + data.length + (flags.includes('s') ? 1 : 0)) | 0;
        const packet = tcp({ from: A4, fromPort: toPort, to: B4, toPort: 80, seq: 2, ack, flags: 'a', window: 0 });
        sim.b.stack.receive(packet, 0, packet.length, sim.now);
      }
      sim.run(1_000);
    }
    expect(opened).toBe(20);
    expect(new Set(closed)).toEqual(new Set(['ETIMEDOUT']));
    expect(closed).toHaveLength(20);
    expect(sim.b.stack.status()).toMatchObject({ connections: 0, bufferBytes: 0, timers: 0 });
  });
});
