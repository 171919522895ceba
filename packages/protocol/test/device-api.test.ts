/** The calls of a device, by what they return: deadlines and their names, counts, copies and refusals. */
import { describe, expect, it } from 'vitest';
import { toyCrypto } from '../../../test/sim/toy-crypto.ts';
import { Device } from '../src/device.ts';
import { dropReason, dropVerdict, VERDICT } from '../src/drops.ts';
import { clamp } from '../src/keys.ts';
import type { Peer } from '../src/peer.ts';
import { TIMER } from '../src/timers.ts';
import { hex, ip } from './support/bytes.ts';
import { ALL, at, connected, Host, random, UNIX } from './support/host.ts';
import * as paper from './support/paper.ts';
import { quiet } from './support/quiet.ts';
import { DAY, SECOND } from './support/spec.ts';

describe('a handshake that probes an endpoint', () => {
  const probe = (): readonly [Host, Host, Uint8Array] => {
    const [a, b] = connected();
    expect(a.device.rekey(b.publicKey, 10_000, at(9))).toBe(1);
    const [initiation, ...others] = a.device.tick(10_000, UNIX).datagrams;
    expect([initiation!.kind, initiation!.endpoint, others]).toEqual(['handshake', at(9), []]);
    return [a, b, initiation!.bytes];
  };

  it('leaves data where it goes, and comes back there when it is not answered', () => {
    const [a] = probe();
    expect(a.send(10_001)).toBe(VERDICT.send);
    expect(a.batch.peers[0]!.endpoint).toEqual(at(2));
    const later: unknown[] = [];
    while (later.length === 0) {
      const { at: now } = a.device.nextDeadline();
      expect(now).toBeLessThan(16_000);
      for (const { kind, endpoint } of a.device.tick(now, UNIX).datagrams) later.push([kind, endpoint]);
    }
    expect(later).toEqual([['handshake', at(2)]]);
  });

  it('moves the peer there when it answers', () => {
    const [a, b, initiation] = probe();
    expect(b.receive(initiation, at(1), 10_001)).toBe(VERDICT.consumed);
    const [response] = b.device.tick(10_001, UNIX + 10_001).datagrams;
    expect(a.receive(response!.bytes, at(9), 10_002)).toBe(VERDICT.consumed);
    expect(a.device.tick(10_002, UNIX).events.map(({ type }) => type)).toContain('roamed');
    expect(a.send(10_003)).toBe(VERDICT.send);
    expect(a.batch.peers[0]!.endpoint).toEqual(at(9));
  });

  it('refuses what is no endpoint', () => {
    const [a, b] = connected();
    expect(() => a.device.rekey(b.publicKey, 0, { ...at(9), port: 0 })).toThrow('probed.port');
  });
});

describe('the next deadline', () => {
  it('is never, until something is to be done, and says what', () => {
    const host = new Host();
    expect(host.device.nextDeadline()).toEqual({ at: Infinity, why: 'idle' });
    host.peer({ endpoint: at(2), allowedIps: ALL });
    expect(host.device.nextDeadline()).toEqual({ at: Infinity, why: 'idle' });
    expect(host.send(5)).toBe(VERDICT.consumed);
    // Packets were sent and the wall clock was never seen.
    expect(host.device.nextDeadline()).toEqual({ at: 5, why: 'wall-clock' });
    const { datagrams, events } = host.device.tick(5, UNIX);
    expect([datagrams.map(({ kind }) => kind), events]).toEqual([['handshake'], []]);
    const next = host.device.nextDeadline();
    expect(next.why).toBe('retransmit-handshake');
    expect(next.at).toBeGreaterThanOrEqual(5_005);
    expect(next.at).toBeLessThan(5_005 + 334);
    // Early calls do no harm.
    expect(host.device.tick(next.at - 1, UNIX)).toEqual({ datagrams: [], events: [] });
    expect(host.device.nextDeadline()).toEqual(next);
    expect(host.device.tick(next.at, UNIX).datagrams.length).toBe(1);
  });

  it('is now while handshakes wait, four of which are judged in a tick', () => {
    const [a, b] = [new Host(), new Host()];
    a.peer({ publicKey: b.publicKey, endpoint: at(2) });
    a.device.rekey(undefined, 0);
    const { bytes } = a.device.tick(0, UNIX).datagrams[0]!;
    for (let i = 0; i < 5; i++) expect(b.receive(bytes, at(1), 7)).toBe(VERDICT.consumed);
    expect(b.device.nextDeadline()).toEqual({ at: 7, why: 'handshake-queue' });
    expect(b.device.tick(7, UNIX).events.length).toBe(4);
    expect(b.device.nextDeadline()).toEqual({ at: 7, why: 'handshake-queue' });
    expect(b.device.tick(7, UNIX).events).toMatchObject([{ type: 'handshake-refused', reason: 'unknown-peer' }]);
    expect(b.device.nextDeadline().at).toBe(Infinity);
    expect(b.device.status(7).drops['unknown-peer']).toBe(5);
  });
});

