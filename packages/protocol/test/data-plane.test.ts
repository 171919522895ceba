/** The data path by itself: what it makes of each packet, what it tells the peer, and what it counts. */
import { describe, expect, it } from 'vitest';
import { ipPacket } from '../../../test/sim/packets.ts';
import { generator } from '../../../test/sim/random.ts';
import { HEADROOM, PacketBatch, TAILROOM } from '../src/batch.ts';
import { DataPlane, type DataPeer } from '../src/data-plane.ts';
import { DropCounters, type DropReason, dropReason, VERDICT } from '../src/drops.ts';
import type { Endpoint } from '../src/endpoint.ts';
import { Keypair, type KeypairInput } from '../src/keypair.ts';
import { nobleCrypto } from '../src/noble.ts';
import { SharedKeypair, SharedSession } from '../src/shared-session.ts';
import { concat, hex, ip } from './support/bytes.ts';
import { keypairInput } from './support/keypair-input.ts';
import * as paper from './support/paper.ts';
import { REJECT_AFTER_MESSAGES, REJECT_AFTER_TIME } from './support/spec.ts';

const random = generator(11);
const aead = nobleCrypto.aead('chacha20poly1305');
const NOTHING = new Uint8Array(0);
const HERE = ip('10.0.0.1');
const THERE = ip('10.0.0.2');
const ENDPOINT: Endpoint = { address: ip('192.0.2.1'), port: 9, scopeId: 0 };
const KEYS = { send: random.bytes(32), receive: random.bytes(32) };
const SESSION = 7;
const PENDING = 8;
const ELSEWHERE = 9;

function input(localIndex: number): KeypairInput {
  const opener = localIndex === ELSEWHERE ? undefined : aead.opener(KEYS.receive);
  const ciphers = { sealer: aead.sealer(KEYS.send), opener };
  return { ...keypairInput(ciphers), localIndex, remoteIndex: 100 + localIndex, renewAt: Infinity };
}

class Listener implements DataPeer {
  readonly publicKey = random.bytes(32);
  endpoint: Endpoint | undefined = ENDPOINT;
  sending: Keypair | undefined;
  /** What it answers. */
  isFull = false;
  wantsOther = false;
  readonly heard: unknown[] = [];

  stage(packet: Uint8Array): boolean {
    this.heard.push(['stage', hex(packet)]);
    return this.isFull;
  }
  sealed(keypair: Keypair, length: number, now: number): void {
    this.heard.push(['sealed', keypair.localIndex, length, now]);
  }
  opened(keypair: Keypair, length: number, endpoint: Endpoint | undefined, carriesData: boolean, now: number): void {
    this.heard.push(['opened', keypair.localIndex, length, endpoint, carriesData, now]);
  }
  takeOther(packet: Uint8Array, _view: DataView, offset: number, length: number): boolean {
    this.heard.push(['other', hex(packet.subarray(offset, offset + length))]);
    return this.wantsOther;
  }
}

class Lab {
  readonly peer = new Listener();
  readonly drops = new DropCounters();
  readonly sessions = new Map([SESSION, ELSEWHERE].map((index) => [index, new Keypair(input(index))]));
  readonly state = {
    indexes: {
      lookup: (index: number): { peer: Listener; keypair: Keypair | undefined } | undefined =>
        index === PENDING || this.sessions.has(index)
          ? { peer: this.peer, keypair: this.sessions.get(index) }
          : undefined,
    },
    drops: this.drops,
    identity: true as unknown,
    mtu: 0,
  };
  readonly plane = new DataPlane<Listener>({ state: this.state, control: () => VERDICT.consumed });
  readonly batch = new PacketBatch(new Uint8Array(8_000), 8);

  constructor() {
    this.plane.allowedIps.insert({ address: THERE, length: 32 }, this.peer);
    this.peer.sending = this.sessions.get(SESSION);
  }

  put(packets: readonly Uint8Array[], endpoint?: Endpoint): void {
    this.batch.clear();
    for (const [i, packet] of packets.entries()) {
      const offset = 1_000 * i + HEADROOM;
      this.batch.buffer.set(packet, offset);
      this.batch.push(offset, packet.length, endpoint);
    }
  }

  /** The verdict on one datagram, in words. */
  open(datagram: Uint8Array, now = 0, endpoint: Endpoint | undefined = ENDPOINT): string {
    this.put([datagram], endpoint);
    this.plane.open(this.batch, now);
    return this.verdict(0);
  }

  seal(packets: readonly Uint8Array[], now = 0): string[] {
    this.put(packets);
    this.plane.seal(this.batch, now);
    return packets.map((_, i) => this.verdict(i));
  }

