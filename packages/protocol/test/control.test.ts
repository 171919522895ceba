/** What handshake messages leave behind: counters, events with their reasons, and what does not happen. */
import { describe, expect, it } from 'vitest';
import { toyCrypto } from '../../../test/sim/toy-crypto.ts';
import type { DerivedKey } from '../src/derived-keys.ts';
import { VERDICT } from '../src/drops.ts';
import { createInitiation, prologue } from '../src/handshake.ts';
import { clamp } from '../src/keys.ts';
import { encodeInitiation } from '../src/messages.ts';
import type { DeviceEvent, OutgoingDatagram, PeerUpdate } from '../src/model.ts';
import { CookieChecker, CookieGenerator } from '../src/cookie.ts';
import type { Peer } from '../src/peer.ts';
import { isZero } from './support/bytes.ts';
import { ALL, at, Host, random, sentBy, UNIX } from './support/host.ts';
import { recording } from './support/lab.ts';
import * as paper from './support/paper.ts';
import { SECOND } from './support/spec.ts';

/** Two hosts that know each other, `a` with the endpoint of `b`. */
function acquainted(more: Partial<PeerUpdate> = {}): readonly [Host, Host] {
  const [a, b] = [new Host(), new Host()];
  a.peer({ publicKey: b.publicKey, endpoint: at(2), allowedIps: ALL });
  b.peer({ publicKey: a.publicKey, allowedIps: ALL, ...more });
  return [a, b];
}

function begin(host: Host, now = 0): OutgoingDatagram {
  host.device.rekey(undefined, now);
  return host.device.tick(now, UNIX + now).datagrams[0]!;
}

function tickAfter(host: Host, bytes: Uint8Array, from: number, now = 0): ReturnType<Host['device']['tick']> {
  expect(host.receive(bytes, at(from), now)).toBe(VERDICT.consumed);
  return host.device.tick(now, UNIX + now);
}

function refusals(events: readonly DeviceEvent[]): unknown[] {
  return events.filter(({ type }) => type === 'handshake-refused');
}

/** An initiation whose sender claims `publicKey` and proves it with `staticShared`. */
function claiming(publicKey: Uint8Array, staticShared: Uint8Array, to: Host, unixMs = UNIX): Uint8Array {
  const created = createInitiation(toyCrypto, prologue(toyCrypto, 'chacha20poly1305', to.publicKey), {
    identity: { privateKey: random.bytes(32), publicKey },
    remoteStatic: to.publicKey,
    staticShared,
    ephemeralPrivate: random.bytes(32),
    timestamp: paper.tai64n(unixMs),
  })!;
  const bytes = encodeInitiation({ sender: 1, ...created.message });
  new CookieGenerator(toyCrypto, to.publicKey).addMacs(bytes, 0);
  return bytes;
}

describe('a handshake', () => {
  it('counts its bytes on both sides, and names the peer of each datagram', () => {
    const [a, b] = acquainted();
    const counted = (host: Host): unknown => {
      const [peer] = host.device.status(0).peers;
      return [peer!.rxBytes, peer!.txBytes];
    };
    const initiation = begin(a);
    expect(initiation).toMatchObject({ kind: 'handshake', endpoint: at(2), peer: { publicKey: b.publicKey } });
    expect(counted(a)).toEqual([0, 148]);
    const [response] = tickAfter(b, initiation.bytes, 1).datagrams;
    expect(response).toMatchObject({ kind: 'handshake', endpoint: at(1), peer: { publicKey: a.publicKey } });
    expect(counted(b)).toEqual([148, 92]);
    const [keepalive] = tickAfter(a, response!.bytes, 2).datagrams;
    expect(keepalive).toMatchObject({ kind: 'data', endpoint: at(2), peer: { publicKey: b.publicKey } });
    expect(counted(a)).toEqual([92, 148 + 32]);
    b.receive(keepalive!.bytes, at(1));
    expect(counted(b)).toEqual([148 + 32, 92]);
  });

  it('leaves the responder nothing to do but to end the session and erase its keys', () => {
    const [a, b] = acquainted();
    const initiation = begin(a);
    const [response] = tickAfter(b, initiation.bytes, 1).datagrams;
    expect(b.device.nextDeadline()).toEqual({ at: 180 * SECOND, why: 'expire-session' });
    const [keepalive] = tickAfter(a, response!.bytes, 2).datagrams;
    b.receive(keepalive!.bytes, at(1));
    b.device.tick(0, UNIX);
    for (const host of [a, b]) expect(host.device.nextDeadline()).toEqual({ at: 180 * SECOND, why: 'expire-session' });
  });
});