describe('a device under load', () => {
  it('asks for a cookie, then serves who has it, five at once', () => {
    const [a, b] = [new Host(), new Host()];
    a.peer({ publicKey: b.publicKey, endpoint: at(2), allowedIps: ALL });
    b.peer({ publicKey: a.publicKey });
    a.send();
    const [first] = a.device.tick(0, UNIX).datagrams;
    // From 128 waiting messages on; that their sender may not be believed is not known yet.
    for (let i = 0; i < 128; i++) b.receive(first!.bytes, at(1));
    expect(b.device.status(0).underLoad).toBe(true);
    const asked = b.device.tick(0, UNIX).datagrams;
    expect(asked.map(({ bytes, endpoint }) => [bytes[0], bytes.length, endpoint])).toEqual(
      Array.from({ length: 4 }, () => [3, 64, at(1)]),
    );
    expect(b.device.status(0).drops['cookie-required']).toBe(4);
    while (b.device.nextDeadline().why === 'handshake-queue') b.device.tick(1, UNIX);

    expect(a.receive(asked[0]!.bytes, at(2), 1)).toBe(VERDICT.consumed);
    expect(a.device.tick(1, UNIX)).toEqual({
      datagrams: [],
      events: [{ type: 'cookie-received', publicKey: b.publicKey }],
    });
    const again = a.device.tick(20, UNIX + 20).datagrams.map(({ bytes }) => bytes);
    expect(again.map(({ length }) => length)).toEqual([148]);
    // From another address the same proof is none.
    b.receive(again[0]!, at(3), 20);
    expect(b.device.tick(20, UNIX).datagrams.map(({ bytes, endpoint }) => [bytes[0], endpoint])).toEqual([[3, at(3)]]);
    for (let i = 0; i < 7; i++) {
      b.receive(again[0]!, at(1), 20);
      const { datagrams } = b.device.tick(20, UNIX + 20);
      expect(datagrams.map(({ bytes }) => bytes[0])).toEqual(i === 0 ? [2] : []);
    }
    expect(b.device.status(20).drops).toMatchObject({
      'cookie-required': 129,
      'stale-timestamp': 4,
      'rate-limited': 2,
    });
    const sweep = { at: 1_020, why: 'rate-limiter-sweep' };
    expect(b.device.nextDeadline()).toEqual(sweep);
    b.device.tick(500, UNIX + 500);
    expect(b.device.nextDeadline()).toEqual(sweep);
    b.device.tick(1_020, UNIX + 1_020);
    expect(b.device.nextDeadline().why).not.toBe('rate-limiter-sweep');
    // A second after the last of them everyone is served again.
    b.receive(again[0]!, at(3), 2_000);
    expect(b.device.tick(2_000, UNIX).datagrams).toEqual([]);
    expect(b.device.nextDeadline().why).not.toBe('rate-limiter-sweep');
    expect(b.device.status(2_000)).toMatchObject({ underLoad: false, drops: { 'stale-timestamp': 5 } });
  });

  it('ignores a cookie reply for what it never sent', () => {
    const [a, b] = connected();
    const reply = new Uint8Array(64).fill(3, 0, 1);
    expect(dropReason(a.receive(reply, at(2)))).toBe('bad-cookie-reply');
    expect(a.device.tick(0, UNIX)).toEqual({ datagrams: [], events: [] });
    expect([a.device.status(0).drops['bad-cookie-reply'], b.device.status(0).drops['bad-cookie-reply']]).toEqual([
      1, 0,
    ]);
  });
});

