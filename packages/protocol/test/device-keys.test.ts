/** Session keys are what this is about: fresh for every session, good for that one only, gone when it is over. */
import { describe, expect, it } from 'vitest';
import type { Node } from '../../../test/sim/node.ts';
import { ipPacket } from '../../../test/sim/packets.ts';
import { generator } from '../../../test/sim/random.ts';
import { World, peerOf, statusOf } from '../../../test/sim/world.ts';
import { nobleCrypto } from '../src/noble.ts';
import { hex, isZero } from './support/bytes.ts';
import { insideOf, recording } from './support/lab.ts';
import type { Recording } from './support/lab.ts';
import * as paper from './support/paper.ts';
import {
  DAY,
  MINUTE,
  REJECT_AFTER_MESSAGES,
  REJECT_AFTER_TIME,
  REKEY_AFTER_MESSAGES,
  SECOND,
  ZERO_KEYS_AFTER,
} from './support/spec.ts';

const PSK = generator(5).bytes(32);

interface Recorded {
  readonly world: World;
  readonly a: Node;
  readonly b: Node;
  readonly ofA: Recording;
  readonly ofB: Recording;
}

function recorded(seed: number): Recorded {
  const world = new World({ seed });
  const ofA = recording(nobleCrypto);
  const ofB = recording(nobleCrypto);
  const a = world.add('a', { crypto: ofA.crypto });
  const b = world.add('b', { crypto: ofB.crypto });
  world.connect(a, b, { presharedKey: PSK });
  return { world, a, b, ofA, ofB };
}

/** `count` sessions, each with one packet both ways; the role of initiator changes. */
function renewOften({ world, a, b }: Recorded, count: number): void {
  for (let i = 0; i < count; i++) {
    (i % 3 === 2 ? b : a).rekey();
    world.run(SECOND);
    expect([world.ping(a, b, i), world.ping(b, a, i)]).toEqual(['send', 'send']);
    world.run(MINUTE);
  }
}

