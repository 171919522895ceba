/** A replica by itself: what it follows, what it makes of packets, and what it reports when. */
import { describe, expect, it } from 'vitest';
import { ipPacket } from '../../../test/sim/packets.ts';
import { generator } from '../../../test/sim/random.ts';
import { HEADROOM, PacketBatch, type PeerHandle } from '../src/batch.ts';
import { dropReason, dropVerdict, VERDICT } from '../src/drops.ts';
import type { Endpoint } from '../src/endpoint.ts';
import type { LaneChange } from '../src/lane-model.ts';
import { LaneReplica } from '../src/lane-replica.ts';
import { nobleCrypto } from '../src/noble.ts';
import { SharedSession } from '../src/shared-session.ts';
import { concat, hex, ip, isZero } from './support/bytes.ts';
import { quiet } from './support/quiet.ts';
import * as paper from './support/paper.ts';

const random = generator(17);
const KEYS = { send: random.bytes(32), receive: random.bytes(32) };
const PUBLIC_KEY = random.bytes(32);
const HERE = ip('10.0.0.1');
const THERE = ip('10.0.0.2');
const ENDPOINT: Endpoint = { address: ip('192.0.2.1'), port: 9, scopeId: 0 };
const ELSEWHERE: Endpoint = { ...ENDPOINT, port: 10 };
const PEER = 5;
/** Of two lanes this is the second, which opens the odd indexes. */
const [OWN, OWN_TOO, OTHERS] = [1, 3, 2];
const OUT = ipPacket(HERE, THERE, 1, 48);
const IN = ipPacket(THERE, HERE, 2, 48);
const NOTHING = new Uint8Array(0);
const OTHER = new Uint8Array(48).fill(0xf0);

class Lab {
  readonly replica: LaneReplica;
  readonly batch = new PacketBatch(new Uint8Array(1_024), 2);
  refreshes = 0;
  /** What the next refresh brings. */
  late: LaneChange[] = [];

  constructor() {
    const refresh = (): void => {
      this.refreshes += 1;
      this.replica.apply(this.late.splice(0));
    };
    this.replica = new LaneReplica({ crypto: nobleCrypto, lane: 1, lanes: 2, refresh });
    this.replica.apply([
      { type: 'device', hasIdentity: true, mtu: 1_420 },
      { type: 'peer', peer: PEER, publicKey: PUBLIC_KEY },
      { type: 'endpoint', peer: PEER, endpoint: ENDPOINT },
      { type: 'allowed-ips', peer: PEER, replace: false, allowedIps: [{ address: THERE, length: 32 }] },
    ]);
  }

  session(localIndex = OWN, more: Partial<Extract<LaneChange, { type: 'session' }>> = {}): SharedSession {
    const session = SharedSession.create(KEYS, 1);
    this.replica.apply([announcement(session, localIndex, more)]);
    return session;
  }

  send(now = 0, packet = OUT): string {
    this.batch.clear();
    this.batch.buffer.set(packet, HEADROOM);
    this.batch.push(HEADROOM, packet.length);
    this.replica.seal(this.batch, now);
    return this.verdict();
  }

  receive(datagrams: Uint8Array | readonly Uint8Array[], now = 0, endpoint = ENDPOINT): string {
    this.batch.clear();
    for (const datagram of datagrams instanceof Uint8Array ? [datagrams] : datagrams) {
      const offset = 512 * this.batch.count;
      this.batch.buffer.set(datagram, offset);
      this.batch.push(offset, datagram.length, endpoint);
    }
    this.replica.open(this.batch, now);
    return this.verdict();
  }

  verdict(i = 0): string {
    const verdict = this.batch.verdicts[i]!;
    return dropReason(verdict) ?? Object.entries(VERDICT).find(([, value]) => value === verdict)![0];
  }

  sent(): string {
    return hex(this.batch.buffer.subarray(this.batch.offsets[0], this.batch.offsets[0]! + this.batch.lengths[0]!));
  }
}