describe('a device', () => {
  it('refuses handshakes before it queues them: without an identity, with a wrong mac1, without a source', () => {
    const [a, b] = [new Host(), new Host()];
    a.peer({ publicKey: b.publicKey, endpoint: at(2) });
    a.device.rekey(undefined, 0);
    const { bytes } = a.device.tick(0, UNIX).datagrams[0]!;
    const forged = bytes.slice().fill(0, 20, 24);
    expect(dropReason(b.receive(forged, at(1)))).toBe('bad-mac1');
    expect(() => b.receive(bytes)).toThrow('batch.endpoints[0] is missing');
    b.device.configure({ privateKey: new Uint8Array(32) }, 0);
    expect(dropReason(b.receive(bytes, at(1)))).toBe('device-down');
    expect(b.device.nextDeadline().at).toBe(Infinity);
  });

  it('counts the peers that it begins handshakes with: those with an endpoint', () => {
    const host = new Host();
    const [known, unknown] = [random.bytes(32), random.bytes(32)];
    host.peer({ publicKey: known, endpoint: at(2) });
    host.peer({ endpoint: at(3) });
    host.peer({ publicKey: unknown });
    const rekey = (publicKey?: Uint8Array): number => host.device.rekey(publicKey, 0);
    expect([rekey(), rekey(known), rekey(unknown), rekey(random.bytes(32))]).toEqual([2, 1, 0, 0]);
    expect(host.device.tick(0, UNIX).datagrams.map(({ endpoint }) => endpoint.address[3])).toEqual([2, 3]);
  });

  it('gives out copies of its keys, and of preshared keys those that there are', () => {
    const host = new Host();
    const presharedKey = random.bytes(32);
    const publicKey = random.bytes(32);
    host.peer({ publicKey, presharedKey });
    host.peer();
    const expected = { privateKey: clamp(host.privateKey.slice()), presharedKeys: [{ publicKey, presharedKey }] };
    const secrets = host.device.secrets();
    expect(secrets).toEqual(expected);
    for (const key of [secrets.privateKey!, ...secrets.presharedKeys.flatMap((each) => Object.values(each))])
      key.fill(0);
    host.device.status(0).publicKey!.fill(0);
    expect(host.device.secrets()).toEqual(expected);
    expect(host.device.status(0)).toMatchObject({ publicKey: host.publicKey, crypto: 'toy', underLoad: false });
  });

  it('without a key has none to give out', () => {
    const device = new Device({ crypto: toyCrypto, random: (length) => random.bytes(length) });
    expect(device.secrets()).toStrictEqual({ presharedKeys: [] });
    expect(device.status(0)).not.toHaveProperty('publicKey');
  });

  it('keeps its sessions when it is given the key that it has, and only then', () => {
    const [a] = connected();
    expect(a.send()).toBe(VERDICT.send);
    a.device.configure({ privateKey: a.privateKey.slice() }, 0);
    expect(a.send()).toBe(VERDICT.send);
    a.device.configure({ privateKey: random.bytes(32) }, 0);
    expect(a.send()).toBe(VERDICT.consumed);
  });

  it('forgets the local address towards a peer, and knows nothing of a stranger', () => {
    const [a, b] = connected();
    const [other] = connected();
    const endpoint = { ...at(2), source: { address: ip('192.0.2.1'), interfaceIndex: 3 } };
    a.peer({ publicKey: b.publicKey, endpoint });
    a.device.forgetSource({ publicKey: other.publicKey, endpoint });
    expect(a.device.status(0).peers[0]!.endpoint).toEqual(endpoint);
    a.device.forgetSource({ publicKey: b.publicKey, endpoint });
    expect(a.device.status(0).peers[0]!.endpoint).toStrictEqual(at(2));
  });

  it('sends a keepalive when they are switched on, and not when they are changed', () => {
    const [a, b] = connected();
    const set = (persistentKeepalive: number, now: number): number => {
      a.device.configure({ peers: [{ publicKey: b.publicKey, persistentKeepalive }] }, now);
      return a.device.tick(now, UNIX + now).datagrams.length;
    };
    expect([set(0, 10), set(25, 20), set(30, 30), set(0, 40), set(30, 50)]).toEqual([0, 1, 0, 0, 1]);
    const host = new Host();
    host.peer({ endpoint: at(2), persistentKeepalive: 0 });
    expect(host.device.nextDeadline().why).toBe('idle');
  });

  it('begins its timestamps above a copy of the floor', () => {
    const floor = paper.tai64n(UNIX + DAY);
    const device = new Device({ crypto: toyCrypto, random: (length) => random.bytes(length), timestampFloor: floor });
    const before = hex(floor);
    floor.fill(0xff);
    device.configure({ privateKey: random.bytes(32), peers: [{ publicKey: random.bytes(32), endpoint: at(2) }] }, 0);
    expect(device.timestamp).toBeUndefined();
    device.rekey(undefined, 0);
    expect(device.tick(0, UNIX).datagrams.length).toBe(1);
    expect(hex(device.timestamp!) > before).toBe(true);
    expect(hex(device.timestamp!) < hex(paper.tai64n(UNIX + DAY + SECOND))).toBe(true);
  });

  it('of one lane has nothing to tell others, and seals what another could not', () => {
    const [a] = connected();
    expect(a.device.laneChanges()).toEqual([]);
    const packet = random.bytes(20);
    const before = a.device.status(0).peers;
    const report = {
      peers: [{ ...quiet(1), rxBytes: 9 }],
      drops: [[dropVerdict('replay'), 3] as const],
      unsent: [packet],
    };
    expect(a.device.account(report, 0)).toEqual([packet]);
    expect(a.device.status(0).drops.replay).toBe(3);
    // It gave no peer a number for others to report of.
    expect(a.device.status(0).peers).toEqual(before);
  });

  it('does what is due for all its peers in one tick', () => {
    const host = new Host();
    for (let i = 1; i <= 10; i++) host.peer({ endpoint: at(i) });
    expect(host.device.rekey(undefined, 0)).toBe(10);
    expect(
      host.device
        .tick(0, UNIX)
        .datagrams.map(({ endpoint }) => endpoint.address[3])
        .toSorted(),
    ).toHaveLength(10);
    expect(host.device.nextDeadline().why).toBe('retransmit-handshake');
  });

  it('ends a tick although a peer stays due: that one has its turn four times', () => {
    const [a] = connected();
    a.send();
    const peer = a.batch.peers[0] as Peer;
    let turns = 0;
    peer.tick = () => void (turns += 1);
    peer.timers.set(TIMER.flush, 0);
    expect(a.device.tick(0, UNIX)).toEqual({ datagrams: [], events: [] });
    expect(turns).toBe(4);
    expect(a.device.nextDeadline()).toEqual({ at: 0, why: 'flush' });
  });

  it('shows the peers that there are, with the endpoints that they have now', () => {
    const host = new Host();
    expect([...host.device.handles()]).toEqual([]);
    const [one, two] = [random.bytes(32), random.bytes(32)];
    host.peer({ publicKey: one, endpoint: at(2) });
    host.peer({ publicKey: two });
    const shown = (): unknown[] =>
      Array.from(host.device.handles(), ({ publicKey, endpoint }) => [publicKey, endpoint]);
    expect(shown()).toEqual([
      [one, at(2)],
      [two, undefined],
    ]);
    host.peer({ publicKey: two, endpoint: at(3) });
    host.peer({ publicKey: one, remove: true });
    expect(shown()).toEqual([[two, at(3)]]);
  });

  it('looks at the wall clock for what another lane sent, too', () => {
    const [a] = connected();
    const sent = (now: number): string => {
      a.device.account({ peers: [], drops: [], unsent: [] }, now);
      return a.device.nextDeadline().why;
    };
    expect(sent(999)).not.toBe('wall-clock');
    expect(sent(1_000)).toBe('wall-clock');
    a.device.tick(1_000, UNIX);
    expect(a.device.nextDeadline().why).not.toBe('wall-clock');
  });

  it('keeps the upper half of its queue for sources that have nothing in it', () => {
    const [a, b] = [new Host(), new Host()];
    a.peer({ publicKey: b.publicKey, endpoint: at(2) });
    a.device.rekey(undefined, 0);
    const { bytes } = a.device.tick(0, UNIX).datagrams[0]!;
    let taken = 0;
    while (taken < 2_000 && b.receive(bytes, at(1)) === VERDICT.consumed) taken += 1;
    expect(taken).toBe(512);
    expect(dropReason(b.receive(bytes, at(1)))).toBe('handshake-queue-full');
    expect(b.receive(bytes, at(3))).toBe(VERDICT.consumed);
    expect(b.device.status(0).drops['handshake-queue-full']).toBe(2);
    b.device.close();
    expect(b.device.nextDeadline().at).toBe(Infinity);
  });

  it('is no peer of itself, whichever it learns first', () => {
    const [host, other] = [new Host(), new Host()];
    const peers = (): number => host.device.status(0).peers.length;
    host.peer({ publicKey: host.publicKey });
    expect(peers()).toBe(0);
    host.peer({ publicKey: other.publicKey });
    host.peer();
    expect(peers()).toBe(2);
    host.device.configure({ privateKey: other.privateKey }, 0);
    expect(peers()).toBe(1);
    expect(host.device.status(0).publicKey).toEqual(other.publicKey);
  });

  it('changes the peers that it has, and makes none, when an update says so', () => {
    const host = new Host();
    const [known, unknown] = [random.bytes(32), random.bytes(32)];
    host.peer({ publicKey: known });
    host.peer({ publicKey: known, updateOnly: true, persistentKeepalive: 7 });
    host.peer({ publicKey: unknown, updateOnly: true, persistentKeepalive: 7 });
    expect(host.device.status(0).peers).toMatchObject([{ publicKey: known, persistentKeepalive: 7 }]);
    host.peer({ publicKey: unknown, remove: true });
    host.peer({ publicKey: known, allowedIps: ALL });
    host.peer({ publicKey: known, allowedIps: [{ address: ip('10.0.0.0'), length: 8 }] });
    expect(host.device.status(0).peers).toMatchObject([{ allowedIps: [{ length: 0 }, { length: 8 }] }]);
    host.peer({ publicKey: known, allowedIps: ALL, replaceAllowedIps: true });
    expect(host.device.status(0).peers).toMatchObject([{ allowedIps: ALL }]);
    host.device.configure({ replacePeers: true, peers: [{ publicKey: unknown }, { publicKey: known }] }, 0);
    expect(host.device.status(0).peers).toMatchObject([
      { publicKey: known, persistentKeepalive: 7 },
      { publicKey: unknown },
    ]);
    host.device.configure({ replacePeers: true }, 0);
    expect(host.device.status(0).peers).toEqual([]);
  });
});