  verdict(i: number): string {
    const verdict = this.batch.verdicts[i]!;
    return dropReason(verdict) ?? Object.entries(VERDICT).find(([, value]) => value === verdict)![0];
  }

  content(i = 0): string {
    return hex(this.batch.buffer.subarray(this.batch.offsets[i], this.batch.offsets[i]! + this.batch.lengths[i]!));
  }

  counts(): Partial<Record<DropReason, number>> {
    return Object.fromEntries(Object.entries(this.drops.snapshot()).filter(([, count]) => count > 0));
  }
}

const inbound = (plaintext: Uint8Array, counter = 0n, receiver = SESSION): Uint8Array =>
  paper.data(KEYS.receive, receiver, counter, plaintext);

describe('opening', () => {
  it('delivers the packet without its padding, and tells the peer of the datagram first', () => {
    const lab = new Lab();
    const packet = ipPacket(THERE, HERE, 1, 50);
    expect(lab.open(inbound(concat(packet, new Uint8Array(14))), 5)).toBe('deliver');
    expect([lab.content(), lab.batch.peers[0] === lab.peer]).toEqual([hex(packet), true]);
    expect(lab.peer.heard).toEqual([['opened', SESSION, 96, ENDPOINT, true, 5]]);
    expect(lab.counts()).toEqual({});
  });

  it('takes a datagram whose source nobody knows, as long as it is not port 0', () => {
    const lab = new Lab();
    lab.put([inbound(NOTHING)]);
    lab.plane.open(lab.batch, 0);
    expect(lab.verdict(0)).toBe('consumed');
    expect(lab.peer.heard).toEqual([['opened', SESSION, 32, undefined, false, 0]]);
    expect(lab.open(inbound(NOTHING, 1n), 0, { ...ENDPOINT, port: 0 })).toBe('malformed');
    expect(lab.counts()).toEqual({ malformed: 1 });
  });

  it('tells a keepalive from data', () => {
    const lab = new Lab();
    expect(lab.open(inbound(NOTHING))).toBe('consumed');
    expect(lab.peer.heard).toEqual([['opened', SESSION, 32, ENDPOINT, false, 0]]);
    expect(lab.counts()).toEqual({});
  });

  it.each([false, true])('offers the peer what is no IP packet, whole (wanted: %s)', (wanted) => {
    const lab = new Lab();
    lab.peer.wantsOther = wanted;
    const other = random.bytes(48).fill(0xf0, 0, 1);
    expect(lab.open(inbound(other))).toBe(wanted ? 'consumed' : 'bad-inner-packet');
    expect(lab.peer.heard.at(-1)).toEqual(['other', hex(other)]);
    expect(lab.counts()).toEqual(wanted ? {} : { 'bad-inner-packet': 1 });
  });

  it.each<[string, Uint8Array, number, DropReason]>([
    ['an unknown session', inbound(NOTHING, 0n, 6), 0, 'unknown-index'],
    ['a handshake that waits for its response', inbound(NOTHING, 0n, PENDING), 0, 'unknown-index'],
    ['a session that is over', inbound(NOTHING), REJECT_AFTER_TIME, 'expired-session'],
    ['a forged tag', inbound(NOTHING).fill(0, 20), 0, 'bad-tag'],
    ["another's source", inbound(ipPacket(HERE, THERE, 0, 32)), 0, 'refused-source'],
    ['no message at all', random.bytes(40).fill(5, 0, 1), 0, 'malformed'],
  ])('drops a datagram of %s', (_, datagram, now, reason) => {
    const lab = new Lab();
    expect(lab.open(datagram, now)).toBe(reason);
    expect(lab.counts()).toEqual({ [reason]: 1 });
    expect(lab.peer.heard.length).toBe(reason === 'refused-source' ? 1 : 0);
  });

  it('drops a packet of which the end is missing, by its own header', () => {
    const lab = new Lab();
    for (const [i, missing] of [1, 12, 28].entries()) {
      const cut = ipPacket(THERE, HERE, 1, 60).slice(0, 60 - missing);
      expect(lab.open(inbound(cut, BigInt(i)))).toBe('bad-inner-packet');
    }
    expect(lab.counts()).toEqual({ 'bad-inner-packet': 3 });
  });

  it('leaves what another lane opens as it came', () => {
    const lab = new Lab();
    const datagram = inbound(NOTHING, 0n, ELSEWHERE);
    expect([lab.open(datagram), lab.content()]).toEqual(['elsewhere', hex(datagram)]);
    expect([lab.counts(), lab.peer.heard]).toEqual([{}, []]);
  });

  it('takes every counter below 2^64 - 2^13 - 1 once, and none above', () => {
    const lab = new Lab();
    const fates = [
      0x01020304n,
      0xffff_ffffn,
      0x0102_0304_0506_0708n,
      0x0102_0304_ffff_fffen,
      REJECT_AFTER_MESSAGES - 2n,
      REJECT_AFTER_MESSAGES - 1n,
      REJECT_AFTER_MESSAGES - 1n,
      REJECT_AFTER_MESSAGES,
      REJECT_AFTER_MESSAGES + 1n,
      2n ** 64n - 1n,
    ].map((counter) => lab.open(inbound(NOTHING, counter)));
    const [taken, refused] = ['consumed', 'expired-session'];
    expect(fates).toEqual([...Array.from({ length: 6 }, () => taken), 'replay', refused, refused, refused]);
  });

  it('hands handshakes to the control side', () => {
    const lab = new Lab();
    expect(lab.open(new Uint8Array(148).fill(1, 0, 1))).toBe('consumed');
    expect([lab.counts(), lab.peer.heard]).toEqual([{}, []]);
  });

  it('looks at no entry behind the last one', () => {
    const lab = new Lab();
    lab.put([inbound(NOTHING, 0n), inbound(NOTHING, 1n)], ENDPOINT);
    lab.batch.count = 1;
    lab.plane.open(lab.batch, 0);
    expect([lab.verdict(0), lab.verdict(1), lab.peer.heard.length]).toEqual(['consumed', 'pending', 1]);
  });
});

