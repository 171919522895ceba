/** Who sits on the path and chooses what to drop, hold back and deliver later: two running processes stay hedged. */
import { describe, expect, it } from 'vitest';
import { statusOf } from '../../../test/sim/world.ts';
import { exchanged, hedged, pair, traffic, type Pair } from './support/hedged-pair.ts';
import { MINUTE, SECOND } from './support/spec.ts';

const OFFER = 1_232;
const ANSWER = 1_136;
const INTERVAL = { postQuantum: 10 * MINUTE };

const isHedged = ({ a, b }: Pair): boolean => hedged(a, b) && hedged(b, a);

/** A pair with a derived key in use, every session of which from now on must be hedged. */
function hedgedPair(seed: number, both = INTERVAL): Pair {
  const lab = pair(seed, both);
  traffic(lab, 20);
  expect(isHedged(lab)).toBe(true);
  return lab;
}

function expectNoWayBack({ a, b }: Pair): void {
  for (const node of [a, b]) {
    const states = node.eventsOf('session').map((event) => event.hedged);
    expect(states.slice(states.indexOf(true)), node.name).not.toContain(false);
  }
}

/** Lets time pass with packets each way that nothing waits for. */
function run({ world, a, b }: Pair, ms: number, done: () => boolean = () => false): boolean {
  const end = world.clock.now + ms;
  while (!done() && world.clock.now < end) {
    world.ping(a, b);
    world.ping(b, a);
    world.runUntil(done, 500);
  }
  return done();
}

describe('a pair that has agreed on a key stays hedged', () => {
  it.each([8, 9])('when all answers are dropped for hours (seed %d)', (seed) => {
    const lab = hedgedPair(seed);
    let dropped = 0;
    lab.world.network.filter = ({ bytes }) => bytes.length !== ANSWER || ++dropped < 0;
    traffic(lab, 2 * 60 * 60, 5);
    expect(dropped).toBeGreaterThan(20);
    expect(isHedged(lab)).toBe(true);
    expectNoWayBack(lab);
  });

  it('when an initiation is held back until the responder has erased the key that it names', () => {
    const lab = hedgedPair(8);
    const { world, a, b } = lab;
    traffic(lab, 9 * 60);
    b.rekey();
    traffic(lab, 5);
    expect(statusOf(b, a).session!.role).toBe('initiator');
    let [offer, held]: (Uint8Array | undefined)[] = [];
    let isolated = false;
    world.network.filter = ({ kind, from, bytes }) => {
      if (kind === 'initiation' && from === 'a') return ((held = bytes.slice()), false);
      if (from === 'b' && bytes.length === OFFER) return ((offer = bytes.slice()), false);
      return !(isolated && from === 'b' && (kind === 'data' || kind === 'keepalive'));
    };
    expect(run(lab, 5 * MINUTE, () => offer !== undefined)).toBe(true);
    // b's offer arrives, so that both have a new key; nothing that b says in a session does, so that a's handshake goes on.
    isolated = true;
    held = undefined;
    expect(run(lab, MINUTE, () => held !== undefined)).toBe(true);
    const { sessions } = statusOf(b, a);
    a.accept(offer!, b.endpoint);
    expect(world.runUntil(() => statusOf(b, a).sessions > sessions, 4 * SECOND)).toBe(true);
    b.accept(held!, a.endpoint);
    world.run(SECOND);
    world.network.filter = ({ kind }) => kind === 'data' || kind === 'keepalive';
    run(lab, 2 * MINUTE);
    expect(isHedged(lab)).toBe(true);
    world.network.filter = () => true;
    run(lab, 5 * MINUTE);
    expectNoWayBack(lab);
  });

  it('when offers of two exchanges are delivered in turn until the answerer has forgotten what it answered first', () => {
    const lab = hedgedPair(8);
    const { world, a, b } = lab;
    const offers: Uint8Array[] = [];
    const answers: Uint8Array[] = [];
    world.network.filter = ({ from, bytes }) => {
      if (bytes.length === OFFER && from === 'a') offers.push(bytes.slice());
      if (bytes.length === ANSWER && from === 'b') answers.push(bytes.slice());
      return bytes.length !== ANSWER && bytes.length !== OFFER;
    };
    expect(run(lab, 20 * MINUTE, () => offers.length === 4)).toBe(true);
    // Four are one offer, which a gives up then; the next session has another.
    run(lab, 10 * SECOND);
    const old = offers.splice(0);
    a.rekey();
    expect(run(lab, MINUTE, () => offers.length > 0)).toBe(true);
    const exchanges = exchanged(b, a);
    for (let turn = 0; turn < 4; turn++) {
      if (turn > 0) run(lab, 5 * SECOND);
      expect(b.accept((turn % 2 === 0 ? offers : old).shift()!, a.endpoint)).toBe('consumed');
      world.run(10);
    }
    // Each was a new one for b, and a still waits for the answer to its own.
    expect(exchanged(b, a) - exchanges).toBe(4);
    const before = exchanged(a, b);
    a.accept(answers[0]!, b.endpoint);
    world.run(10);
    expect(exchanged(a, b) - before).toBe(1);
    run(lab, 2 * MINUTE);
    expect(isHedged(lab)).toBe(true);
    expectNoWayBack(lab);
  });

  it('when the handshakes of the two cross, and what one said in an older session comes late', () => {
    // Which side yields to the other depends on their keys.
    for (let seed = 1; seed <= 4; seed++) {
      expectNoReturn(seed, 'a');
      expectNoReturn(seed, 'b');
    }
  });

  function expectNoReturn(seed: number, name: 'a' | 'b'): void {
    const lab = pair(seed, INTERVAL);
    const { world } = lab;
    const [first, other] = name === 'a' ? [lab.a, lab.b] : [lab.b, lab.a];
    // The session that both have was begun by `other`, whose answer is held back.
    const kept = new Map<string, Uint8Array>();
    const hold = (what: string, bytes: Uint8Array): boolean => (kept.set(what, bytes.slice()), false);
    let isolated = false;
    world.network.filter = ({ from, kind, bytes }) => {
      if (bytes.length === OFFER) return from === other.name && hold('offer', bytes);
      if (bytes.length === ANSWER) return from === first.name;
      if (kind === 'response' && from === other.name && first.eventsOf('session').length > 0)
        return hold('response', bytes);
      if (isolated && kind === 'initiation' && from === other.name) return hold('initiation', bytes);
      if (isolated && from === first.name && kind === 'data') return hold('data', bytes);
      return !(isolated && (kind === 'data' || kind === 'keepalive'));
    };
    other.rekey();
    world.run(SECOND);
    expect(isHedged(lab)).toBe(false);
    isolated = true;
    first.rekey();
    world.run(SECOND);
    // The other side takes the exchange's key while the handshake of the first waits for its response.
    world.network.filter = (
      (before) => (datagram) =>
        datagram.bytes.length === ANSWER || before(datagram)
    )(world.network.filter);
    first.accept(kept.get('offer')!, other.endpoint);
    world.run(SECOND);
    expect(kept.has('initiation')).toBe(true);
    first.accept(kept.get('response')!, other.endpoint);
    world.run(SECOND);
    world.ping(first, other);
    first.accept(kept.get('initiation')!, other.endpoint);
    world.run(SECOND);
    expect(hedged(other, first), 'has its own session').toBe(true);
    other.accept(kept.get('data')!, first.endpoint);
    world.run(10);
    expect(hedged(other, first), `seed ${seed}`).toBe(true);
    world.network.filter = () => true;
    run(lab, 5 * SECOND);
    expect(isHedged(lab)).toBe(true);
  }
});
