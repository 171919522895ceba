/** The triggers and deadlines of one peer (paper section 6), each by what is due next, and what its status counts. */
import { describe, expect, it } from 'vitest';
import { VERDICT } from '../src/drops.ts';
import type { DeviceEvent, PeerStatus } from '../src/model.ts';
import type { Peer } from '../src/peer.ts';
import { ip, isZero } from './support/bytes.ts';
import { ALL, at, Host, random, sentBy, UNIX } from './support/host.ts';
import { SECOND } from './support/spec.ts';

const JITTER = 333;
const [INITIATION, RESPONSE, DATA] = [1, 2, 4];

/** Two hosts with a session that `a` began at 0 and confirmed, without data on it. */
function met(): readonly [Host, Host] {
  const [a, b] = [new Host(), new Host()];
  a.peer({ publicKey: b.publicKey, endpoint: at(2), allowedIps: ALL });
  b.peer({ publicKey: a.publicKey, allowedIps: ALL });
  shakeHands(a, b, 0);
  return [a, b];
}

function shakeHands(from: Host, to: Host, now: number): void {
  from.device.rekey(undefined, now);
  pass(from, to, now);
  pass(to, from, now);
  pass(from, to, now);
  to.device.tick(now, UNIX + now);
}

/** Carries what one has to send now to the other. */
function pass(from: Host, to: Host, now: number): number[] {
  return sentBy(from, now).map(({ bytes }) => {
    to.receive(bytes, statusOf(to, now).endpoint ?? at(1), now);
    return bytes[0]!;
  });
}

/** Seals a packet and carries it over; the tick before has seen the wall clock, so that no look at it is due. */
function carry(from: Host, to: Host, now: number): void {
  from.device.tick(now, UNIX + now);
  expect(from.send(now)).toBe(VERDICT.send);
  const offset = from.batch.offsets[0]!;
  const datagram = from.batch.buffer.slice(offset, offset + from.batch.lengths[0]!);
  expect(to.receive(datagram, statusOf(to, now).endpoint, now)).toBe(VERDICT.deliver);
}

const inside = (host: Host, now = 0): Peer => {
  host.send(now);
  return host.batch.peers[0] as Peer;
};
const statusOf = (host: Host, now = 0): PeerStatus => host.device.status(now).peers[0]!;
const kinds = (datagrams: readonly { readonly bytes: Uint8Array }[]): number[] =>
  datagrams.map(({ bytes }) => bytes[0]!);
const due = (host: Host): readonly [string, number] => {
  const { why, at: time } = host.device.nextDeadline();
  return [why, time];
};

describe('a peer', () => {
  it('has a key of its own, whatever becomes of the array', () => {
    const host = new Host();
    const publicKey = random.bytes(32);
    const given = publicKey.slice();
    host.peer({ publicKey: given, endpoint: at(2), allowedIps: ALL });
    given.fill(0);
    expect(statusOf(host).publicKey).toEqual(publicKey);
    expect(inside(host).publicKey).toEqual(publicKey);
  });

  it('counts what is sealed and what is opened, and who answered how fast', () => {
    const [a, b] = met();
    const before = [statusOf(a), statusOf(b)];
    carry(a, b, 0);
    const after = [statusOf(a), statusOf(b)];
    expect(after[0]!.txBytes - before[0]!.txBytes).toBe(80);
    expect(after[1]!.rxBytes - before[1]!.rxBytes).toBe(80);
    expect(after[0]).toMatchObject({ sessions: 1, handshakeMs: 0, lastHandshake: UNIX });
    expect(after[1]).toMatchObject({ sessions: 1, lastHandshake: UNIX });
    expect(after[1]).not.toHaveProperty('handshakeMs');
  });

  it('keeps one copy of the product of both static keys, to be erased', () => {
    const [a] = met();
    const peer = inside(a);
    expect(peer.staticShared()).toBe(peer.staticShared());
  });

  it('is sent nothing while there is no private key, and is when there is one again', () => {
    const host = new Host();
    host.device.configure({ privateKey: new Uint8Array(32) }, 0);
    host.peer({ endpoint: at(2), persistentKeepalive: 5 });
    expect(sentBy(host, 0)).toEqual([]);
    expect(sentBy(host, 5_000)).toEqual([]);
    host.device.configure({ privateKey: host.privateKey }, 5_001);
    expect(kinds(sentBy(host, 10_000))).toEqual([INITIATION]);
  });

  it('counts initiations without an answer from the first repetition on', () => {
    const host = new Host();
    host.peer({ endpoint: at(2), allowedIps: ALL });
    host.send(0);
    const counts: unknown[] = [];
    let now = 0;
    for (let n = 0; n < 4; n++) {
      expect(kinds(sentBy(host, now))).toEqual([INITIATION]);
      counts.push(statusOf(host, now).unanswered);
      now = due(host)[1];
    }
    expect(counts).toEqual([undefined, 2, 3, 4]);
  });
});

