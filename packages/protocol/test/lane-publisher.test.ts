/** Lane 0's side of several lanes: what the device tells the others, and what it makes of their reports. */
import { describe, expect, it } from 'vitest';
import type { Device } from '../src/device.ts';
import { dropVerdict, VERDICT } from '../src/drops.ts';
import { encodeExchangeMessage, EXCHANGE_ID_LENGTH } from '../src/exchange-messages.ts';
import { isSmaller } from '../src/keys.ts';
import { laneOf, type LaneChange, type PeerTraffic } from '../src/lane-model.ts';
import { SharedSession } from '../src/shared-session.ts';
import { ip, isZero } from './support/bytes.ts';
import { ALL, at, Host, random, UNIX } from './support/host.ts';
import { quiet } from './support/quiet.ts';
import { SECOND } from './support/spec.ts';

const LANES = 2;
const QUIET = quiet(1);

/** A host of two lanes and a simple one that it knows, whose end lies at `at(2)`. */
function acquainted(): readonly [Host, Host] {
  const [a, b] = [new Host(LANES), new Host()];
  a.peer({ publicKey: b.publicKey, endpoint: at(2), allowedIps: ALL });
  b.peer({ publicKey: a.publicKey, endpoint: at(1), allowedIps: ALL });
  return [a, b];
}

/** A session that `from` begins; what the device said until then has been taken. */
function begin(from: Host, to: Host, now = 0): void {
  const [there, back] = [from.device, to.device];
  there.rekey(undefined, now);
  const deliver = (host: Host, source: number, datagrams: ReturnType<Device['tick']>['datagrams']): void => {
    for (const { bytes } of datagrams) host.receive(bytes, at(source), now);
  };
  deliver(to, 1, there.tick(now, UNIX + now).datagrams);
  deliver(from, 2, back.tick(now, UNIX + now).datagrams);
  deliver(to, 1, there.tick(now, UNIX + now).datagrams);
  back.tick(now, UNIX + now);
}

function connected(): readonly [Host, Host] {
  const [a, b] = acquainted();
  begin(a, b);
  a.device.laneChanges();
  return [a, b];
}

function account(host: Host, traffic: Partial<PeerTraffic>, now = 0): void {
  host.device.account({ peers: [{ ...QUIET, ...traffic }], drops: [], unsent: [] }, now);
}

const peerOf = (host: Host, now = 0): ReturnType<Device['status']>['peers'][number] =>
  host.device.status(now).peers[0]!;

const sessionsIn = (changes: readonly LaneChange[]): Extract<LaneChange, { type: 'session' }>[] =>
  changes.filter((change) => change.type === 'session');

