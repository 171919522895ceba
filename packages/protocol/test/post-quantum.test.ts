/** The post-quantum exchange between two devices: how it begins, is renewed, switched on and off, and leaves nothing behind. */
import { describe, expect, it } from 'vitest';
import { generator } from '../../../test/sim/random.ts';
import { toyCrypto } from '../../../test/sim/toy-crypto.ts';
import { World, statusOf } from '../../../test/sim/world.ts';
import { nobleCrypto } from '../src/noble.ts';
import { hex, isZero } from './support/bytes.ts';
import { DELAY, dropsOf, exchanged, hedged, pair, traffic, WAY } from './support/hedged-pair.ts';
import { recording } from './support/lab.ts';
import { DAY, HOUR, MINUTE, SECOND } from './support/spec.ts';

describe('two peers', () => {
  it('have a hedged session after three round trips, by five messages more than a handshake takes', () => {
    const lab = pair(1);
    lab.world.ping(lab.a, lab.b);
    lab.world.run(SECOND);
    const { entries } = lab.world.log;
    expect(entries.map(({ from, kind, bytes }) => `${from} ${kind} ${bytes.length}`)).toEqual([
      'a initiation 148',
      'b response 92',
      'a data 96',
      'a data 1232',
      'b data 1136',
      'a initiation 148',
      'b response 92',
      'a keepalive 32',
    ]);
    expect([hedged(lab.a, lab.b), hedged(lab.b, lab.a)]).toEqual([true, true]);
    expect(lab.a.eventsOf('session').map((event) => event.hedged)).toEqual([false, true]);
    expect(lab.b.eventsOf('session').map((event) => event.hedged)).toEqual([false, true]);
    expect(entries.at(-1)!.at).toBe(6 * DELAY);
  });

  it('renew the key every hour under traffic, lose no packet by it, and stay hedged', () => {
    const lab = pair(2);
    const { world, a, b } = lab;
    world.log.keep = () => false;
    traffic(lab, 2);
    const dropsBefore = dropsOf(b);
    for (let minute = 0; minute < 5 * 60; minute++) {
      for (let i = 0; i < 2; i++) {
        expect(lab.exchanges()).toBe(true);
        world.run(30 * SECOND - WAY);
      }
      expect([hedged(a, b), hedged(b, a)]).toEqual([true, true]);
      expect(statusOf(a, b).postQuantum!.keyAgeMs).toBeLessThan(HOUR + 2 * MINUTE + 30 * SECOND);
    }
    expect([exchanged(a, b), exchanged(b, a)]).toEqual([5, 5]);
    expect(dropsOf(b)).toBe(dropsBefore);
  });

  it('are silent when idle: no exchange without a session, none for a renewal', () => {
    const lab = pair(3);
    lab.world.ping(lab.a, lab.b);
    lab.world.run(MINUTE);
    const after = lab.world.log.entries.length;
    lab.world.run(DAY);
    expect(lab.world.log.entries.length).toBe(after);
    // The key has outlived the sessions: the next one is hedged from its first packet on.
    lab.world.ping(lab.a, lab.b);
    lab.world.run(WAY);
    expect(lab.a.eventsOf('session').map((event) => event.hedged)).toEqual([false, true, true]);
  });

  it('agree although both began at once, in each order of their keys', () => {
    for (let seed = 0; seed < 12; seed++) {
      const lab = pair(100 + seed);
      const { world, a, b } = lab;
      a.rekey();
      world.clock.after(seed * 10, () => void b.rekey());
      traffic(lab, 15);
      expect([hedged(a, b), hedged(b, a)], `seed ${seed}`).toEqual([true, true]);
      const handshakes = world.log.count('a', 'initiation') + world.log.count('b', 'initiation');
      expect(handshakes, `seed ${seed}`).toBeLessThanOrEqual(6);
    }
  });

  it('of which one only is configured for it have a tunnel like any other', () => {
    for (const which of [0, 1]) {
      const lab = pair(4, {});
      const { world, a, b } = lab;
      if (which === 0) a.configure({ peers: [{ publicKey: b.publicKey, postQuantum: HOUR }] });
      else b.configure({ peers: [{ publicKey: a.publicKey, postQuantum: HOUR }] });
      traffic(lab, 1);
      for (let i = 0; i < 600; i++) {
        expect(lab.exchanges()).toBe(true);
        world.run(SECOND - WAY);
      }
      expect([hedged(a, b), hedged(b, a)]).toEqual([false, false]);
      expect([a, b].map((node) => node.eventsOf('session').length)).toEqual([5, 5]);
    }
  });
});