describe('sealing', () => {
  const packet = ipPacket(HERE, THERE, 3, 40);

  it('seals in place for the owner of the destination and tells it of the datagram', () => {
    const lab = new Lab();
    expect(lab.seal([packet, packet], 4)).toEqual(['send', 'send']);
    const padded = concat(packet, new Uint8Array(8));
    expect([lab.content(0), lab.content(1)]).toEqual(
      [0n, 1n].map((counter) => hex(paper.data(KEYS.send, 100 + SESSION, counter, padded))),
    );
    expect(lab.peer.heard).toEqual([0, 1].map(() => ['sealed', SESSION, 80, 4]));
    expect([lab.batch.peers[1] === lab.peer, lab.counts()]).toEqual([true, {}]);
  });

  it.each<[DropReason, Uint8Array, (lab: Lab) => void]>([
    ['device-down', packet, (lab): void => void (lab.state.identity = undefined)],
    ['not-ip', packet.slice(0, 39), (): void => {}],
    ['no-route', ipPacket(HERE, ip('10.0.0.3'), 0, 40), (): void => {}],
    ['no-endpoint', packet, (lab): void => void (lab.peer.endpoint = undefined)],
  ])('drops with the reason %s', (reason, bytes, spoil) => {
    const lab = new Lab();
    spoil(lab);
    expect(lab.seal([bytes])).toEqual([reason]);
    expect([lab.counts(), lab.peer.heard]).toEqual([{ [reason]: 1 }, []]);
  });

  it.each(['no session', 'one that is over'])(
    'gives the peer a copy to keep with %s, and counts what had to go',
    (which) => {
      const lab = new Lab();
      if (which === 'no session') lab.peer.sending = undefined;
      for (const isFull of [false, true]) {
        lab.peer.isFull = isFull;
        expect(lab.seal([packet], REJECT_AFTER_TIME)).toEqual(['consumed']);
        expect(lab.counts()).toEqual(isFull ? { 'staging-overflow': 1 } : {});
      }
      expect(lab.peer.heard).toEqual([0, 1].map(() => ['stage', hex(packet)]));
    },
  );

  it('claims as many counters of a shared session as there are packets left', () => {
    const lab = new Lab();
    const session = SharedSession.create(KEYS, 1);
    lab.peer.sending = new SharedKeypair({ ...input(SESSION), session });
    const stray = ipPacket(HERE, ip('10.0.0.3'), 0, 40);
    expect(lab.seal([stray, packet, packet, packet])).toEqual(['no-route', 'send', 'send', 'send']);
    expect(session.reserve(1)).toBe(3n);
  });

  it('looks at no entry behind the last one', () => {
    const lab = new Lab();
    lab.put([packet, packet]);
    lab.batch.count = 1;
    lab.plane.seal(lab.batch, 0);
    expect([lab.verdict(0), lab.verdict(1), lab.peer.heard.length]).toEqual(['send', 'pending', 1]);
  });

  it('needs no more room than HEADROOM and TAILROOM', () => {
    const lab = new Lab();
    const small = new PacketBatch(new Uint8Array(HEADROOM + 33 + TAILROOM), 1);
    small.buffer.set(ipPacket(HERE, THERE, 0, 33), HEADROOM);
    small.push(HEADROOM, 33);
    lab.plane.seal(small, 0);
    expect([small.verdicts[0], small.offsets[0], small.lengths[0]]).toEqual([VERDICT.send, 0, 80]);
  });
});
