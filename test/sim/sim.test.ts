/** The simulator itself: the same seed gives the same run, its faults happen, and its clock keeps its order. */
import { describe, expect, it } from 'vitest';
import { VirtualClock } from './clock.ts';
import { generator } from './random.ts';
import { World } from './world.ts';

function run(seed: number): string {
  const world = new World({
    seed,
    link: { delay: 30, jitter: 20, loss: 0.2, duplicate: 0.1, corrupt: 0.05, reorder: 0.1, reorderDelay: 100 },
  });
  const [a, b] = world.pair();
  for (let i = 0; i < 40; i++) {
    world.ping(a, b, i);
    world.ping(b, a, i);
    world.run(1_000);
  }
  return `${world.log.toString()}\n${a.delivered.length} ${b.delivered.length}`;
}

describe('World', () => {
  it('replays a seed datagram by datagram, and another seed differently', () => {
    const first = run(7);
    expect(run(7)).toBe(first);
    expect(run(8)).not.toBe(first);
    expect(first.split('\n').length).toBeGreaterThan(80);
  });

  it('names the seed and the moment of a failure', () => {
    const world = new World({ seed: 4711 });
    world.clock.at(12, () => {
      throw new Error('broken');
    });
    expect(() => world.run(100)).toThrow('seed 4711, at 12 ms: broken');
  });
});

describe('Network', () => {
  it('loses, duplicates, damages and reorders as often as it is told', () => {
    const world = new World({
      seed: 1,
      link: { delay: 10, loss: 0.25, duplicate: 0.5, corrupt: 0.1, reorder: 0.2, reorderDelay: 50 },
    });
    const arrived: number[] = [];
    let damaged = 0;
    const [from, to] = [1, 2].map((n) => ({ address: Uint8Array.of(192, 0, 2, n), port: 1, scopeId: 0 }));
    world.network.attach(to!, {
      name: 'to',
      receive(bytes) {
        if (bytes[4] === 0) arrived.push(new DataView(bytes.buffer).getUint32(0));
        else damaged++;
      },
    });
    for (let i = 0; i < 10_000; i++) {
      const bytes = new Uint8Array(1_000);
      new DataView(bytes.buffer).setUint32(0, i);
      world.network.send('from', from!, to!, bytes);
      world.run(1);
    }
    world.run(1_000);
    const whole = arrived.length + damaged;
    expect(whole / 10_000).toBeCloseTo(0.75 * 1.5, 1);
    expect(new Set(arrived).size / 10_000).toBeCloseTo(0.75, 1);
    const late = arrived.filter((id, i) => arrived.slice(Math.max(0, i - 100), i).some((before) => before > id)).length;
    expect(late).toBeGreaterThan(1_000);
  });

  it('cuts, heals, filters and translates', () => {
    const world = new World({ seed: 2 });
    const [a, b] = world.pair();
    world.network.cut('a', 'b');
    a.rekey();
    world.run(0);
    world.network.heal();
    world.network.filter = ({ kind }) => kind !== 'response';
    world.run(6_000);
    world.network.filter = () => true;
    world.network.nat('a', Uint8Array.of(198, 51, 100, 1), 1_000);
    world.run(6_000);
    expect(world.log.entries.slice(0, 3).map(({ kind, fate }) => `${kind} ${fate}`)).toEqual([
      'initiation partitioned',
      'initiation sent',
      'response filtered',
    ]);
    expect(world.log.of({ from: 'a' }).at(-1)!.source.address).toEqual(Uint8Array.of(198, 51, 100, 1));
    expect(world.ping(b, a)).toBe('send');
    world.run(5_000);
    // The mapping is gone: b's packet finds nobody, and the inner address never did.
    world.ping(b, a);
    expect(world.log.of({ from: 'b' }).at(-1)!.fate).toBe('unreachable');
  });
});

describe('VirtualClock', () => {
  it('keeps appointments in order of time, then of asking', () => {
    const clock = new VirtualClock();
    const random = generator(3);
    const kept: [number, number][] = [];
    for (let i = 0; i < 1_000; i++) {
      const at = random.below(50);
      clock.at(at, () => {
        kept.push([clock.now, i]);
        expect(clock.now).toBe(at);
      });
    }
    clock.runTo(100);
    expect(kept.length).toBe(1_000);
    expect(kept).toEqual(kept.toSorted((x, y) => x[0] - y[0] || x[1] - y[1]));
    expect(clock.now).toBe(100);
  });
});