describe('an initiation is refused', () => {
  it('without an answer when the private key was taken away while it waited', () => {
    const [a, b] = acquainted();
    b.receive(begin(a).bytes, at(1));
    b.device.configure({ privateKey: new Uint8Array(32) }, 0);
    expect(b.device.tick(0, UNIX)).toEqual({ datagrams: [], events: [] });
    expect(b.device.status(0).drops['device-down']).toBe(1);
  });

  it('as failed when its timestamp is not sealed with the shared secret of both static keys', () => {
    const [a, b] = acquainted();
    const { events, datagrams } = tickAfter(b, claiming(a.publicKey, random.bytes(32), b), 9);
    expect(datagrams).toEqual([]);
    expect(events).toEqual([
      { type: 'handshake-refused', publicKey: a.publicKey, endpoint: at(9), reason: 'handshake-failed' },
    ]);
    expect(b.device.status(0).drops['handshake-failed']).toBe(1);
    expect(b.device.status(0).peers[0]).toMatchObject({ rxBytes: 0, txBytes: 0 });
  });

  it.each([
    ['does not open', (bytes: Uint8Array): void => void (bytes[50]! ^= 1)],
    ['has an ephemeral key of low order', (bytes: Uint8Array): void => void bytes.fill(0, 8, 40)],
  ])('as failed, without a word of who sent it, when it %s', (_, spoil) => {
    const [a, b] = acquainted();
    const { bytes } = begin(a);
    spoil(bytes);
    new CookieGenerator(toyCrypto, b.publicKey).addMacs(bytes, 0);
    expect(tickAfter(b, bytes, 1)).toEqual({ datagrams: [], events: [] });
    expect(b.device.status(0).drops['handshake-failed']).toBe(1);
  });

  it('or answered: no product of the curve stays, but that of the static keys', () => {
    const { crypto, secrets } = recording(toyCrypto);
    const [a, b] = [new Host(), new Host(1, crypto)];
    a.peer({ publicKey: b.publicKey, endpoint: at(2) });
    const products = (): number => secrets.filter(({ kind, array }) => kind === 'dh' && !isZero(array)).length;
    const { bytes } = begin(a);
    // From a stranger, then from a peer.
    expect(refusals(tickAfter(b, bytes, 1).events)).toMatchObject([{ reason: 'unknown-peer' }]);
    expect([secrets.some(({ kind }) => kind === 'dh'), products()]).toEqual([true, 0]);
    b.peer({ publicKey: a.publicKey });
    expect(tickAfter(b, bytes, 1).datagrams.length).toBe(1);
    expect(products()).toBe(1);
  });

  it('as one of a flood when it comes 19 ms after the last one, not when 20', () => {
    const [a, b] = acquainted();
    const shared = toyCrypto.dh(clamp(a.privateKey.slice()), b.publicKey)!;
    const at0 = tickAfter(b, claiming(a.publicKey, shared, b, UNIX), 1);
    expect(at0.datagrams.length).toBe(1);
    expect(tickAfter(b, claiming(a.publicKey, shared, b, UNIX + 1_000), 1, 19)).toMatchObject({
      datagrams: [],
      events: [{ type: 'handshake-refused', reason: 'initiation-flood' }],
    });
    expect(b.device.status(19).drops['initiation-flood']).toBe(1);
    expect(tickAfter(b, claiming(a.publicKey, shared, b, UNIX + 2_000), 1, 20).datagrams.length).toBe(1);
  });

  it('as failed when its static key is of low order, whatever secret it is proved with', () => {
    const [, b] = acquainted();
    const low = new Uint8Array(32).fill(1, 3, 4);
    b.peer({ publicKey: low });
    for (const secret of [new Uint8Array(32), low]) {
      const { events, datagrams } = tickAfter(b, claiming(low, secret, b), 9);
      expect([datagrams, refusals(events)]).toMatchObject([[], [{ publicKey: low, reason: 'handshake-failed' }]]);
    }
    expect(b.device.status(0).drops['handshake-failed']).toBe(2);
  });

  it('as of the other cipher when it is made with that', () => {
    const [a, b] = acquainted({ cipherSuite: 'aes256gcm' });
    const { events, datagrams } = tickAfter(b, begin(a).bytes, 1);
    expect(datagrams).toEqual([]);
    expect(events).toEqual([
      { type: 'handshake-refused', publicKey: a.publicKey, endpoint: at(1), reason: 'cipher-mismatch' },
    ]);
    expect(b.device.status(0).drops).toMatchObject({ 'cipher-mismatch': 1, 'handshake-failed': 0 });
  });
});