describe('an endpoint', () => {
  it('of an initiation is news, its session is none until it is confirmed', () => {
    const [a, b] = [new Host(), new Host()];
    a.peer({ publicKey: b.publicKey, endpoint: at(2), allowedIps: ALL });
    b.peer({ publicKey: a.publicKey, allowedIps: ALL });
    a.device.rekey(undefined, 0);
    const [initiation] = sentBy(a, 0);
    b.receive(initiation!.bytes, at(1));
    const events: DeviceEvent[] = [];
    const responses: number[] = [];
    while (b.device.nextDeadline().at <= 0) {
      const out = b.device.tick(0, UNIX);
      events.push(...out.events);
      responses.push(...kinds(out.datagrams));
    }
    expect([events, responses]).toEqual([[{ type: 'roamed', publicKey: a.publicKey, endpoint: at(1) }], [RESPONSE]]);
    expect(statusOf(b)).toMatchObject({ sessions: 0, endpoint: at(1) });
  });

  it('stays when a datagram comes from nobody knows where, or only its local side is another', () => {
    const [a, b] = met();
    expect(a.send()).toBe(VERDICT.send);
    b.receive(a.batch.buffer.slice(0, a.batch.lengths[0]));
    expect(statusOf(b).endpoint).toEqual(at(1));
    a.send();
    const pinned = { ...at(1), source: { address: ip('192.0.2.2'), interfaceIndex: 1 } };
    b.receive(a.batch.buffer.slice(0, a.batch.lengths[0]), pinned);
    expect(statusOf(b).endpoint).toEqual(pinned);
    expect(b.device.tick(0, UNIX).events).toEqual([]);
    a.send();
    b.receive(a.batch.buffer.slice(0, a.batch.lengths[0]), at(5));
    expect(b.device.tick(0, UNIX).events).toEqual([{ type: 'roamed', publicKey: a.publicKey, endpoint: at(5) }]);
    expect(b.device.tick(0, UNIX).events).toEqual([]);
    // Nor is it told again with the next session.
    a.device.rekey(undefined, 100);
    for (const [from, to] of [
      [a, b],
      [b, a],
      [a, b],
    ] as const) {
      pass(from, to, 100);
    }
    expect(b.device.tick(100, UNIX + 100).events.map(({ type }) => type)).toEqual(['session']);
  });
});

describe('a local address', () => {
  it('is forgotten where there is one, and where nothing is known', () => {
    const host = new Host();
    const publicKey = random.bytes(32);
    host.peer({ publicKey });
    host.device.forgetSource({ publicKey, endpoint: at(2) });
    expect(statusOf(host)).not.toHaveProperty('endpoint');
    host.peer({ publicKey, endpoint: { ...at(2), source: { address: ip('192.0.2.1'), interfaceIndex: 1 } } });
    host.device.forgetSource({ publicKey, endpoint: at(2) });
    expect(statusOf(host).endpoint).toStrictEqual(at(2));
  });
});