function announcement(
  session: SharedSession,
  localIndex: number,
  more: Partial<Extract<LaneChange, { type: 'session' }>> = {},
): LaneChange {
  const names = { localIndex, remoteIndex: 100 + localIndex, createdAt: 0 };
  return { type: 'session', peer: PEER, memory: session.buffer, suite: 'chacha20poly1305', ...names, ...more };
}

const inbound = (plaintext: Uint8Array, counter: number, index = OWN): Uint8Array =>
  paper.data(KEYS.receive, index, BigInt(counter), plaintext);

const QUIET = quiet(PEER);

describe('what a replica follows', () => {
  it('is an identity first of all, then routes and sessions', () => {
    const lab = new Lab();
    lab.replica.apply([{ type: 'device', hasIdentity: false, mtu: 0 }]);
    expect(lab.send()).toBe('device-down');
    lab.replica.apply([{ type: 'device', hasIdentity: true, mtu: 0 }]);
    expect(lab.send()).toBe('consumed');
    lab.session();
    expect(lab.send()).toBe('consumed');
    lab.replica.apply([{ type: 'sending', peer: PEER, localIndex: OWN }]);
    expect(lab.send()).toBe('send');
    expect(lab.sent()).toBe(hex(paper.data(KEYS.send, 100 + OWN, 0n, OUT)));
    expect(lab.batch.peers[0]).toMatchObject({ publicKey: PUBLIC_KEY, endpoint: ENDPOINT });
    lab.replica.apply([{ type: 'sending', peer: PEER, localIndex: undefined }]);
    expect(lab.send()).toBe('consumed');
  });

  it('is the MTU, above which nothing is padded', () => {
    const lab = new Lab();
    lab.session();
    lab.replica.apply([
      { type: 'sending', peer: PEER, localIndex: OWN },
      { type: 'device', hasIdentity: true, mtu: 41 },
    ]);
    lab.send(0, ipPacket(HERE, THERE, 1, 40));
    expect(lab.batch.lengths[0]).toBe(16 + 41 + 16);
  });

  it('is where a prefix belongs, until it is replaced or the peer is gone', () => {
    const lab = new Lab();
    const prefix = (address: Uint8Array, replace: boolean): LaneChange => ({
      type: 'allowed-ips',
      peer: PEER,
      replace,
      allowedIps: [{ address, length: 32 }],
    });
    const toBoth = (): string[] => [THERE, ip('10.0.0.3')].map((to) => lab.send(0, ipPacket(HERE, to, 1, 48)));
    expect(toBoth()).toEqual(['consumed', 'no-route']);
    lab.replica.apply([prefix(ip('10.0.0.3'), false)]);
    expect(toBoth()).toEqual(['consumed', 'consumed']);
    lab.replica.apply([prefix(ip('10.0.0.3'), true)]);
    expect(toBoth()).toEqual(['no-route', 'consumed']);
    lab.replica.apply([{ type: 'peer-removed', peer: PEER }, prefix(THERE, false)]);
    expect(toBoth()).toEqual(['no-route', 'no-route']);
  });

  it('is nothing of a peer that it does not know; the keys are erased all the same', () => {
    const lab = new Lab();
    const session = lab.session(OWN, { peer: 99 });
    lab.replica.apply([
      { type: 'endpoint', peer: 99, endpoint: ELSEWHERE },
      { type: 'sending', peer: 99, localIndex: OWN },
      { type: 'session-ended', localIndex: 77 },
    ]);
    expect(isZero(new Uint8Array(session.buffer, 20))).toBe(true);
    expect(lab.receive(inbound(IN, 0))).toBe('unknown-index');
    expect(lab.send()).toBe('consumed');
  });

  it('is no session that has ended before it heard of it', () => {
    const lab = new Lab();
    const session = SharedSession.create(KEYS, 1);
    session.end();
    lab.replica.apply([announcement(session, OWN)]);
    expect(lab.receive(inbound(IN, 0))).toBe('unknown-index');
  });

  it('is the end of a session, for which it needs no word: the memory tells', () => {
    const lab = new Lab();
    const [first, second] = [lab.session(), lab.session(OWN_TOO)];
    lab.replica.apply([{ type: 'sending', peer: PEER, localIndex: OWN }]);
    first.end();
    expect([lab.send(), lab.receive(inbound(IN, 0))]).toEqual(['consumed', 'expired-session']);
    lab.replica.apply([
      { type: 'session-ended', localIndex: OWN },
      { type: 'session-ended', localIndex: OWN_TOO },
    ]);
    expect([lab.receive(inbound(IN, 0)), lab.receive(inbound(IN, 0, OWN_TOO))]).toEqual([
      'unknown-index',
      'unknown-index',
    ]);
    expect(second.ended).toBe(true);
  });

  it('are the peers that there are, with the endpoints that they have now', () => {
    const { replica } = new Lab();
    const shown = (): unknown[] => Array.from(replica.handles(), ({ publicKey, endpoint }) => [publicKey, endpoint]);
    expect(shown()).toEqual([[PUBLIC_KEY, ENDPOINT]]);
    replica.apply([{ type: 'endpoint', peer: PEER, endpoint: ELSEWHERE }]);
    expect(shown()).toEqual([[PUBLIC_KEY, ELSEWHERE]]);
    replica.apply([{ type: 'peer-removed', peer: PEER }]);
    expect(shown()).toEqual([]);
  });

  it('is an endpoint; one that is the same keeps the object', () => {
    const lab = new Lab();
    lab.send();
    const [peer] = lab.batch.peers;
    for (const endpoint of [{ ...ENDPOINT }, ELSEWHERE, { ...ELSEWHERE }]) {
      lab.replica.apply([{ type: 'endpoint', peer: PEER, endpoint }]);
    }
    expect(peer!.endpoint).toBe(ELSEWHERE);
    lab.replica.apply([{ type: 'endpoint', peer: PEER, endpoint: undefined }]);
    expect(lab.send()).toBe('no-endpoint');
    lab.replica.apply([{ type: 'endpoint', peer: PEER, endpoint: ENDPOINT }]);
    expect(peer!.endpoint).toBe(ENDPOINT);
  });
});