describe('a response', () => {
  it('that fails is told with its reason; the handshake goes on', () => {
    const [a, b] = acquainted();
    const [response] = tickAfter(b, begin(a).bytes, 1).datagrams;
    const forged = response!.bytes.slice();
    forged[50]! ^= 1;
    new CookieGenerator(toyCrypto, a.publicKey).addMacs(forged, 0);
    expect(tickAfter(a, forged, 2)).toEqual({
      datagrams: [],
      events: [{ type: 'handshake-refused', publicKey: b.publicKey, endpoint: at(2), reason: 'handshake-failed' }],
    });
    expect(a.device.status(0).drops['handshake-failed']).toBe(1);
    expect(tickAfter(a, response!.bytes, 2).events).toMatchObject([{ type: 'session', role: 'initiator' }]);
  });

  it('to a session, or to nothing of ours, has an unknown index', () => {
    const [a, b] = acquainted();
    const [response] = tickAfter(b, begin(a).bytes, 1).datagrams;
    const stray = response!.bytes.slice();
    stray[8]! ^= 1;
    new CookieGenerator(toyCrypto, a.publicKey).addMacs(stray, 0);
    expect(tickAfter(a, stray, 2)).toEqual({ datagrams: [], events: [] });
    tickAfter(a, response!.bytes, 2);
    expect(tickAfter(a, response!.bytes, 2)).toEqual({ datagrams: [], events: [] });
    expect(a.device.status(0).drops['unknown-index']).toBe(2);
  });
});

describe('a cookie reply', () => {
  it('goes out as a handshake, to no peer', () => {
    const [a, b] = acquainted();
    const initiation = begin(a);
    for (let i = 0; i < 128; i++) b.receive(initiation.bytes, at(1));
    const [reply] = b.device.tick(0, UNIX).datagrams;
    expect(reply).toEqual({ endpoint: at(1), bytes: reply!.bytes, kind: 'handshake' });
  });

  it('makes an initiation be repeated at once, and once only in a handshake', () => {
    const [a, b] = acquainted();
    const checker = new CookieChecker(toyCrypto, (length) => random.bytes(length), b.publicKey);
    const reply = (bytes: Uint8Array, now: number): void => {
      expect(a.receive(checker.createReply(bytes, at(1), now), at(2), now)).toBe(VERDICT.consumed);
      expect(a.device.tick(now, UNIX + now).events).toMatchObject([{ type: 'cookie-received' }]);
    };
    const first = begin(a);
    expect(checker.checkMac2(first.bytes, at(1), 0)).toBe(false);
    reply(first.bytes, 1);
    expect(a.device.nextDeadline()).toEqual({ at: 20, why: 'retransmit-handshake' });
    const [second] = a.device.tick(20, UNIX + 20).datagrams;
    expect(checker.checkMac2(second!.bytes, at(1), 20)).toBe(true);
    reply(second!.bytes, 21);
    const next = a.device.nextDeadline();
    expect([next.why, next.at >= 5_020]).toEqual(['retransmit-handshake', true]);
    // The next handshake has its own chance.
    a.device.rekey(undefined, 30);
    const [third] = a.device.tick(40, UNIX + 40).datagrams;
    reply(third!.bytes, 41);
    expect(a.device.nextDeadline()).toEqual({ at: 60, why: 'retransmit-handshake' });
  });

  it('that does not open, or whose handshake is gone when it is looked at, is counted and does nothing', () => {
    const [a, b] = acquainted();
    const first = begin(a);
    const forged = new Uint8Array(64);
    forged.set([3, 0, 0, 0]);
    forged.set(first.bytes.subarray(4, 8), 4);
    expect(tickAfter(a, forged, 2)).toEqual({ datagrams: [], events: [] });
    expect(a.device.status(0).drops['bad-cookie-reply']).toBe(1);
    const checker = new CookieChecker(toyCrypto, (length) => random.bytes(length), b.publicKey);
    a.receive(checker.createReply(first.bytes, at(1), 0), at(2));
    a.device.configure({ replacePeers: true }, 0);
    expect(a.device.tick(0, UNIX)).toEqual({ datagrams: [], events: [] });
    expect(a.device.status(0).drops['bad-cookie-reply']).toBe(2);
  });

  it('to a response is kept for the next one, and makes the responder begin nothing', () => {
    const [a, b] = acquainted();
    const [response] = tickAfter(b, begin(a).bytes, 1).datagrams;
    for (let i = 0; i < 128; i++) a.receive(response!.bytes, at(2));
    const [reply] = a.device.tick(0, UNIX).datagrams;
    expect(tickAfter(b, reply!.bytes, 2)).toEqual({
      datagrams: [],
      events: [{ type: 'cookie-received', publicKey: a.publicKey }],
    });
    expect(b.device.nextDeadline().why).toBe('expire-session');
  });
});