describe('session keys', () => {
  it('are fresh: no key of 24 sessions appears twice, in either direction', () => {
    const lab = recorded(1);
    renewOften(lab, 24);
    const sealed = [...lab.ofA.sealers, ...lab.ofB.sealers].map(({ key }) => key);
    const opened = [...lab.ofA.openers, ...lab.ofB.openers].map(({ key }) => key);
    expect(sealed.length).toBe(48);
    expect(new Set(sealed).size).toBe(48);
    expect(opened.toSorted()).toEqual(sealed.toSorted());
    expect(lab.b.delivered.length).toBe(24);
  });

  it('of session N open the packets of session N only, in their own direction', () => {
    const lab = recorded(2);
    renewOften(lab, 8);
    for (const [name, keys] of [
      ['a', lab.ofA.sealers],
      ['b', lab.ofB.sealers],
    ] as const) {
      const packets = lab.world.log.of({ from: name, kind: 'data' });
      expect(packets.length).toBe(8);
      for (const [n, { bytes }] of packets.entries()) {
        const openers = keys.filter(
          ({ key }) =>
            paper.openData(
              Uint8Array.from(key.match(/../g)!, (x) => Number.parseInt(x, 16)),
              bytes,
            ) !== undefined,
        );
        expect(openers.map(({ key }) => key)).toEqual([keys[n]!.key]);
        const others = name === 'a' ? lab.ofB.sealers : lab.ofA.sealers;
        for (const { key } of others) {
          expect(
            paper.openData(
              Uint8Array.from(key.match(/../g)!, (x) => Number.parseInt(x, 16)),
              bytes,
            ),
          ).toBeUndefined();
        }
      }
    }
  });

  it('start at counter 0 in every session', () => {
    const lab = recorded(3);
    renewOften(lab, 5);
    const firsts = new Map<number, bigint>();
    for (const { bytes } of lab.world.log.of({ from: 'a', kind: ['data', 'keepalive'] })) {
      const receiver = paper.readU32(bytes, 4);
      const counter = paper.counterOf(bytes);
      expect(counter).toBe((firsts.get(receiver) ?? -1n) + 1n);
      firsts.set(receiver, counter);
    }
    expect(firsts.size).toBe(5);
  });

  it('a packet of an earlier session is not accepted again later', () => {
    const lab = recorded(4);
    renewOften(lab, 6);
    const delivered = lab.b.delivered.length;
    for (const { bytes } of lab.world.log.of({ from: 'a', kind: ['data', 'keepalive'] })) {
      expect(['unknown-index', 'expired-session', 'replay']).toContain(lab.b.accept(bytes, lab.a.endpoint));
    }
    lab.world.run(SECOND);
    expect(lab.b.delivered.length).toBe(delivered);
  });

  it('of at most three sessions exist; the others are zero already', () => {
    const lab = recorded(5);
    renewOften(lab, 12);
    for (const { sealers, openers } of [lab.ofA, lab.ofB]) {
      const alive = sealers.filter((key) => !key.isWiped()).length;
      expect(alive).toBeGreaterThan(0);
      expect(alive).toBeLessThanOrEqual(3);
      expect(openers.filter((key) => !key.isWiped()).length).toBe(alive);
    }
  });

  it('are zero once the session has expired, 180 s after it began', () => {
    const lab = recorded(6);
    lab.world.ping(lab.a, lab.b);
    lab.world.run(REJECT_AFTER_TIME - 1);
    const all = [...lab.ofA.sealers, ...lab.ofA.openers, ...lab.ofB.sealers, ...lab.ofB.openers];
    expect(all.length).toBe(4);
    expect(all.some((key) => key.isWiped())).toBe(false);
    lab.world.run(1);
    expect(all.every((key) => key.isWiped())).toBe(true);
  });

  it('leave nothing behind: 540 s after the last session every secret on the way to them is zero', () => {
    const lab = recorded(7);
    renewOften(lab, 4);
    lab.world.run(ZERO_KEYS_AFTER);
    expect(lab.a.eventsOf('expired').length).toBe(1);
    for (const { sealers, openers, secrets } of [lab.ofA, lab.ofB]) {
      for (const key of [...sealers, ...openers]) {
        expect(isZero(key.given)).toBe(true);
        expect(key.isWiped()).toBe(true);
      }
      const left = secrets.filter(({ array }) => !isZero(array));
      // What must stay is our static key and its product with the peer's.
      expect(new Set(left.map(({ kind, value }) => `${kind} ${value}`)).size).toBe(2);
      expect(left.filter(({ kind }) => kind === 'hmac')).toEqual([]);
      expect(secrets.length).toBeGreaterThan(100);
    }
  });

  it('and all else that is secret is zero after close', () => {
    const lab = recorded(8);
    renewOften(lab, 2);
    lab.a.rekey();
    lab.world.network.filter = () => false;
    lab.world.run(SECOND);
    const inside = insideOf(lab.a, lab.b);
    lab.a.device.close();
    expect(lab.ofA.secrets.filter(({ array }) => !isZero(array))).toEqual([]);
    expect([...lab.ofA.sealers, ...lab.ofA.openers].every((key) => key.isWiped() && isZero(key.given))).toBe(true);
    expect(isZero(inside.presharedKey)).toBe(true);
  });

  it('and the handshake in progress are zero after the peer was given up', () => {
    const lab = recorded(9);
    lab.world.network.partition('a', 'b');
    lab.world.ping(lab.a, lab.b);
    lab.world.run(DAY);
    expect(lab.a.eventsOf('unanswered').length).toBe(1);
    const left = lab.ofA.secrets.filter(({ array }) => !isZero(array));
    expect(new Set(left.map(({ value }) => value)).size).toBe(2);
  });

  it('a removed peer takes its keys, its preshared key and the shared secret with it', () => {
    const lab = recorded(10);
    renewOften(lab, 2);
    const inside = insideOf(lab.a, lab.b);
    lab.a.configure({ peers: [{ publicKey: lab.b.publicKey, remove: true }] });
    const left = lab.ofA.secrets.filter(({ array }) => !isZero(array));
    expect(new Set(left.map(({ kind }) => kind))).toEqual(new Set(['private']));
    expect(isZero(inside.presharedKey)).toBe(true);
    expect([...lab.ofA.sealers, ...lab.ofA.openers].every((key) => key.isWiped())).toBe(true);
  });

  it('a changed private key takes the old one with it', () => {
    const lab = recorded(11);
    renewOften(lab, 1);
    const old = hex(lab.a.device.secrets().privateKey!);
    lab.a.configure({ privateKey: generator(77).bytes(32) });
    expect(lab.ofA.secrets.filter(({ array, value }) => value === old && !isZero(array))).toEqual([]);
    expect(hex(lab.a.device.secrets().privateKey!)).not.toBe(old);
  });

  it('none of them, nor any other secret, shows in status, events or drops', () => {
    const lab = recorded(12);
    renewOften(lab, 2);
    const seen: string[] = [];
    const walk = (value: unknown): void => {
      if (value instanceof Uint8Array) seen.push(hex(value));
      else if (typeof value === 'object' && value !== null) for (const part of Object.values(value)) walk(part);
      else seen.push(String(value));
    };
    walk(lab.a.device.status(lab.a.now));
    walk(lab.a.events);
    const secret = new Set([
      ...lab.ofA.secrets.map(({ value }) => value),
      ...lab.ofA.sealers.map(({ key }) => key),
      hex(PSK),
    ]);
    expect(seen.filter((text) => secret.has(text))).toEqual([]);
    expect(seen.length).toBeGreaterThan(50);
  });
});