describe('what a replica opens', () => {
  it('is of its own sessions only; handshakes and what others own stay as they came', () => {
    const lab = new Lab();
    lab.session();
    lab.session(OTHERS);
    expect(lab.receive(inbound(IN, 0))).toBe('deliver');
    expect(lab.receive(inbound(IN, 0))).toBe('replay');
    expect(lab.receive(inbound(IN, 0, OTHERS))).toBe('elsewhere');
    expect(lab.receive(new Uint8Array(148).fill(1, 0, 1))).toBe('elsewhere');
  });

  it('may be of a session of which it is told only now: it asks once a batch', () => {
    const lab = new Lab();
    lab.receive([inbound(IN, 0), inbound(IN, 1)]);
    expect([lab.verdict(0), lab.verdict(1), lab.refreshes]).toEqual(['unknown-index', 'unknown-index', 1]);
    lab.late.push(announcement(SharedSession.create(KEYS, 1), OWN));
    lab.receive([inbound(IN, 0), inbound(IN, 1)]);
    expect([lab.verdict(0), lab.verdict(1), lab.refreshes]).toEqual(['deliver', 'deliver', 2]);
    lab.receive(inbound(IN, 2));
    expect(lab.refreshes).toBe(2);
  });

  it('confirms the session, which it then sends on, whatever lane 0 said last', () => {
    const lab = new Lab();
    lab.session();
    const second = lab.session(OWN_TOO);
    lab.replica.apply([{ type: 'sending', peer: PEER, localIndex: OWN }]);
    lab.send();
    expect(paper.readU32(lab.batch.buffer, 4)).toBe(100 + OWN);
    expect(second.confirmed).toBe(false);
    lab.receive(inbound(NOTHING, 0, OWN_TOO));
    expect(second.confirmed).toBe(true);
    lab.send();
    expect(paper.readU32(lab.batch.buffer, 4)).toBe(100 + OWN_TOO);
    lab.replica.apply([{ type: 'session-ended', localIndex: OWN_TOO }]);
    lab.send();
    expect(paper.readU32(lab.batch.buffer, 4)).toBe(100 + OWN);
  });

  it('goes on with the newest session when an older one ends, and with none that it does not know', () => {
    const lab = new Lab();
    lab.session();
    lab.session(OWN_TOO);
    lab.replica.apply([{ type: 'sending', peer: PEER, localIndex: 77 }]);
    expect(lab.send()).toBe('consumed');
    lab.receive(inbound(NOTHING, 0, OWN_TOO));
    lab.replica.apply([{ type: 'session-ended', localIndex: OWN }]);
    expect(lab.send()).toBe('send');
    expect(paper.readU32(lab.batch.buffer, 4)).toBe(100 + OWN_TOO);
  });

  it('brings the first endpoint of a peer; without a source it changes none', () => {
    const lab = new Lab();
    lab.session();
    lab.send();
    const peer = lab.batch.peers[0]!;
    lab.batch.clear();
    lab.batch.buffer.set(inbound(NOTHING, 0));
    lab.batch.push(0, 32);
    lab.replica.open(lab.batch, 0);
    expect([lab.verdict(), peer.endpoint]).toEqual(['consumed', ENDPOINT]);
    lab.replica.apply([{ type: 'endpoint', peer: PEER, endpoint: undefined }]);
    expect(lab.receive(inbound(NOTHING, 1), 0, ELSEWHERE)).toBe('consumed');
    expect(peer.endpoint).toBe(ELSEWHERE);
    expect(lab.replica.report(0).peers).toMatchObject([{ endpoint: ELSEWHERE }]);
  });
});