describe('the device tells', () => {
  it('of itself and of its peers, each with a number, in the order of the calls, and once', () => {
    const [a, b] = acquainted();
    const third = random.bytes(32);
    a.device.configure({ peers: [{ publicKey: third }] }, 0);
    const device = { type: 'device', hasIdentity: true, mtu: 1_420 };
    expect(a.device.laneChanges()).toEqual([
      device,
      { type: 'peer', peer: 1, publicKey: b.publicKey },
      { type: 'allowed-ips', peer: 1, replace: false, allowedIps: ALL },
      device,
      { type: 'peer', peer: 2, publicKey: third },
      device,
      { type: 'endpoint', peer: 1, endpoint: at(2) },
    ]);
    expect(a.device.laneChanges()).toEqual([]);
  });

  it('of prefixes that are replaced, also by none, and of endpoints that changed', () => {
    const [a, b] = acquainted();
    a.device.laneChanges();
    const change = (more: object): unknown[] => {
      a.device.configure({ peers: [{ publicKey: b.publicKey, ...more }] }, 0);
      return a.device.laneChanges().filter(({ type }) => type !== 'device');
    };
    expect(change({})).toEqual([]);
    expect(change({ allowedIps: [] })).toEqual([]);
    expect(change({ replaceAllowedIps: true })).toEqual([
      { type: 'allowed-ips', peer: 1, replace: true, allowedIps: [] },
    ]);
    expect(change({ replaceAllowedIps: true, allowedIps: ALL })).toEqual([
      { type: 'allowed-ips', peer: 1, replace: true, allowedIps: ALL },
    ]);
    expect(change({ endpoint: at(9) })).toEqual([{ type: 'endpoint', peer: 1, endpoint: at(9) }]);
  });

  it('that it has no identity any more, and who is removed; a number is not used again', () => {
    const [a, b] = acquainted();
    a.device.laneChanges();
    a.device.configure({ privateKey: new Uint8Array(32), peers: [{ publicKey: b.publicKey, remove: true }] }, 0);
    expect(a.device.laneChanges()).toEqual([
      { type: 'peer-removed', peer: 1 },
      { type: 'device', hasIdentity: false, mtu: 1_420 },
    ]);
    account(a, { rxBytes: 5, endpoint: at(7) });
    a.device.configure({ peers: [{ publicKey: b.publicKey }] }, 0);
    expect(a.device.laneChanges()).toMatchObject([{ type: 'peer', peer: 2 }, { type: 'device' }]);
    account(a, { rxBytes: 5 });
    expect(peerOf(a).rxBytes).toBe(0);
    account(a, { rxBytes: 5, peer: 2 });
    expect(peerOf(a).rxBytes).toBe(5);
  });

  it('of a session before it is used, with its keys for each other lane, and of its end', () => {
    const [a, b] = acquainted();
    a.device.laneChanges();
    begin(a, b, 5);
    const changes = a.device.laneChanges();
    const [session] = sessionsIn(changes);
    expect(session).toMatchObject({ peer: 1, suite: 'chacha20poly1305', createdAt: 5 });
    expect(changes.slice(1)).toEqual([{ type: 'sending', peer: 1, localIndex: session!.localIndex }]);
    const memory = new SharedSession(session!.memory);
    const keys = memory.takeKeys()!;
    expect([isZero(keys.send), isZero(keys.receive), isZero(new Uint8Array(session!.memory, 20))]).toEqual([
      false,
      false,
      true,
    ]);
    // A counter that another lane has is not used here.
    expect(memory.reserve(10)).toBe(1n);
    a.send(5);
    expect(a.batch.view.getUint32(8, true)).toBe(11);
    a.device.configure({ peers: [{ publicKey: b.publicKey, remove: true }] }, 5);
    expect(a.device.laneChanges().map(({ type }) => type)).toEqual(['session-ended', 'peer-removed', 'device']);
    expect(memory.ended).toBe(true);
  });

  it('of a session in the time of its caller, whose clock stood still while the host slept', () => {
    const [a, b] = acquainted();
    a.device.tick(0, UNIX);
    a.device.tick(10, UNIX + 3_600_000);
    begin(a, b, 10);
    expect(sessionsIn(a.device.laneChanges())).toMatchObject([{ createdAt: 10 }]);
  });

  it('of the session that the peer uses, once it does', () => {
    const [a, b] = acquainted();
    a.device.laneChanges();
    b.device.rekey(undefined, 0);
    a.receive(b.device.tick(0, UNIX).datagrams[0]!.bytes, at(2));
    const [response] = a.device.tick(0, UNIX).datagrams;
    const before = a.device.laneChanges();
    const [session] = sessionsIn(before);
    expect(before.map(({ type }) => type)).toEqual(['session']);
    b.receive(response!.bytes, at(1));
    const [keepalive] = b.device.tick(0, UNIX).datagrams;
    const isOwn = laneOf(session!.localIndex, LANES) === 0;
    expect(a.receive(keepalive!.bytes, at(2))).toBe(isOwn ? VERDICT.consumed : VERDICT.elsewhere);
    if (!isOwn) account(a, { begun: [session!.localIndex], receivedOn: session!.localIndex, receivedAt: 0 });
    expect(a.device.laneChanges()).toEqual([{ type: 'sending', peer: 1, localIndex: session!.localIndex }]);
  });
});

