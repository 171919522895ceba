/**
 * Whatever arrives, `open` and `tick` throw nothing, give every datagram a verdict, hand on only whole packets of their
 * sender, change nothing for what is not authentic, answer nobody without a valid mac1, and keep no memory.
 */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { Device, HEADROOM, PacketBatch, TAILROOM, VERDICT, dropReason, ipPacketLength } from '@sealane/protocol';
import type { Crypto, Endpoint, PeerHandle } from '@sealane/protocol';
import { selectCrypto } from '@sealane/tunnel';
import { CookieGenerator } from '../../packages/protocol/src/cookie.ts';
import type { Peer } from '../../packages/protocol/src/peer.ts';
import { ipPacket } from '../sim/packets.ts';
import { generator } from '../sim/random.ts';
import type { Generator } from '../sim/random.ts';
import { toyCrypto } from '../sim/toy-crypto.ts';
import { heapUsed } from './heap.ts';
import { mutate } from './mutate.ts';

/** `npm run fuzz` asks for more. */
const DATAGRAMS = Number(process.env['SEALANE_FUZZ'] ?? 500_000);
const SEED = Number(process.env['SEALANE_SEED'] ?? 1);
const BATCH = 64;
const SLOT = 2_048;
const LARGEST = 65_507;
const UNIX = 1_767_225_600_000;
const INNER_A = Uint8Array.of(10, 0, 0, 1);
const INNER_B = Uint8Array.of(10, 0, 0, 2);
const SUBNET_A = { address: Uint8Array.of(10, 0, 0, 0), length: 31 };

/** A device under fire, with a session that `a` shares, and messages to make others from. */
class Target {
  readonly random: Generator;
  readonly #crypto: Crypto;
  readonly a: Device;
  readonly b: Device;
  readonly #publicB: Uint8Array;
  readonly endpointA: Endpoint = { address: Uint8Array.of(192, 0, 2, 1), port: 1_000, scopeId: 0 };
  readonly endpointB: Endpoint = { address: Uint8Array.of(192, 0, 2, 2), port: 2_000, scopeId: 0 };
  readonly messages: Uint8Array[] = [];
  readonly batch = new PacketBatch(new Uint8Array(BATCH * SLOT), BATCH);
  readonly #large = new PacketBatch(new Uint8Array(LARGEST), 1);
  readonly verdicts = new Map<string, number>();
  #handle: PeerHandle | undefined;
  now = 1_000;

