/** What recorded handshakes are worth to somebody: with a stolen private key, after a restart, and once a peer was burnt. */
import { describe, expect, it } from 'vitest';
import type { Node } from '../../../test/sim/node.ts';
import { ipPacket } from '../../../test/sim/packets.ts';
import { generator } from '../../../test/sim/random.ts';
import { World, outer, peerOf, statusOf } from '../../../test/sim/world.ts';
import { hex } from './support/bytes.ts';
import * as paper from './support/paper.ts';
import { REKEY_TIMEOUT, SECOND } from './support/spec.ts';

const random = generator(77);
const THIEF = outer(99);

/** A device made `count` sessions with another one, some data in each: its initiations. */
function recorded(world: World, from: Node, to: Node, count: number): Uint8Array[] {
  for (let i = 0; i < count; i++) {
    from.rekey();
    world.run(SECOND);
    world.ping(from, to, i);
    world.run(SECOND);
  }
  return world.log.of({ from: from.name, kind: 'initiation' }).map(({ bytes }) => bytes);
}

describe('a recorded handshake', () => {
  it('tells who has our private key who began it and opens nothing; the next peer takes him for us', () => {
    const world = new World({ seed: 1 });
    const [a, b] = world.pair();
    const [message] = recorded(world, a, b, 1);
    const data = [a, b].map((node, i) => {
      world.ping(node, i === 0 ? b : a, 9);
      return world.log.of({ from: node.name, kind: 'data' }).at(-1)!.bytes;
    });
    const stolen = (initiation: Uint8Array): NonNullable<ReturnType<typeof paper.answer>> =>
      paper.answer(initiation, { staticPrivate: b.privateKey, ephemeralPrivate: random.bytes(32), sender: 5 })!;
    const known = stolen(message!);
    expect(hex(known.initiator)).toBe(hex(a.publicKey));
    for (const bytes of data) {
      for (const key of [known.send, known.receive]) expect(paper.openData(key, bytes)).toBeUndefined();
    }
    // What he cannot do with the past he can with what comes.
    world.network.filter = ({ to }) => to !== 'b';
    a.rekey();
    world.run(0);
    const posing = stolen(world.log.of({ from: 'a', kind: 'initiation' }).at(-1)!.bytes);
    a.accept(posing.response, b.endpoint);
    world.run(0);
    world.ping(a, b, 10);
    const opened = paper.openData(posing.receive, world.log.of({ from: 'a', kind: 'data' }).at(-1)!.bytes);
    expect(hex(opened!)).toBe(hex(ipPacket(a.inner, b.inner, 10)));
  });

  it('of the future burns its peer again when it is repeated, until the peer has another key', () => {
    const world = new World({ seed: 2 });
    const b = world.add('b');
    const made = (privateKey: Uint8Array, unixMs: number): Uint8Array =>
      paper.initiation({
        staticPrivate: privateKey,
        responderPublic: b.publicKey,
        ephemeralPrivate: random.bytes(32),
        sender: 1,
        timestamp: paper.tai64n(unixMs),
      }).message;
    const answersTo = (message: Uint8Array, source = outer(200)): number => {
      const before = world.log.count('b', 'response');
      b.accept(message, source);
      world.run(SECOND);
      return world.log.count('b', 'response') - before;
    };
    const [key, other] = [random.bytes(32), random.bytes(32)];
    const publicKey = paper.publicOf(key);
    const ofFuture = made(key, Date.UTC(2100, 0, 1));
    for (let round = 0; round < 3; round++) {
      b.configure({ peers: [{ publicKey }] });
      expect(answersTo(made(key, b.unixMs))).toBe(1);
      expect(answersTo(ofFuture, THIEF)).toBe(1);
      expect(answersTo(made(key, b.unixMs))).toBe(0);
      // What the operator can do without another key.
      b.configure({ peers: [{ publicKey, remove: true }] });
    }
    b.configure({ peers: [{ publicKey: paper.publicOf(other) }] });
    expect(answersTo(ofFuture, THIEF)).toBe(0);
    expect(answersTo(made(other, b.unixMs))).toBe(1);
  });

  it('is answered once after a restart; it moves the endpoint and puts off ours by 5 s, until the peer itself speaks', () => {
    const world = new World({ seed: 3 });
    const [a, b] = world.pair();
    const messages = recorded(world, a, b, 4);
    expect(messages).toHaveLength(4);
    b.restart();
    b.configure({ peers: [peerOf(a)] });
    const [before, restartedAt] = [world.log.count('b', 'response'), world.clock.now];
    const moments: number[] = [];
    // Packets for the peer come all the time, and want a handshake of ours.
    const pass = (seconds: number): void => {
      for (let i = 0; i < seconds; i++) {
        world.ping(b, a, i);
        world.run(SECOND);
      }
    };
    world.network.filter = ({ to, from }) => to !== 'a' && from !== 'a';
    for (const [i, message] of messages.entries()) {
      moments.push(world.clock.now);
      // Once, however often it comes.
      for (let times = 0; times < 3; times++) {
        b.accept(message, THIEF);
        world.run(50);
      }
      expect(world.log.count('b', 'response') - before).toBe(i + 1);
      expect(statusOf(b, a).endpoint).toMatchObject(THIEF);
      pass(3);
    }
    // Nor do those that were overtaken count.
    for (const message of messages) b.accept(message, THIEF);
    pass(12);
    expect(world.log.count('b', 'response') - before).toBe(4);
    const ours = world.log.of({ from: 'b', kind: 'initiation', since: restartedAt });
    expect(ours[0]!.at).toBe(moments.at(-1)! + REKEY_TIMEOUT);
    expect(ours.every(({ destination }) => destination.address.join() === THIEF.address.join())).toBe(true);
    expect([statusOf(b, a).sessions, a.delivered.length]).toEqual([0, 0]);

    world.network.filter = () => true;
    a.rekey();
    world.run(SECOND);
    expect(statusOf(b, a)).toMatchObject({ sessions: 1, endpoint: a.endpoint });
    expect(world.ping(b, a, 99)).toBe('send');
    world.run(SECOND);
    expect(a.delivered.length).toBeGreaterThan(0);
  });
});