describe('the answer to data', () => {
  it('is missed 15 s after the first that was sent, and jitter; later ones put nothing off', () => {
    const [a, b] = met();
    carry(a, b, 1);
    const [why, time] = due(a);
    expect(why).toBe('new-handshake');
    expect(time).toBeGreaterThanOrEqual(15_001);
    expect(time).toBeLessThanOrEqual(15_001 + JITTER);
    carry(a, b, 9_000);
    expect(due(a)).toEqual([why, time]);
    expect(kinds(sentBy(a, time))).toEqual([INITIATION]);
  });

  it('is anything authentic, also a keepalive, which is due 10 s after the first data and no sooner', () => {
    const [a, b] = met();
    carry(a, b, 1);
    expect(due(b)).toEqual(['send-keepalive', 10_001]);
    expect(sentBy(b, 10_000)).toEqual([]);
    expect(pass(b, a, 10_001)).toEqual([DATA]);
    expect(due(a)[0]).toBe('expire-session');
    expect(due(b)[0]).toBe('expire-session');
  });

  it('is followed by one more keepalive when data came meanwhile', () => {
    const [a, b] = met();
    carry(a, b, 1);
    carry(a, b, 5_000);
    carry(a, b, 6_000);
    expect(due(b)).toEqual(['send-keepalive', 10_001]);
    expect(kinds(sentBy(b, 10_001))).toEqual([DATA]);
    expect(due(b)).toEqual(['send-keepalive', 20_001]);
    expect(kinds(sentBy(b, 20_001))).toEqual([DATA]);
    expect(due(b)[0]).toBe('expire-session');
  });

  it('is owed for data, not for a handshake message that comes before it is given', () => {
    const owesOne = (host: Host): void => {
      expect(due(host)).toEqual(['send-keepalive', 17_000]);
      expect(kinds(sentBy(host, 17_000))).toEqual([DATA]);
      expect(due(host)[0]).not.toBe('send-keepalive');
    };
    const [a, b] = met();
    carry(a, b, 1);
    shakeHands(a, b, 5_000);
    carry(a, b, 7_000);
    owesOne(b);
    const [c, d] = met();
    c.device.rekey(undefined, 5_000);
    const [initiation] = sentBy(c, 5_000);
    carry(d, c, 5_001);
    d.receive(initiation!.bytes, at(1), 5_001);
    expect([pass(d, c, 5_001), pass(c, d, 5_001)]).toEqual([[RESPONSE], [DATA]]);
    carry(d, c, 7_000);
    owesOne(c);
  });

  it('may be data: then there is no keepalive, and that answer is awaited in its turn', () => {
    const [a, b] = met();
    carry(a, b, 1);
    carry(b, a, 2);
    expect(due(b)[0]).toBe('new-handshake');
    expect(due(a)).toEqual(['send-keepalive', 10_002]);
  });
});

describe('renewal', () => {
  it.each([
    [false, 165 * SECOND],
    [true, 120 * SECOND],
  ])(
    'on receiving (with a persistent keepalive: %s) is the business of the initiator from %d ms on',
    (persistent, ms) => {
      const [a, b] = met();
      if (persistent) {
        for (const [host, other] of [
          [a, b],
          [b, a],
        ] as const) {
          host.peer({ publicKey: other.publicKey, persistentKeepalive: 65_535 });
          sentBy(host, 0);
        }
      }
      const initiates = (host: Host, now: number): boolean => kinds(sentBy(host, now)).includes(INITIATION);
      carry(b, a, ms - 1);
      expect(initiates(a, ms - 1)).toBe(false);
      carry(b, a, ms);
      expect(initiates(a, ms)).toBe(true);
      const [c, d] = met();
      if (persistent) d.peer({ publicKey: c.publicKey, persistentKeepalive: 65_535 });
      carry(c, d, 179 * SECOND);
      expect(initiates(d, 179 * SECOND)).toBe(false);
    },
  );

  it('is not brought about by what comes late on the session before', () => {
    const [a, b] = met();
    b.device.tick(90 * SECOND, UNIX + 90 * SECOND);
    expect(b.send(90 * SECOND)).toBe(VERDICT.send);
    const late = b.batch.buffer.slice(0, b.batch.lengths[0]);
    shakeHands(a, b, 100 * SECOND);
    a.device.tick(166 * SECOND, UNIX + 166 * SECOND);
    expect(a.receive(late, at(2), 166 * SECOND)).toBe(VERDICT.deliver);
    expect(sentBy(a, 166 * SECOND)).toEqual([]);
  });

  it('on sending begins at 120 s, with the packet, and is not begun again while it is under way', () => {
    const [a, b] = met();
    carry(a, b, 120 * SECOND - 1);
    expect(due(a)[0]).toBe('new-handshake');
    carry(a, b, 120 * SECOND);
    expect(due(a)).toEqual(['initiate', 120 * SECOND]);
    expect(kinds(sentBy(a, 120 * SECOND))).toEqual([INITIATION]);
    const next = due(a);
    carry(a, b, 121 * SECOND);
    expect(due(a)).toEqual(next);
  });
});