  constructor(crypto: Crypto, seed: number) {
    this.random = generator(seed);
    this.#crypto = crypto;
    const draw = this.random.fork('devices');
    const random = (length: number): Uint8Array => draw.bytes(length);
    const [keyA, keyB] = [random(32), random(32)];
    this.a = new Device({ crypto, random });
    this.b = new Device({ crypto, random });
    this.#publicB = crypto.publicKey(keyB);
    const toB = { publicKey: this.#publicB, endpoint: this.endpointB, allowedIps: [{ address: INNER_B, length: 32 }] };
    this.a.configure({ privateKey: keyA, mtu: 1_420, peers: [toB] }, this.now);
    const toA = { publicKey: crypto.publicKey(keyA), allowedIps: [SUBNET_A] };
    const stranger = {
      publicKey: crypto.publicKey(random(32)),
      allowedIps: [{ address: new Uint8Array(4), length: 0 }],
    };
    this.b.configure({ privateKey: keyB, mtu: 1_420, peers: [toA, stranger] }, this.now);
    this.connect();
  }

  /** A fresh session, begun by `a`; every message of it is kept as it was. */
  connect(): void {
    this.messages.length = 0;
    this.a.rekey(undefined, this.now);
    this.now += 50;
    for (const { bytes } of this.a.tick(this.now, UNIX + this.now).datagrams) {
      this.messages.push(bytes.slice());
      for (const answer of this.deliver(bytes, this.endpointA)) {
        this.messages.push(answer.slice());
        this.#openAt(this.a, answer, this.endpointB);
      }
    }
    for (const { bytes } of this.a.tick(this.now, UNIX + this.now).datagrams) {
      this.messages.push(bytes.slice());
      this.deliver(bytes, this.endpointA);
    }
    const packet = ipPacket(INNER_A, INNER_B, 1, 64);
    const sealing = new PacketBatch(new Uint8Array(HEADROOM + packet.length + TAILROOM), 1);
    sealing.buffer.set(packet, HEADROOM);
    sealing.push(HEADROOM, packet.length);
    this.a.seal(sealing, this.now);
    this.#handle = sealing.peers[0];
    const at = sealing.offsets[0]!;
    const sealed = sealing.buffer.slice(at, at + sealing.lengths[0]!);
    this.messages.push(sealed, this.random.bytes(64).fill(0, 1, 4).fill(3, 0, 1));
    if (this.#openAt(this.b, sealed, this.endpointA) !== 'deliver') throw new Error('no session to begin with');
  }

  /** Gives one datagram to `b` and returns what goes back. */
  deliver(bytes: Uint8Array, source: Endpoint): Uint8Array[] {
    this.#openAt(this.b, bytes, source);
    return this.settle().map((datagram) => datagram.bytes);
  }

  /** Ticks `b` until nothing waits. */
  settle(): { readonly bytes: Uint8Array; readonly endpoint: Endpoint }[] {
    const sent: { readonly bytes: Uint8Array; readonly endpoint: Endpoint }[] = [];
    for (let turns = 0; this.b.nextDeadline().at <= this.now; turns++) {
      if (turns > 1_000) throw new Error(`'${this.b.nextDeadline().why}' stays due`);
      sent.push(...this.b.tick(this.now, UNIX + this.now).datagrams);
    }
    return sent;
  }

  /** All that is known of the peers, as text. */
  state(): string {
    return JSON.stringify(this.b.status(this.now).peers.map((peer) => ({ ...peer, session: peer.session?.role })));
  }

  /** A message like those that were real once. */
  hostile(): Uint8Array {
    const { random, messages } = this;
    if (random.chance(0.15)) return random.bytes(random.below(300));
    const bytes = mutate(random, messages[random.below(messages.length)]!, messages);
    // Some with a right mac1, so that what lies behind it is reached.
    if ((bytes.length === 148 || bytes.length === 92) && random.chance(0.1)) {
      new CookieGenerator(this.#crypto, this.#publicB).addMacs(bytes, this.now);
    }
    return bytes.length > SLOT ? bytes.slice(0, SLOT) : bytes;
  }

  /** A plaintext that no honest peer would send, sealed as one would. */
  authentic(buffer: Uint8Array, at: number): number {
    const { random } = this;
    const keypair = (this.#handle as Peer).keypairs.current!;
    const base = random.chance(0.5)
      ? ipPacket(INNER_A, INNER_B, 1, 20 + random.below(200))
      : random.bytes(random.below(200));
    let plaintext = random.chance(0.7) ? mutate(random, base, [base]) : base;
    if (plaintext.length > SLOT - 64) plaintext = plaintext.slice(0, SLOT - 64);
    buffer.fill(0, at, at + 16);
    buffer[at] = 4;
    const view = new DataView(buffer.buffer, buffer.byteOffset);
    view.setUint32(at + 4, keypair.remoteIndex, true);
    view.setUint32(at + 8, keypair.counterLow, true);
    view.setUint32(at + 12, keypair.counterHigh, true);
    buffer.set(plaintext, at + 16);
    keypair.sealer.seal(buffer, at + 16, plaintext.length, keypair.counterLow, keypair.counterHigh);
    keypair.advanceCounter();
    return plaintext.length + 32;
  }

  /** Opens the batch and checks every verdict. */
  openBatch(): void {
    const { batch } = this;
    this.b.open(batch, this.now);
    for (let i = 0; i < batch.count; i++) {
      const verdict = batch.verdicts[i]!;
      const name =
        verdict === VERDICT.deliver ? 'deliver' : verdict === VERDICT.consumed ? 'consumed' : dropReason(verdict);
      if (name === undefined) throw new Error(`verdict ${verdict} means nothing`);
      this.verdicts.set(name, (this.verdicts.get(name) ?? 0) + 1);
      if (verdict !== VERDICT.deliver) continue;
      const [offset, length] = [batch.offsets[i]!, batch.lengths[i]!];
      const slot = i * SLOT;
      if (offset < slot || offset + length > slot + SLOT) throw new Error('a packet reaches out of its datagram');
      if (ipPacketLength(batch.view, offset, length) !== length)
        throw new Error('what was handed on is no whole packet');
      if (batch.view.getUint32(offset + 12) >>> 1 !== 0x0a000000 >>> 1)
        throw new Error('a source that is not the peer’s');
    }
  }

  #openAt(device: Device, bytes: Uint8Array, source: Endpoint): string {
    const batch = this.#large;
    batch.clear();
    batch.buffer.set(bytes);
    batch.push(0, bytes.length, source);
    device.open(batch, this.now);
    const verdict = batch.verdicts[0]!;
    return verdict === VERDICT.deliver ? 'deliver' : (dropReason(verdict) ?? 'consumed');
  }
}

function attack(crypto: Crypto, count: number, seed: number): Target {
  const target = new Target(crypto, seed);
  const { random, batch } = target;
  let heap = 0;
  const rounds = Math.ceil(count / (2 * BATCH));
  for (let round = 0; round < rounds; round++) {
    // Half of them a stranger could have sent ...
    const before = target.state();
    batch.clear();
    for (let i = 0; i < BATCH; i++) {
      const bytes = target.hostile();
      batch.buffer.set(bytes, i * SLOT);
      batch.push(i * SLOT, bytes.length, {
        address: random.bytes(random.chance(0.5) ? 4 : 16),
        port: 1 + random.below(65_535),
        scopeId: 0,
      });
    }
    const sources = batch.endpoints.slice();
    target.openBatch();
    for (const { endpoint, bytes } of target.settle()) {
      if (!sources.includes(endpoint) || bytes.length > 0.7 * 148)
        throw new Error(`${bytes.length} bytes went to a stranger`);
    }
    if (round % 64 === 0) target.deliver(random.bytes(random.below(LARGEST + 1)), target.endpointA);
    if (target.state() !== before) throw new Error(`seed ${seed}, round ${round}: a stranger changed the state`);

    // ... and half only the peer, who may be just as malicious.
    batch.clear();
    for (let i = 0; i < BATCH; i++) batch.push(i * SLOT, target.authentic(batch.buffer, i * SLOT), target.endpointA);
    target.openBatch();
    target.settle();
    target.now += random.below(100);
    // What is due by time alone must not look like an answer.
    target.settle();
    if (target.b.status(target.now).peers[0]!.session === undefined || round % 1_000 === 999) target.connect();
    if (round === rounds >> 2) heap = heapUsed();
  }
  const grown = heapUsed() / heap;
  if (grown > 1.05) throw new Error(`the heap grew by ${((grown - 1) * 100).toFixed(1)} %`);
  return target;
}

describe('datagrams', () => {
  const timeout = 120_000 + DATAGRAMS;

  it(`${DATAGRAMS / 2} of them, cryptography aside`, { timeout }, () => {
    const { verdicts } = attack(toyCrypto, DATAGRAMS / 2, SEED);
    for (const reached of [
      'deliver',
      'malformed',
      'bad-tag',
      'unknown-index',
      'replay',
      'bad-inner-packet',
      'refused-source',
    ]) {
      expect(verdicts.get(reached), reached).toBeGreaterThan(10);
    }
  });

  it(`${DATAGRAMS / 2} of them, with the cryptography of this computer`, { timeout }, () => {
    const { b, now, verdicts } = attack(selectCrypto(), DATAGRAMS / 2, SEED + 1);
    expect(verdicts.get('deliver')).toBeGreaterThan(1_000);
    const { drops } = b.status(now);
    expect(drops['handshake-failed'] + drops['cookie-required'] + drops['rate-limited']).toBeGreaterThan(10);
    expect(drops['bad-mac1']).toBeGreaterThan(100);
  });

  it('of the corpus: each case once was, or could have been, a crash', () => {
    const file = new URL('corpus/datagrams.json', import.meta.url);
    const cases = JSON.parse(readFileSync(file, 'utf8')) as {
      note: string;
      hex: string;
      port?: number;
      inner?: boolean;
    }[];
    expect(cases.length).toBeGreaterThan(10);
    const target = new Target(toyCrypto, SEED);
    for (const { note, hex, port = 1, inner = false } of cases) {
      const before = target.state();
      const bytes = new Uint8Array(Buffer.from(hex, 'hex'));
      if (inner) {
        const keypair = target.authentic(target.batch.buffer, 0);
        expect(keypair, note).toBeGreaterThan(0);
        target.batch.clear();
        target.batch.buffer.set(bytes, HEADROOM);
        target.batch.push(HEADROOM, bytes.length);
        target.b.seal(target.batch, target.now);
        expect(dropReason(target.batch.verdicts[0]!), note).toBeDefined();
      } else {
        expect(target.deliver(bytes, { address: Uint8Array.of(192, 0, 2, 9), port, scopeId: 0 }), note).toEqual([]);
      }
      expect(target.state(), note).toBe(before);
    }
  });
});

describe('packets to be sent', () => {
  it('of any content are sealed, kept for later or refused, never thrown at', () => {
    const target = new Target(toyCrypto, SEED + 2);
    const { random, a, batch } = target;
    const verdicts = new Set<number>();
    for (let round = 0; round < 1_500; round++) {
      batch.clear();
      for (let i = 0; i < BATCH; i++) {
        const packet = ipPacket(INNER_A, random.chance(0.5) ? INNER_B : INNER_A, i, 20 + random.below(100));
        const bytes = random.chance(0.5) ? mutate(random, packet, [packet]) : random.bytes(random.below(200));
        batch.buffer.set(bytes, i * SLOT + HEADROOM);
        batch.push(i * SLOT + HEADROOM, bytes.length);
      }
      a.seal(batch, target.now);
      for (let i = 0; i < BATCH; i++) {
        verdicts.add(batch.verdicts[i]!);
        if (batch.offsets[i]! + batch.lengths[i]! > (i + 1) * SLOT)
          throw new Error('a datagram reaches out of its slot');
      }
      a.tick(target.now, UNIX + target.now);
      target.now += random.below(3_000);
    }
    expect(verdicts.has(VERDICT.send)).toBe(true);
    expect([...verdicts].map((verdict) => dropReason(verdict))).toContain('not-ip');
  });
});