describe('a derived key', () => {
  const INTERVAL = 3_600_000;

  /** The two with the exchange on, and what is inside of a device: its peer. */
  function hedged(): readonly [Host, Host, Peer, Peer] {
    const [a, b] = acquainted({ postQuantum: INTERVAL });
    a.peer({ publicKey: b.publicKey, postQuantum: INTERVAL });
    const inside = [a, b].map((host) => {
      host.send();
      return host.batch.peers[0] as Peer;
    });
    return [a, b, inside[0]!, inside[1]!];
  }

  const hold = (peer: Peer, key: Uint8Array): DerivedKey => {
    peer.postQuantum!.keys.add(toyCrypto, key.slice(), true, 0);
    return peer.postQuantum!.keys.newestShared!;
  };

  it('that an initiation names is in use with the response, and older ones are erased', () => {
    const [a, b, atA, atB] = hedged();
    const [older, newer] = [random.bytes(32), random.bytes(32)];
    const [first] = [older, newer].map((key) => hold(atB, key));
    const { name } = hold(atA, newer);
    const [response] = tickAfter(b, begin(a).bytes, 1).datagrams;
    expect([atB.postQuantum!.keys.named(first!.name), isZero(first!.key)]).toEqual([undefined, true]);
    expect(tickAfter(a, response!.bytes, 2).events).toMatchObject([{ type: 'session', hedged: true }]);
    expect([atA, atB].map(({ keypairs }) => (keypairs.next ?? keypairs.current)!.derivedKey)).toEqual([name, name]);
  });

  it('that only the initiator has is given up, and the configured one serves', () => {
    const [a, b, atA] = hedged();
    const { key } = hold(atA, random.bytes(32));
    const [response] = tickAfter(b, begin(a).bytes, 1).datagrams;
    expect(tickAfter(a, response!.bytes, 2).events).toMatchObject([{ type: 'session', hedged: false }]);
    expect([atA.postQuantum!.keys.newestShared, isZero(key)]).toEqual([undefined, true]);
    expect(atA.keypairs.current!.derivedKey).toBe(0);
  });

  it('that only the initiator has does not end in the configured one while another is left to ask for', () => {
    const [a, b, atA, atB] = hedged();
    const [older, newer] = [random.bytes(32), random.bytes(32)];
    const [{ name }, lost] = [hold(atA, older), hold(atA, newer)];
    hold(atB, older);
    const [response] = tickAfter(b, begin(a).bytes, 1).datagrams;
    expect(tickAfter(a, response!.bytes, 2)).toEqual({ datagrams: [], events: [] });
    expect([a.device.status(0).drops['exchange-refused'], isZero(lost.key)]).toEqual([1, true]);
    // The other one is asked for at once.
    const [again] = sentBy(a, 20);
    const [second] = tickAfter(b, again!.bytes, 1, 20).datagrams;
    expect(tickAfter(a, second!.bytes, 2, 20).events).toMatchObject([{ type: 'session', hedged: true }]);
    expect(atA.keypairs.current!.derivedKey).toBe(name);
  });

  it.each([true, false])(
    'may be switched off while the initiation is on its way (known to the responder: %s)',
    (known) => {
      const [a, b, atA, atB] = hedged();
      const key = random.bytes(32);
      hold(atA, key);
      if (known) hold(atB, key);
      const [response] = tickAfter(b, begin(a).bytes, 1).datagrams;
      a.peer({ publicKey: b.publicKey, postQuantum: 0 });
      expect(tickAfter(a, response!.bytes, 2).events).toMatchObject([{ type: 'session', role: 'initiator' }]);
    },
  );
});