describe('configuration', () => {
  it('switched on, live, hedges the tunnel; switched off it is as it was, without a lost packet', () => {
    const lab = pair(5, {});
    const { a, b } = lab;
    traffic(lab, 2);
    a.configure({ peers: [{ publicKey: b.publicKey, postQuantum: HOUR }] });
    b.configure({ peers: [{ publicKey: a.publicKey, postQuantum: HOUR }] });
    traffic(lab, 1);
    expect([hedged(a, b), hedged(b, a)]).toEqual([true, true]);
    for (const [node, other] of [
      [a, b],
      [b, a],
    ] as const) {
      node.configure({ peers: [{ publicKey: other.publicKey, postQuantum: 0 }] });
      node.rekey();
      lab.world.run(SECOND);
      expect(lab.exchanges()).toBe(true);
      expect(statusOf(node, other).postQuantum).toBeUndefined();
      expect([hedged(a, b), hedged(b, a)]).toEqual([false, false]);
    }
  });

  it('of another preshared key voids the derived ones: a key that is exchanged must count', () => {
    const lab = pair(6);
    const { a, b, world } = lab;
    traffic(lab, 2);
    const presharedKey = generator(9).bytes(32);
    a.configure({ peers: [{ publicKey: b.publicKey, presharedKey }] });
    a.rekey();
    world.run(SECOND);
    expect(a.device.status(a.now).drops['handshake-failed']).toBeGreaterThan(0);
    b.configure({ peers: [{ publicKey: a.publicKey, presharedKey }] });
    world.run(10 * SECOND);
    traffic(lab, 12);
    expect([hedged(a, b), hedged(b, a)]).toEqual([true, true]);
    // The same key once more is no change.
    const { exchanges } = statusOf(a, b).postQuantum!;
    a.configure({ peers: [{ publicKey: b.publicKey, presharedKey, postQuantum: HOUR }] });
    a.rekey();
    traffic(lab, 12);
    expect([hedged(a, b), exchanged(a, b)]).toEqual([true, exchanges]);
  });

  it.each([1, 9_999, 86_400_001, 0.5, -1, Number.NaN])('refuses an interval of %d', (postQuantum) => {
    const [a, b] = new World({ seed: 7, crypto: toyCrypto }).pair();
    expect(() => a.configure({ peers: [{ publicKey: b.publicKey, postQuantum }] })).toThrow(
      'peers[0].postQuantum must be an integer from 10000 to 86400000',
    );
  });
});

describe('derived keys', () => {
  it('are erased when the next one is in use, all of them with the device, and are in no status', () => {
    const world = new World({ seed: 21, link: { delay: DELAY } });
    const recordings = [recording(nobleCrypto), recording(nobleCrypto)] as const;
    const a = world.add('a', { crypto: recordings[0].crypto });
    const b = world.add('b', { crypto: recordings[1].crypto });
    world.connect(a, b, { postQuantum: 10 * SECOND });
    const alive: number[] = [];
    for (let i = 0; i < 6; i++) {
      a.rekey();
      world.ping(a, b, i);
      world.run(11 * SECOND);
      const secrets = recordings.flatMap(({ secrets }) => secrets.filter(({ array }) => !isZero(array)));
      alive.push(new Set(secrets.map(({ value }) => value)).size);
      const shown = JSON.stringify(
        [a, b].map((node) => node.device.status(node.now)),
        (_, value: unknown) => (value instanceof Uint8Array ? hex(value) : value),
      );
      for (const { value } of secrets) expect(shown).not.toContain(value);
    }
    expect([exchanged(a, b), exchanged(b, a)]).toEqual([6, 6]);
    expect(new Set(alive).size).toBe(1);
    for (const node of [a, b]) node.device.close();
    const left = recordings.flatMap(({ secrets }) => secrets.filter(({ array }) => !isZero(array)));
    expect(left.map(({ kind }) => kind)).toEqual([]);
  });
});