describe('when two handshakes have crossed', () => {
  /** Both have a session of their own and the peer's, which is lane 0's to open; `a` is the one to move. */
  function crossed(): readonly [Host, Host] {
    for (let tries = 0; tries < 100; tries++) {
      const [a, b] = acquainted();
      for (const host of [a, b]) host.device.rekey(undefined, 0);
      for (const n of [1, 2]) {
        const [fromA, fromB] = [a, b].map((host) => host.device.tick(0, UNIX).datagrams) as [
          ReturnType<Device['tick']>['datagrams'],
          ReturnType<Device['tick']>['datagrams'],
        ];
        expect([fromA, fromB].map((sent) => sent.map(({ bytes }) => bytes[0]))).toEqual([[n], [n]]);
        b.receive(fromA[0]!.bytes, at(1));
        a.receive(fromB[0]!.bytes, at(2));
      }
      a.device.tick(0, UNIX);
      const theirs = sessionsIn(a.device.laneChanges()).map(({ localIndex }) => localIndex)[0]!;
      if (isSmaller(b.publicKey, a.publicKey) && laneOf(theirs, LANES) === 0) return [a, b];
    }
    throw new Error('no such keys and indexes in a hundred tries');
  }

  it('the device tells of the session that it moves to, with the first packet on it', () => {
    const [a, b] = crossed();
    const [keepalive] = b.device.tick(0, UNIX).datagrams;
    expect(a.device.laneChanges()).toEqual([]);
    expect(a.receive(keepalive!.bytes, at(2))).toBe(VERDICT.consumed);
    const localIndex = new DataView(keepalive!.bytes.buffer).getUint32(4, true);
    expect(a.device.laneChanges()).toEqual([{ type: 'sending', peer: 1, localIndex }]);
  });
});

describe('the device', () => {
  it('sends on a new session as soon as another lane has confirmed it in their memory', () => {
    const [a, b] = connected();
    const before = peerOf(a).sessions;
    b.device.rekey(undefined, 20);
    a.receive(b.device.tick(20, UNIX + 20).datagrams[0]!.bytes, at(2), 20);
    a.device.tick(20, UNIX + 20);
    const [{ memory, remoteIndex }] = sessionsIn(a.device.laneChanges()) as [Extract<LaneChange, { type: 'session' }>];
    const receiver = (): number => {
      expect(a.send(20)).toBe(VERDICT.send);
      return a.batch.view.getUint32(4, true);
    };
    expect(receiver()).not.toBe(remoteIndex);
    new SharedSession(memory).confirm();
    expect(receiver()).toBe(remoteIndex);
    // What that means for the peer is said by the other lane's report.
    expect(peerOf(a, 20).sessions).toBe(before);
  });
});