describe('a report', () => {
  it('is not due without news, at once with the first, then 50 ms after the last', () => {
    const lab = new Lab();
    lab.session();
    lab.replica.apply([{ type: 'sending', peer: PEER, localIndex: OWN }]);
    expect(lab.replica.reportDue).toBe(Infinity);
    lab.send(7);
    lab.send(8);
    expect(lab.replica.reportDue).toBe(-Infinity);
    expect(lab.replica.report(8)).toEqual({
      peers: [{ ...QUIET, txBytes: 160, sentAt: 8 }],
      drops: [],
      unsent: [],
    });
    expect(lab.replica.reportDue).toBe(Infinity);
    lab.send(9);
    expect(lab.replica.reportDue).toBe(58);
    expect(lab.replica.report(58).peers).toEqual([{ ...QUIET, txBytes: 80, sentAt: 9 }]);
    lab.send(60, ipPacket(HERE, ip('10.0.0.9'), 1, 48));
    expect(lab.replica.reportDue).toBe(108);
    expect(lab.replica.report(108)).toEqual({ peers: [], drops: [[dropVerdict('no-route'), 1]], unsent: [] });
  });

  it('tells what came first on a session and from elsewhere 2 ms after the last, the rest as usual', () => {
    const lab = new Lab();
    lab.session();
    lab.session(OWN_TOO);
    lab.replica.report(0);
    lab.receive(inbound(IN, 0), 3);
    expect(lab.replica.reportDue).toBe(2);
    const came = { ...QUIET, receivedOn: OWN };
    expect(lab.replica.report(3).peers).toEqual([
      { ...came, rxBytes: 80, receivedAt: 3, receivedData: true, begun: [OWN] },
    ]);
    lab.receive(inbound(NOTHING, 1), 4);
    expect(lab.replica.reportDue).toBe(53);
    expect(lab.replica.report(53).peers).toEqual([{ ...came, rxBytes: 32, receivedAt: 4 }]);
    lab.receive(inbound(NOTHING, 2), 60, ELSEWHERE);
    expect(lab.replica.reportDue).toBe(55);
    expect(lab.replica.report(60).peers).toEqual([{ ...came, rxBytes: 32, receivedAt: 60, endpoint: ELSEWHERE }]);
    lab.receive(inbound(NOTHING, 3), 61, { ...ELSEWHERE });
    expect(lab.replica.reportDue).toBe(110);
    expect(lab.replica.report(110).peers).toEqual([{ ...came, rxBytes: 32, receivedAt: 61 }]);
    for (const [counter, index] of [
      [4, OWN],
      [0, OWN_TOO],
      [5, OWN],
    ] as const)
      lab.receive(inbound(IN, counter, index), 120);
    expect(lab.replica.report(120).peers).toMatchObject([{ receivedOn: OWN, begun: [OWN_TOO, OWN], rxBytes: 240 }]);
  });

  it('makes news that cannot wait of what waited already', () => {
    const lab = new Lab();
    lab.session();
    lab.receive(inbound(NOTHING, 0));
    lab.replica.report(0);
    lab.receive(inbound(NOTHING, 1));
    expect(lab.replica.reportDue).toBe(50);
    lab.receive(inbound(NOTHING, 2), 0, ELSEWHERE);
    expect(lab.replica.reportDue).toBe(2);
    expect(lab.replica.report(2).peers.length).toBe(1);
  });

  it('brings packets without a session, 128 at most, and counts the others', () => {
    const lab = new Lab();
    lab.replica.report(0);
    for (let i = 0; i < 130; i++) expect(lab.send(0, ipPacket(HERE, THERE, i, 48))).toBe('consumed');
    expect(lab.replica.reportDue).toBe(2);
    const { unsent, drops } = lab.replica.report(2);
    expect(unsent.map((packet) => hex(packet))).toEqual(
      Array.from({ length: 128 }, (_, i) => hex(ipPacket(HERE, THERE, i, 48))),
    );
    expect(drops).toEqual([[dropVerdict('staging-overflow'), 2]]);
    expect(lab.replica.report(3)).toEqual({ peers: [], drops: [], unsent: [] });
    lab.send();
    expect(lab.replica.report(4).unsent.length).toBe(1);
  });

  it('brings one message of the post-quantum exchange at a time', () => {
    const lab = new Lab();
    lab.session();
    lab.receive(inbound(NOTHING, 0));
    lab.replica.report(0);
    expect(lab.receive(inbound(OTHER, 1))).toBe('consumed');
    expect(lab.replica.reportDue).toBe(2);
    expect(lab.receive(inbound(concat(OTHER.slice(1), Uint8Array.of(0xf1)), 2))).toBe('bad-inner-packet');
    expect(hex(lab.replica.report(2).peers[0]!.other!)).toBe(hex(OTHER));
    expect(lab.receive(inbound(OTHER, 3))).toBe('consumed');
  });

  it('tells that sending from an address failed, which is forgotten at once', () => {
    const lab = new Lab();
    const pinned = { ...ENDPOINT, source: { address: HERE, interfaceIndex: 1 } };
    lab.replica.apply([{ type: 'endpoint', peer: PEER, endpoint: pinned }]);
    lab.send();
    const peer = lab.batch.peers[0]!;
    lab.replica.report(0);
    const stranger: PeerHandle = { publicKey: PUBLIC_KEY, endpoint: pinned };
    lab.replica.forgetSource(stranger);
    expect([lab.replica.reportDue, peer.endpoint]).toEqual([Infinity, pinned]);
    lab.replica.forgetSource(peer);
    expect(peer.endpoint).toStrictEqual(ENDPOINT);
    expect(lab.replica.reportDue).toBe(2);
    expect(lab.replica.report(2).peers).toEqual([{ ...QUIET, forgetSource: true }]);
    lab.replica.apply([{ type: 'endpoint', peer: PEER, endpoint: undefined }]);
    lab.replica.forgetSource(peer);
    expect(lab.replica.reportDue).toBe(Infinity);
  });
});

describe('a closed replica', () => {
  it('has ended its sessions and erased the packets that waited', () => {
    const lab = new Lab();
    const session = lab.session();
    lab.send();
    lab.replica.close();
    expect(session.ended).toBe(true);
    expect([lab.receive(inbound(IN, 0)), lab.replica.report(0).unsent]).toEqual(['unknown-index', []]);
    lab.replica.apply([{ type: 'endpoint', peer: PEER, endpoint: ELSEWHERE }]);
    lab.send();
    expect(lab.batch.peers[0]!.endpoint).toBe(ENDPOINT);
  });
});
