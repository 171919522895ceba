/** The post-quantum exchange when something goes wrong: each message lost, each side restarted at each point. */
import { describe, expect, it } from 'vitest';
import type { World } from '../../../test/sim/world.ts';
import { peerOf } from '../../../test/sim/world.ts';
import { exchanged, hedged, pair, traffic, WAY, type Pair } from './support/hedged-pair.ts';
import { HOUR, JITTER, MINUTE, REKEY_TIMEOUT, SECOND } from './support/spec.ts';

/** The pair before anything is disturbed, and who begins the handshake that is. */
const SITUATIONS = [
  { name: 'the first session', aged: false, begin: ['a'] },
  { name: 'the first session, begun by the other side', aged: false, begin: ['b'] },
  { name: 'the first session, begun by both', aged: false, begin: ['a', 'b'] },
  { name: 'a renewal', aged: true, begin: ['a'] },
  { name: 'a renewal by both', aged: true, begin: ['a', 'b'] },
] as const;

type Disturb = (n: number, from: string, at: number) => boolean;

describe.each(SITUATIONS)('$name', ({ aged, begin }) => {
  /** Three seconds with a handshake and an exchange; `passes` judges every datagram. */
  function run(passes: Disturb, both?: Parameters<World['pair']>[0], atStart: (lab: Pair) => void = () => {}): Pair {
    const lab = pair(8, both);
    if (aged) {
      traffic(lab, 20);
      lab.world.run(HOUR);
    }
    let n = 0;
    lab.world.network.filter = ({ from, at }) => passes(++n, from, at);
    atStart(lab);
    for (const name of begin) lab[name].rekey();
    traffic(lab, 3);
    lab.world.network.filter = () => true;
    return lab;
  }

  /** How long until a packet each way comes, from now on. */
  function darkness({ world, exchanges }: Pair): number {
    const began = world.clock.now;
    while (!exchanges()) {
      if (world.clock.now - began > MINUTE) return Infinity;
      world.run(100);
    }
    return world.clock.now - began;
  }

  function expectHedged({ a, b }: Pair, when: string): void {
    expect([hedged(a, b), hedged(b, a)], when).toEqual([true, true]);
  }

  /** When each datagram of the undisturbed window leaves, in milliseconds from its beginning. */
  const times: number[] = [];
  let began = 0;
  const undisturbed = run(
    (_n, _from, at) => {
      times.push(at - began);
      return true;
    },
    undefined,
    ({ world }) => {
      began = world.clock.now;
    },
  );
  const lengths = undisturbed.world.log.of({ since: began }).map(({ bytes }) => bytes.length);

  it('has an exchange in it', () => {
    expect(times.length).toBeGreaterThan(9);
    expect(lengths).toEqual(expect.arrayContaining([1_232, 1_136]));
    expectHedged(undisturbed, 'undisturbed');
  });

  it('each datagram alone may be lost: traffic within one handshake retry, and the tunnel is hedged again', () => {
    for (let k = 1; k <= times.length; k++) {
      const lab = run((n) => n !== k);
      expect(darkness(lab), `datagram ${k}`).toBeLessThanOrEqual(REKEY_TIMEOUT + JITTER + 2 * WAY);
      // An offer that was lost goes out again after five seconds; then there is a handshake.
      traffic(lab, 15);
      expectHedged(lab, `datagram ${k}`);
    }
  });

  it('everything from a datagram on may be lost for a while, in either direction', () => {
    for (let k = 1; k <= times.length; k += 2) {
      for (const silent of [['a'], ['b'], ['a', 'b']]) {
        const when = `from ${k} on, ${silent.join()}`;
        const lab = run((n, from) => n < k || !silent.includes(from));
        lab.world.run(20 * SECOND);
        expect(darkness(lab), when).toBeLessThanOrEqual(15 * SECOND + REKEY_TIMEOUT);
        // An exchange that was given up waits for the next session.
        traffic(lab, 140, 5);
        expectHedged(lab, when);
      }
    }
  });

  it('either side may restart at each datagram: no darker than without the exchange, and hedged again', () => {
    for (const [i, at] of times.entries()) {
      for (const which of ['a', 'b'] as const) {
        const when = `datagram ${i + 1}, ${which} restarts`;
        const [lab, plain] = [{ postQuantum: HOUR }, {}].map((both) =>
          run(
            () => true,
            both,
            ({ world, a, b }) => {
              const [node, other] = which === 'a' ? [a, b] : [b, a];
              world.clock.after(at, () => {
                node.restart();
                node.configure({ peers: [peerOf(other, both)] });
              });
            },
          ),
        ) as [Pair, Pair];
        const without = darkness(plain);
        expect(without, when).toBeLessThan(MINUTE);
        expect(darkness(lab), when).toBeLessThanOrEqual(without + REKEY_TIMEOUT + JITTER);
        traffic(lab, 150, 5);
        expectHedged(lab, when);
      }
    }
  });
});

describe('a pair that has agreed on a key', () => {
  it('is not brought back to a session without one by any loss', () => {
    for (let seed = 1; seed <= 3; seed++) {
      const lab = pair(seed, { postQuantum: 10 * MINUTE });
      const { world, a, b } = lab;
      traffic(lab, 3);
      world.network.link = { ...world.network.link, loss: 0.6 };
      // Renewals of the key are among what is lost.
      traffic(lab, (40 * MINUTE) / SECOND, 5);
      for (const node of [a, b]) {
        const states = node.eventsOf('session').map((event) => event.hedged);
        const agreed = states.indexOf(true);
        expect(agreed, `seed ${seed}`).toBeGreaterThanOrEqual(0);
        expect(states.slice(agreed), `seed ${seed}`).not.toContain(false);
        expect(states.length, `seed ${seed}`).toBeGreaterThan(10);
      }
      expect(exchanged(a, b), `seed ${seed}`).toBeGreaterThan(1);
    }
  });
});