describe('a handshake', () => {
  it('is not begun within 5 s of the last message of one, unless it is forced: then within 20 ms', () => {
    const [a] = met();
    a.device.configure({ privateKey: a.privateKey.slice() }, 1);
    const peer = inside(a, 1);
    peer.wantHandshake(2);
    expect(due(a)).toEqual(['initiate', 5_000]);
    a.device.rekey(undefined, 3);
    expect(due(a)).toEqual(['initiate', 20]);
    expect(kinds(sentBy(a, 20))).toEqual([INITIATION]);
  });

  it('that is answered too early is forced only once', () => {
    const [a, b] = met();
    shakeHands(a, b, 100);
    const peer = inside(a, 100);
    peer.wantHandshake(101);
    expect(due(a)).toEqual(['initiate', 5_100]);
    expect(sentBy(a, 5_099)).toEqual([]);
    expect(kinds(sentBy(a, 5_100))).toEqual([INITIATION]);
  });

  it('is not begun within 5 s of our response to the peer either, which has one under way', () => {
    const [a, b] = [new Host(), new Host()];
    a.peer({ publicKey: b.publicKey, endpoint: at(2), allowedIps: ALL });
    b.peer({ publicKey: a.publicKey, allowedIps: ALL });
    a.device.rekey(undefined, 0);
    expect([pass(a, b, 0), kinds(sentBy(b, 0))]).toEqual([[INITIATION], [RESPONSE]]);
    expect(b.send(1)).toBe(VERDICT.consumed);
    expect(due(b)).toEqual(['initiate', 5_000]);
    expect(kinds(sentBy(b, 5_000))).toEqual([INITIATION]);
  });

  it('that was put off is given up when meanwhile the peer began one', () => {
    const [a, b] = met();
    shakeHands(b, a, 100);
    inside(b, 101).wantHandshake(102);
    expect(due(b)).toEqual(['initiate', 5_100]);
    a.device.rekey(undefined, 4_000);
    expect(pass(a, b, 4_000)).toEqual([INITIATION]);
    expect(kinds(sentBy(b, 4_000))).toEqual([RESPONSE]);
    expect(due(b)).toEqual(['initiate', 5_100]);
    expect(sentBy(b, 5_100)).toEqual([]);
    expect(due(b)[0]).not.toBe('initiate');
  });

  it('is given up without the keepalive that was still owed, and without more time for the keys', () => {
    const [a, b] = met();
    const events: unknown[] = [];
    const sent: number[] = [];
    const run = (until: number): void => {
      for (let [, time] = due(a); time <= until; [, time] = due(a)) {
        const out = a.device.tick(time, UNIX + time);
        events.push(...out.events.map(({ type }) => `${type} ${type === 'expired' ? time : ''}`.trim()));
        sent.push(...kinds(out.datagrams));
      }
    };
    a.device.rekey(undefined, 70 * SECOND);
    run(168 * SECOND);
    // Shortly before the end, which comes after 100 to 107 s; it would be answered after 10 s.
    carry(b, a, 168 * SECOND);
    run(600 * SECOND);
    expect(sent).toEqual(Array.from({ length: 20 }, () => INITIATION));
    expect(events).toEqual(['unanswered', 'expired 540000']);
  });

  it('is given up after 20 initiations: what waited is counted and gone, and the keys are to be erased', () => {
    const host = new Host();
    host.peer({ endpoint: at(2), allowedIps: ALL });
    for (let i = 0; i < 3; i++) host.send(0);
    const peer = inside(host);
    let now = 0;
    let initiations = 0;
    let events: readonly DeviceEvent[] = [];
    while (events.length === 0 && initiations < 30) {
      const out = host.device.tick(now, UNIX + now);
      initiations += kinds(out.datagrams).filter((kind) => kind === INITIATION).length;
      ({ events } = out);
      now = due(host)[1];
    }
    expect(initiations).toBe(20);
    expect(events).toMatchObject([{ type: 'unanswered', initiations: 20 }]);
    expect(host.device.status(now).drops['staging-overflow']).toBe(4);
    expect([peer.pending, peer.staged.length, due(host)[0]]).toEqual([undefined, 0, 'zero-keys']);
    expect(host.device.tick(now, UNIX + now).events).toMatchObject([{ type: 'expired' }]);
    expect(due(host)).toEqual(['idle', Infinity]);
  });

  it('of ours is forgotten when the identity changes, and begins again at once', () => {
    const [a, b] = met();
    a.device.rekey(undefined, 20);
    expect(kinds(sentBy(a, 20))).toEqual([INITIATION]);
    const peer = inside(a, 20);
    const secret = peer.pending!.ephemeralPrivate;
    const shared = peer.staticShared()!;
    a.device.configure({ privateKey: random.bytes(32) }, 21);
    expect([peer.pending, isZero(secret), isZero(shared)]).toEqual([undefined, true, true]);
    expect(due(a)[0]).not.toBe('retransmit-handshake');
    expect(a.send(21)).toBe(VERDICT.consumed);
    expect(due(a)).toEqual(['initiate', 21]);
    carry(b, a, 22);
  });
});