describe('a report of another lane', () => {
  it('counts bytes, and confirms a session once', () => {
    const [a, b] = acquainted();
    b.device.rekey(undefined, 0);
    a.receive(b.device.tick(0, UNIX).datagrams[0]!.bytes, at(2));
    a.device.tick(0, UNIX);
    const [{ localIndex }] = sessionsIn(a.device.laneChanges()) as [Extract<LaneChange, { type: 'session' }>];
    const { rxBytes, txBytes } = peerOf(a);
    const heard = { begun: [localIndex], receivedOn: localIndex, receivedAt: 3, rxBytes: 32, txBytes: 80 };
    account(a, heard, 3);
    expect(a.device.tick(3, UNIX).events).toMatchObject([{ type: 'session', role: 'responder' }]);
    account(a, { ...heard, begun: [] }, 4);
    expect(a.device.tick(4, UNIX).events).toEqual([]);
    expect(peerOf(a)).toMatchObject({ rxBytes: rxBytes + 64, txBytes: txBytes + 160, sessions: 1 });
    // An index that is of nobody changes nothing.
    account(a, { begun: [localIndex ^ 1], receivedAt: 5 }, 5);
    expect(a.device.tick(5, UNIX).events).toEqual([]);
  });

  it('moves the endpoint, or forgets its source, and tells the others', () => {
    const [a] = connected();
    account(a, { endpoint: at(9), forgetSource: true, receivedAt: 1 }, 1);
    expect(peerOf(a).endpoint).toEqual(at(9));
    expect(a.device.tick(1, UNIX).events).toMatchObject([{ type: 'roamed', endpoint: at(9) }]);
    expect(a.device.laneChanges()).toEqual([{ type: 'endpoint', peer: 1, endpoint: at(9) }]);
    const pinned = { ...at(9), source: { address: ip('192.0.2.1'), interfaceIndex: 2 } };
    account(a, { endpoint: pinned }, 2);
    expect(a.device.laneChanges()).toEqual([{ type: 'endpoint', peer: 1, endpoint: pinned }]);
    account(a, {}, 3);
    expect(peerOf(a).endpoint).toEqual(pinned);
    account(a, { forgetSource: true }, 3);
    expect(peerOf(a).endpoint).toStrictEqual(at(9));
    expect(a.device.laneChanges()).toMatchObject([{ type: 'endpoint', endpoint: at(9) }]);
  });

  it.each<[string, Partial<PeerTraffic>, string, number]>([
    ['data came last: a keepalive is due', { sentAt: 1, receivedAt: 2, receivedData: true }, 'send-keepalive', 10_002],
    [
      'data came at the same moment: as well',
      { sentAt: 2, receivedAt: 2, receivedData: true },
      'send-keepalive',
      10_002,
    ],
    ['data was sent last: an answer is due', { sentAt: 2, receivedAt: 1, receivedData: true }, 'new-handshake', 15_002],
    ['only sent', { sentAt: 4 }, 'new-handshake', 15_004],
    ['only received', { receivedAt: 4, receivedData: true }, 'send-keepalive', 10_004],
    ['only a keepalive came', { receivedAt: 4 }, 'expire-session', 180_000],
    ['nothing', {}, 'expire-session', 180_000],
    // As by clocks of two threads that are read one after the other.
    ['sent in the future, which is now', { sentAt: 50 }, 'new-handshake', 15_010],
    ['received in the future', { receivedAt: 50, receivedData: true }, 'send-keepalive', 10_010],
  ])('moves deadlines as the traffic did: %s', (_, traffic, why, time) => {
    const [a] = connected();
    account(a, traffic, 10);
    a.device.tick(10, UNIX);
    const next = a.device.nextDeadline();
    expect(next.why).toBe(why);
    expect(next.at).toBeGreaterThanOrEqual(time);
    // The answer to data may be late by up to 333 ms more.
    expect(next.at).toBeLessThanOrEqual(time + (why === 'new-handshake' ? 333 : 0));
  });

  it.each([
    ['120 s of sending', { sentAt: 120 * SECOND }, true],
    ['less', { sentAt: 120 * SECOND - 1 }, false],
    ['165 s of receiving', { receivedAt: 165 * SECOND }, true],
    ['less of that', { receivedAt: 165 * SECOND - 1 }, false],
  ])('renews the session after %s', (_, traffic, renews) => {
    const [a, b] = acquainted();
    begin(a, b);
    const [{ localIndex }] = sessionsIn(a.device.laneChanges()) as [Extract<LaneChange, { type: 'session' }>];
    const now = Math.max(...Object.values(traffic));
    account(a, { receivedOn: localIndex, ...traffic }, now);
    const kinds = a.device.tick(now, UNIX + now).datagrams.map(({ bytes }) => bytes[0]);
    expect(kinds).toEqual(renews ? [1] : []);
  });

  it('brings what is no IP packet, which is dropped unless somebody wants it', () => {
    const [a] = connected();
    account(a, { receivedAt: 1, other: new Uint8Array(20).fill(0xf0) }, 1);
    expect(a.device.status(1).drops).toMatchObject({ 'bad-inner-packet': 1 });
    // What was not received is not there.
    account(a, { other: new Uint8Array(20) }, 1);
    expect(a.device.status(1).drops).toMatchObject({ 'bad-inner-packet': 1 });
  });

  it('brings what the post-quantum exchange wants', () => {
    const [a, b] = connected();
    a.device.configure({ peers: [{ publicKey: b.publicKey, postQuantum: 3_600_000 }] }, 0);
    const offer = { type: 'offer', id: random.bytes(EXCHANGE_ID_LENGTH), body: random.bytes(1_184) } as const;
    account(a, { receivedAt: 1, other: encodeExchangeMessage(offer) }, 1);
    expect(a.device.status(1).drops).toMatchObject({ 'bad-inner-packet': 0 });
    expect(a.device.nextDeadline()).toEqual({ at: 1, why: 'exchange' });
  });

  it('may come after the session that it is about', () => {
    const [a] = acquainted();
    account(a, { sentAt: 1, receivedAt: 0, receivedOn: 7, txBytes: 80 }, 1);
    expect(peerOf(a)).toMatchObject({ txBytes: 80 });
    expect(a.device.tick(1, UNIX).datagrams).toEqual([]);
  });

  it('adds its drops and gives back what it could not send', () => {
    const [a] = connected();
    const packet = random.bytes(20);
    const drops = [[dropVerdict('replay'), 2]] as const;
    expect(a.device.account({ peers: [], drops, unsent: [packet] }, 0)).toEqual([packet]);
    expect(a.device.status(0).drops.replay).toBe(2);
    expect(a.device.laneChanges()).toEqual([]);
  });
});
