import { describe, expect, it } from 'vitest';
import { parse, tcp } from './support/packets.ts';
import { A4, A6, B4, B6, Drain, type Faults, Sim, Source } from './support/sim.ts';

const SACK_PERMITTED = 4;
const WINDOW_SCALE = 3;
const TIMESTAMPS = 8;

/** Overwrites options of SYNs with NOPs, as some middleboxes do; never loses a packet. */
function without(...kinds: readonly number[]): (packet: Uint8Array) => boolean {
  return (packet) => {
    const isV4 = packet[0]! >>> 4 === 4;
    const { flags, options, fromPort, toPort, seq, ack, window } = parse(packet);
    if (!flags.includes('s')) return false;
    for (let at = 0; at < options.length; at += options[at] === 1 ? 1 : options[at + 1]!) {
      if (kinds.includes(options[at]!)) options.fill(1, at, at + options[at + 1]!);
    }
    const isFromA = packet[isV4 ? 15 : 23] === 1;
    const [a, b] = isV4 ? [A4, B4] : [A6, B6];
    const [from, to] = isFromA ? [a, b] : [b, a];
    packet.set(tcp({ from, fromPort, to, toPort, seq, ack, flags, window, options: [...options] }));
    return false;
  };
}

function transfer(
  sim: Sim,
  total: number,
  family: 4 | 6 = 4,
  localPort = 0,
): { readonly drain: Drain; readonly source: Source } {
  const source = new Source(1, total);
  const drain = new Drain(1);
  sim.b.stack.listen({ port: 80 }, (incoming) => void incoming.accept(drain));
  sim.a.stack.connect({ address: family === 4 ? B4 : B6, port: 80 }, source, { localPort });
  const isDone = sim.run(3_600_000, () => source.closed && drain.closed);
  expect({ isDone, received: drain.received, wrongAt: drain.wrongAt, errors: [source.error, drain.error] }).toEqual({
    isDone: true,
    received: total,
    wrongAt: -1,
    errors: [undefined, undefined],
  });
  return { source, drain };
}

it('a peer without selective acknowledgments hears of each segment of a batch that came early (RFC 5681 §4.2)', () => {
  const sim = new Sim(3, { delay: 10 });
  const strip = without(SACK_PERMITTED);
  let losses = 1;
  sim.a.faults.drop = (packet) => strip(packet) || (packet.length > 1000 && losses-- > 0);
  sim.b.faults.drop = strip;
  const acknowledgments: (readonly [number, number])[] = [];
  sim.b.tap = (packet) => void acknowledgments.push([sim.now, parse(packet).ack]);
  const source = new Source(3, 200_000);
  const drain = new Drain(3);
  sim.b.stack.listen({ port: 80 }, (incoming) => void incoming.accept(drain));
  sim.a.stack.connect({ address: B4, port: 80 }, source);
  sim.run(60_000, () => drain.ended);
  expect(drain.received).toBe(200_000);
  // After the SYN-ACK. Three duplicates make a fast retransmission (RFC 5681 §3.2); one for the whole batch makes none.
  const [, one, two, three] = acknowledgments;
  expect([two, three]).toEqual([one, one]);
});

describe('a peer without', () => {
  const links: readonly [string, Faults][] = [
    ['loss', { delay: 10, loss: 0.03 }],
    ['reordering', { delay: 10, jitter: 8, duplicate: 0.02 }],
  ];
  const missing: readonly [string, readonly number[]][] = [
    ['selective acknowledgments', [SACK_PERMITTED]],
    ['timestamps', [TIMESTAMPS]],
    ['window scaling', [WINDOW_SCALE]],
    ['any option but the MSS', [SACK_PERMITTED, TIMESTAMPS, WINDOW_SCALE]],
  ];
  for (const [name, kinds] of missing) {
    for (const [faultName, faults] of links) {
      it(`${name} is served in spite of ${faultName}`, () => {
        for (const family of [4, 6] as const) {
          const strip = without(...kinds);
          const sim = new Sim(11, { ...faults, drop: strip });
          let used = false;
          for (const node of [sim.a, sim.b]) {
            node.tap = (packet) => {
              const { flags, options } = parse(packet);
              if (!flags.includes('s') && options.length > 0) used = true;
            };
          }
          transfer(sim, 500_000, family);
          // What was not offered is not used: without timestamps and selective acknowledgments there is nothing left.
          expect(used).toBe(kinds.length < 3);
        }
      });
    }
  }
});

describe('sequence numbers', () => {
  /** The initial sequence number that the node draws for the connection below, at the simulation's start. */
  function initial(seed: number, side: 'a' | 'b'): number {
    const sim = new Sim(seed);
    let seen: number | undefined;
    sim[side].tap = (packet) => {
      const { flags, seq } = parse(packet);
      if (flags.includes('s')) seen ??= seq >>> 0;
    };
    transfer(sim, 1, 4, 40_000);
    return seen!;
  }

  for (const side of ['a', 'b'] as const) {
    for (const before of [0, 1, 1000, 100_000]) {
      it(`wrap ${before} bytes into the stream of the ${side === 'a' ? 'client' : 'server'}`, () => {
        // RFC 6528: one every four microtwos; the SYN is under way for a millitwo.
        const late = side === 'a' ? 0 : 250;
        const distance = (2 ** 33 - before - late - initial(5, side)) % 2 ** 32;
        const sim = new Sim(5, { delay: 1, duplicate: 0.02 });
        sim.now += distance / 250;
        sim.settle();
        let first: number | undefined;
        sim[side].tap = (packet) => {
          const { flags, seq } = parse(packet);
          if (flags.includes('s')) first ??= seq >>> 0;
        };
        const echo = new Source(2, 300_000);
        const source = new Source(1, 300_000);
        const [toB, toA] = [new Drain(1), new Drain(2)];
        sim.b.stack.listen({ port: 80 }, (incoming) => {
          incoming.accept({
            onConnect: (c) => echo.onConnect(c),
            onWritable: (c) => echo.onWritable(c),
            onReadable: (c) => toB.onReadable(c),
            onClose: (c, error) => toB.onClose(c, error),
          });
        });
        toA.ended = true;
        toB.ended = true;
        sim.a.stack.connect(
          { address: B4, port: 80 },
          {
            onConnect(c) {
              source.onConnect(c);
              for (const { faults } of [sim.a, sim.b]) Object.assign(faults, { loss: 0.02, jitter: 2 });
            },
            onWritable: (c) => source.onWritable(c),
            onReadable: (c) => toA.onReadable(c),
            onClose: (c, error) => toA.onClose(c, error),
          },
          { localPort: 40_000 },
        );
        expect(sim.run(600_000, () => toA.closed && toB.closed)).toBe(true);
        expect((first! + before) % 2 ** 32).toBeLessThanOrEqual(1);
        for (const drain of [toA, toB])
          expect([drain.received, drain.wrongAt, drain.error]).toEqual([300_000, -1, undefined]);
      });
    }
  }
});