describe('a session', () => {
  it('is told with its number and, by who began it, how long its handshake took', () => {
    const [a, b] = [new Host(), new Host()];
    a.peer({ publicKey: b.publicKey, endpoint: at(2), allowedIps: ALL });
    b.peer({ publicKey: a.publicKey, endpoint: at(1), allowedIps: ALL });
    a.device.rekey(undefined, 0);
    pass(a, b, 0);
    pass(b, a, 7);
    const begun = a.device.tick(7, UNIX + 7);
    b.receive(begun.datagrams[0]!.bytes, at(1), 7);
    const session = { type: 'session', number: 1 };
    expect(begun.events).toStrictEqual([{ ...session, publicKey: b.publicKey, role: 'initiator', handshakeMs: 7 }]);
    expect(b.device.tick(7, UNIX + 7).events).toStrictEqual([
      { ...session, publicKey: a.publicKey, role: 'responder' },
    ]);
    // Who began the last one does not tell its time for the next.
    b.device.rekey(undefined, 100);
    pass(b, a, 100);
    pass(a, b, 100);
    pass(b, a, 100);
    expect(a.device.tick(100, UNIX + 100).events).toStrictEqual([
      { type: 'session', number: 2, publicKey: b.publicKey, role: 'responder' },
    ]);
  });

  it('is told although it ended before it could be', () => {
    const [a, b] = [new Host(), new Host()];
    a.peer({ publicKey: b.publicKey, endpoint: at(2) });
    b.peer({ publicKey: a.publicKey, postQuantum: 3_600_000 });
    a.device.rekey(undefined, 0);
    pass(a, b, 0);
    pass(b, a, 0);
    pass(a, b, 0);
    b.peer({ publicKey: a.publicKey, cipherSuite: 'aes256gcm' });
    expect(b.device.tick(0, UNIX).events).toMatchObject([{ type: 'session', role: 'responder', hedged: false }]);
  });
});

describe('what waits for a session', () => {
  it('goes on waiting when the peer is heard of from elsewhere before there is one', () => {
    const [a, b] = [new Host(), new Host()];
    a.peer({ publicKey: b.publicKey, endpoint: at(2), allowedIps: ALL });
    b.peer({ publicKey: a.publicKey, endpoint: at(9), allowedIps: ALL });
    const peer = inside(b);
    a.device.rekey(undefined, 0);
    for (const { bytes } of sentBy(a, 0)) b.receive(bytes, at(1));
    const datagrams = sentBy(b, 0);
    expect([kinds(datagrams).includes(RESPONSE), kinds(datagrams).includes(DATA)]).toEqual([true, false]);
    expect(peer.staged.length).toBe(1);
  });

  it('goes out with it, in order, in place of the keepalive; without a session it goes on waiting', () => {
    const [a, b] = [new Host(), new Host()];
    a.peer({ publicKey: b.publicKey, endpoint: at(2), allowedIps: ALL });
    b.peer({ publicKey: a.publicKey, allowedIps: ALL });
    for (let i = 0; i < 3; i++) a.send();
    expect(pass(a, b, 0)).toEqual([INITIATION]);
    expect(pass(b, a, 0)).toEqual([RESPONSE]);
    const datagrams = sentBy(a, 0);
    expect(datagrams.map(({ bytes }) => [bytes[0], bytes[8], bytes.length])).toEqual([
      [DATA, 0, 80],
      [DATA, 1, 80],
      [DATA, 2, 80],
    ]);
    expect(statusOf(a)).toMatchObject({ txBytes: 148 + 3 * 80 });
    expect(due(a)[0]).toBe('new-handshake');
  });

  it('goes out as soon as the peer confirms the session that it began', () => {
    const [a, b] = [new Host(), new Host()];
    a.peer({ publicKey: b.publicKey, endpoint: at(2), allowedIps: ALL });
    b.peer({ publicKey: a.publicKey, endpoint: at(1), allowedIps: ALL });
    a.device.rekey(undefined, 0);
    expect(b.send()).toBe(VERDICT.consumed);
    expect([pass(a, b, 0), pass(b, a, 0), pass(a, b, 0)]).toEqual([[INITIATION], [RESPONSE], [DATA]]);
    expect(sentBy(b, 0).map(({ bytes }) => [bytes[0], bytes.length])).toEqual([[DATA, 80]]);
  });

  it('is erased, and so are the keys, when the peer is removed', () => {
    const [a, b] = met();
    const presharedKey = random.bytes(32);
    a.peer({ publicKey: b.publicKey, presharedKey, postQuantum: 3_600_000 });
    const peer = inside(a);
    const [shared, key] = [peer.staticShared()!, random.bytes(32)];
    peer.stage(random.bytes(40), 0);
    peer.postQuantum!.keys.add({ hmac: () => new Uint8Array(32) } as never, key, true, 0);
    a.device.configure({ peers: [{ publicKey: b.publicKey, remove: true }] }, 0);
    expect([peer.presharedKey, shared, key].map((secret) => isZero(secret))).toEqual([true, true, true]);
    expect([peer.staged.length, peer.endpoint, peer.keypairs.current]).toEqual([0, undefined, undefined]);
    expect(due(a)).toEqual(['idle', Infinity]);
  });
});