describe('counters', () => {
  /** A session of `a` and `b` whose sender `a` stands at `counter`. */
  function standing(seed: number, counter: bigint): readonly [World, Node, Node] {
    const world = new World({ seed });
    const [a, b] = world.pair();
    a.rekey();
    world.run(6 * SECOND);
    const pair = insideOf(a, b).keypairs.current!;
    pair.counterLow = Number(counter & 0xffffffffn);
    pair.counterHigh = Number(counter >> 32n);
    return [world, a, b];
  }

  it.each([2n ** 31n - 1n, 2n ** 32n - 1n, 2n ** 53n - 1n, 2n ** 53n, 2n ** 60n - 2n, 2n ** 63n - 1n])(
    'go on exactly from %s, on the wire and in the window',
    (start) => {
      const [world, a, b] = standing(20, start);
      world.network.filter = ({ kind }) => kind !== 'initiation';
      for (let i = 0; i < 4; i++) expect(world.ping(a, b, i)).toBe('send');
      world.run(0);
      const sent = world.log.of({ from: 'a', kind: 'data' });
      expect(sent.map(({ bytes }) => paper.counterOf(bytes))).toEqual([start, start + 1n, start + 2n, start + 3n]);
      expect(b.delivered.length).toBe(4);
      for (const { bytes } of sent) expect(b.accept(bytes, a.endpoint)).toBe('replay');
    },
  );

  it('at 2^60 ask for a new session, whichever side they are on', () => {
    for (const responder of [false, true]) {
      const world = new World({ seed: 21 });
      const [a, b] = world.pair();
      (responder ? b : a).rekey();
      world.run(6 * SECOND);
      const pair = insideOf(a, b).keypairs.current!;
      pair.counterLow = 0;
      pair.counterHigh = Number((REKEY_AFTER_MESSAGES - 2n ** 32n) >> 32n);
      const before = statusOf(a, b).sessions;
      world.ping(a, b);
      world.run(SECOND);
      expect(statusOf(a, b).sessions).toBe(before);
      pair.counterHigh = Number(REKEY_AFTER_MESSAGES >> 32n);
      pair.counterLow = 1;
      expect(world.ping(a, b)).toBe('send');
      world.run(SECOND);
      expect(statusOf(a, b).sessions).toBe(before + 1);
    }
  });

  it('two before the end: two packets go, the third waits for a new session', () => {
    const [world, a, b] = standing(22, REJECT_AFTER_MESSAGES - 2n);
    world.network.filter = ({ kind }) => kind !== 'initiation';
    expect([world.ping(a, b, 1), world.ping(a, b, 2), world.ping(a, b, 3)]).toEqual(['send', 'send', 'consumed']);
    world.run(SECOND);
    expect(world.log.of({ from: 'a', kind: 'data' }).map(({ bytes }) => paper.counterOf(bytes))).toEqual([
      REJECT_AFTER_MESSAGES - 2n,
      REJECT_AFTER_MESSAGES - 1n,
    ]);
    expect(b.delivered.length).toBe(2);
    expect(world.log.of({ from: 'a', kind: 'initiation' }).length).toBeGreaterThan(1);
    world.network.filter = () => true;
    world.run(10 * SECOND);
    expect(b.delivered.length).toBe(3);
    expect(paper.counterOf(world.log.of({ from: 'a', kind: 'data' }).at(-1)!.bytes)).toBe(0n);
  });

  it('at or past the end are not accepted either, however authentic', () => {
    const world = new World({ seed: 23 });
    const b = world.add('b');
    const a = world.add('a');
    b.configure({ peers: [peerOf(a)] });
    const made = paper.initiation({
      staticPrivate: a.privateKey,
      responderPublic: b.publicKey,
      ephemeralPrivate: PSK,
      sender: 1,
      timestamp: paper.tai64n(b.unixMs),
    });
    b.accept(made.message, a.endpoint);
    world.run(0);
    const keys = made.finish(world.log.of({ kind: 'response' })[0]!.bytes)!;
    const packet = ipPacket(a.inner, b.inner);
    const accept = (counter: bigint): string =>
      b.accept(paper.data(keys.send, keys.receiver, counter, packet), a.endpoint);
    expect(accept(0n)).toBe('deliver');
    expect(accept(REJECT_AFTER_MESSAGES)).toBe('expired-session');
    expect(accept(2n ** 64n - 1n)).toBe('expired-session');
    expect(accept(5n)).toBe('deliver');
    expect(accept(REJECT_AFTER_MESSAGES - 1n)).toBe('deliver');
    expect(accept(6n)).toBe('replay');
  });
});
