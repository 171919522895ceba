/** Two ends that get too little of the processor: late timers, bursts, and a socket buffer that overflows while nobody reads. */
import { describe, expect, it } from 'vitest';
import { type IpAddress, PacketBatch, Stack } from '../src/index.ts';
import { Dice } from './support/random.ts';
import { A4, B4, Drain, Source } from './support/sim.ts';

/** What handling a packet takes, in milliseconds. */
const PACKET_MS = 0.005;
const BATCH = 44;
const TOTAL = 20_000_000;

interface Load {
  /** How long an end runs at most before others have their turn, and how many others there are. */
  readonly sliceMs: number;
  readonly others: number;
  /** Packets that the socket of an end holds while it does not run. */
  readonly buffer: number;
}

class End {
  readonly out: PacketBatch = new PacketBatch(128, 1420);
  readonly stack: Stack;
  inbox: Uint8Array[] = [];
  /** Of this slice, and when the next one begins; Infinity while there is nothing to do. */
  used = 0;
  runsAt = Infinity;
  lost = 0;

  constructor(dice: Dice, address: IpAddress) {
    const random = (length: number): Uint8Array => dice.bytes(length);
    this.stack = new Stack({ output: this.out, random, mtu: 1420, addresses: [address] });
  }
}

/** Transfers a file from one end to the other and returns what it took. */
function transfer(seed: number, { sliceMs, others, buffer }: Load): { ms: number; lost: number; repeated: number } {
  const dice = new Dice(seed);
  const [a, b] = [new End(dice, A4), new End(dice, B4)];
  const source = new Source(seed, TOTAL);
  const drain = new Drain(seed);
  b.stack.listen({ port: 80 }, (incoming) => void incoming.accept(drain));
  a.stack.connect({ address: B4, port: 80 }, source);
  const wakeUpMs = (): number => 0.05 + dice.next() * sliceMs * others;
  const send = (from: End, to: End, now: number): void => {
    const { out } = from;
    for (let i = 0; i < out.count; i++) {
      if (to.inbox.length >= buffer) to.lost++;
      else to.inbox.push(out.buffer.slice(out.offsets[i], out.offsets[i]! + out.lengths[i]!));
    }
    if (out.count > 0) to.runsAt = Math.min(to.runsAt, now + wakeUpMs());
    out.clear();
  };
  const run = (end: End, other: End, start: number): void => {
    let now = start;
    const until = start + sliceMs - end.used;
    end.runsAt = Infinity;
    for (let isBusy = true; isBusy && now < until;) {
      const taken = end.inbox.splice(0, 8 * BATCH);
      for (const packet of taken) end.stack.receive(packet, 0, packet.length, now);
      now += taken.length * PACKET_MS;
      end.stack.tick(now);
      isBusy = taken.length > 0 || end.out.count > 0;
      now += end.out.count * PACKET_MS;
      send(end, other, now);
    }
    if (now >= until) {
      end.used = 0;
      end.runsAt = now + sliceMs * others * (0.5 + dice.next());
    } else {
      end.used /= 2;
      const deadline = end.stack.nextDeadline();
      if (deadline < Infinity) end.runsAt = Math.max(now, deadline) + wakeUpMs();
    }
  };
  a.runsAt = 1;
  let now = 1;
  while (!drain.ended && now < 3_600_000) {
    const [end, other] = a.runsAt <= b.runsAt ? [a, b] : [b, a];
    now = Math.max(now, end.runsAt);
    run(end, other, now);
  }
  expect([drain.received, drain.wrongAt]).toEqual([TOTAL, -1]);
  return { ms: now, lost: a.lost + b.lost, repeated: a.stack.status().retransmissions };
}

describe('ends that are starved of the processor', () => {
  const loads: readonly Load[] = [
    { sliceMs: 3, others: 1, buffer: 100 },
    { sliceMs: 3, others: 8, buffer: 100 },
    { sliceMs: 3, others: 8, buffer: 700 },
    { sliceMs: 30, others: 4, buffer: 100 },
    { sliceMs: 30, others: 4, buffer: 700 },
    { sliceMs: 100, others: 4, buffer: 300 },
  ];
  for (const load of loads) {
    const { sliceMs, others, buffer } = load;
    it.each([1, 2])(
      `repeat what was lost and little else: ${others} others, ${sliceMs} ms, ${buffer} packets, seed %i`,
      (seed) => {
        const { ms, lost, repeated } = transfer(seed, load);
        expect(repeated).toBeLessThan(1.1 * lost + 20);
        // A round trip at worst is a wait of each end; a fifth of a buffer in that time is far from a collapse.
        const roundTripMs = 2 * sliceMs * others * 1.5 + 2;
        expect(TOTAL / ms).toBeGreaterThan((buffer * 1368) / 5 / roundTripMs);
      },
    );
  }
});