describe('the end of a session', () => {
  it('comes at 180 s for each, and the end of all keys at 540 s after the last', () => {
    const [a, b] = met();
    shakeHands(a, b, 60 * SECOND);
    expect(due(a)).toEqual(['expire-session', 180 * SECOND]);
    a.device.tick(180 * SECOND, UNIX);
    expect(due(a)).toEqual(['expire-session', 240 * SECOND]);
    a.device.tick(240 * SECOND, UNIX);
    expect(due(a)).toEqual(['zero-keys', 600 * SECOND]);
    expect(a.device.tick(600 * SECOND, UNIX).events).toEqual([{ type: 'expired', publicKey: b.publicKey }]);
    expect(due(a)).toEqual(['idle', Infinity]);
  });
});

describe('a persistent keepalive', () => {
  it('is due so long after whatever was sent or came, and off with 0', () => {
    const [a, b] = met();
    a.peer({ publicKey: b.publicKey, persistentKeepalive: 5 });
    expect(kinds(sentBy(a, 1_000))).toEqual([DATA]);
    expect(due(a)).toEqual(['persistent-keepalive', 6_000]);
    carry(a, b, 2_000);
    expect(due(a)).toEqual(['persistent-keepalive', 7_000]);
    carry(b, a, 4_000);
    expect(due(a)).toEqual(['persistent-keepalive', 9_000]);
    expect(kinds(sentBy(a, 9_000))).toEqual([DATA]);
    expect(due(a)).toEqual(['persistent-keepalive', 14_000]);
    a.peer({ publicKey: b.publicKey, persistentKeepalive: 0 });
    expect(sentBy(a, 14_000)).toEqual([]);
    expect(due(a)[0]).not.toBe('persistent-keepalive');
  });

  it('renews a session that is 120 s old', () => {
    const [a, b] = met();
    a.peer({ publicKey: b.publicKey, persistentKeepalive: 119 });
    a.device.tick(1_000, UNIX);
    expect(due(a)).toEqual(['persistent-keepalive', 120 * SECOND]);
    expect(kinds(sentBy(a, 120 * SECOND))).toEqual([DATA, INITIATION]);
  });

  it('comes again where it cannot be sent', () => {
    const host = new Host();
    host.peer({ persistentKeepalive: 5 });
    expect(sentBy(host, 0)).toEqual([]);
    expect(due(host)).toEqual(['persistent-keepalive', 5_000]);
    expect(sentBy(host, 5_000)).toEqual([]);
    expect(due(host)).toEqual(['persistent-keepalive', 10_000]);
  });

  it('makes a session where there is none', () => {
    const host = new Host();
    host.peer({ endpoint: at(2), persistentKeepalive: 25 });
    expect(kinds(sentBy(host, 0))).toEqual([INITIATION]);
  });
});
