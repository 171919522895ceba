/** A device that a fuzzer fires at, what it fires, and what must be true of every verdict. */
import { Device, HEADROOM, PacketBatch, TAILROOM, VERDICT, dropReason, ipPacketLength } from '@sealane/protocol';
import type { Crypto, Endpoint, PeerHandle } from '@sealane/protocol';
import { CookieGenerator } from '../../packages/protocol/src/cookie.ts';
import { encodeExchangeMessage } from '../../packages/protocol/src/exchange-messages.ts';
import { CIPHERTEXT_LENGTH, ENCAPSULATION_KEY_LENGTH } from '../../packages/protocol/src/kem.ts';
import type { Peer } from '../../packages/protocol/src/peer.ts';
import { ipPacket } from '../sim/packets.ts';
import { generator } from '../sim/random.ts';
import type { Generator } from '../sim/random.ts';
import { mutate } from './mutate.ts';

export const BATCH = 64;
export const SLOT = 2_048;
export const LARGEST = 65_507;
export const UNIX = 1_767_225_600_000;
export const INNER_A: Uint8Array = Uint8Array.of(10, 0, 0, 1);
export const INNER_B: Uint8Array = Uint8Array.of(10, 0, 0, 2);
const SUBNET_A = { address: Uint8Array.of(10, 0, 0, 0), length: 31 };

export interface Regular {
  readonly endpoint: Endpoint;
  readonly macs: CookieGenerator;
}

/** Initiations and responses: what carries macs. */
function isHandshake(bytes: Uint8Array): boolean {
  return (bytes.length === 148 && bytes[0] === 1) || (bytes.length === 92 && bytes[0] === 2);
}

/**
 * A device `b` under fire. `a` shares a hedged session with it, from which come messages to make others from; `stranger` is none
 * of its peers, and `other` is one that has another cipher.
 */
export class DatagramTarget {
  readonly random: Generator;
  readonly #crypto: Crypto;
  readonly a: Device;
  readonly b: Device;
  readonly stranger: Device;
  readonly other: Device;
  readonly #publicB: Uint8Array;
  readonly #mac1Key: Uint8Array;
  /** Strangers who use the cookies that they are given. */
  readonly regulars: readonly Regular[];
  readonly endpointA: Endpoint = { address: Uint8Array.of(192, 0, 2, 1), port: 1_000, scopeId: 0 };
  readonly endpointB: Endpoint = { address: Uint8Array.of(192, 0, 2, 2), port: 2_000, scopeId: 0 };
  readonly messages: Uint8Array[] = [];
  readonly batch = new PacketBatch(new Uint8Array(BATCH * SLOT), BATCH);
  readonly #large = new PacketBatch(new Uint8Array(LARGEST), 1);
  delivered = 0;
  #handle: PeerHandle | undefined;
  now = 1_000;

  constructor(crypto: Crypto, seed: number) {
    this.random = generator(seed);
    this.#crypto = crypto;
    const draw = this.random.fork('devices');
    const random = (length: number): Uint8Array => draw.bytes(length);
    const [keyA, keyB, keyOther] = [random(32), random(32), random(32)];
    const device = (): Device => new Device({ crypto, random });
    [this.a, this.b, this.stranger, this.other] = [device(), device(), device(), device()];
    this.#publicB = crypto.publicKey(keyB);
    const toB = { publicKey: this.#publicB, endpoint: this.endpointB, allowedIps: [{ address: INNER_B, length: 32 }] };
    const hedged = { postQuantum: 3_600_000 };
    this.a.configure({ privateKey: keyA, mtu: 1_420, peers: [{ ...toB, ...hedged }] }, this.now);
    this.stranger.configure({ privateKey: random(32), peers: [toB] }, this.now);
    this.other.configure({ privateKey: keyOther, peers: [{ ...toB, cipherSuite: 'aes256gcm' }] }, this.now);
    const toA = { publicKey: crypto.publicKey(keyA), allowedIps: [SUBNET_A], ...hedged };
    const toOther = { publicKey: crypto.publicKey(keyOther), allowedIps: [{ address: new Uint8Array(4), length: 0 }] };
    this.b.configure({ privateKey: keyB, mtu: 1_420, peers: [toA, toOther] }, this.now);
    this.#mac1Key = crypto.hash(new TextEncoder().encode('mac1----'), this.#publicB);
    this.regulars = [3, 4, 5, 6].map((host) => ({
      endpoint: { address: Uint8Array.of(192, 0, 2, host), port: 3_000, scopeId: 0 },
      macs: new CookieGenerator(crypto, this.#publicB),
    }));
    this.connect();
  }

  /** A fresh session, begun by `a`; every message of it is kept as it was. */
  connect(): void {
    for (let tries = 0; tries < 5; tries++) {
      this.messages.length = 0;
      this.a.rekey(undefined, this.now);
      // A cookie, the handshake, a post-quantum exchange and the handshake that it brings.
      for (let turn = 0; turn < 12; turn++) this.#turn();
      if (this.#sendData()) return;
      // What hinders is a handshake that `a` began and heard nothing of.
      this.now += 6_000;
    }
    throw new Error('no session to begin with');
  }

  #turn(): void {
    this.now += 30;
    for (const { bytes } of this.a.tick(this.now, UNIX + this.now).datagrams) {
      const drops = this.#drops();
      const message = bytes.slice();
      for (const answer of this.deliver(bytes, this.endpointA)) {
        this.messages.push(answer.slice());
        this.#openAt(this.a, answer, this.endpointB);
      }
      // What was refused would still be news to it.
      if (this.#drops() === drops) this.messages.push(message);
    }
  }

  #drops(): string {
    return JSON.stringify(this.b.status(this.now).drops);
  }

  #sendData(): boolean {
    const packet = ipPacket(INNER_A, INNER_B, 1, 64);
    const sealing = new PacketBatch(new Uint8Array(HEADROOM + packet.length + TAILROOM), 1);
    sealing.buffer.set(packet, HEADROOM);
    sealing.push(HEADROOM, packet.length);
    this.a.seal(sealing, this.now);
    if (sealing.verdicts[0] !== VERDICT.send) return false;
    this.#handle = sealing.peers[0];
    const at = sealing.offsets[0]!;
    const sealed = sealing.buffer.slice(at, at + sealing.lengths[0]!);
    this.messages.push(sealed, this.random.bytes(64).fill(0, 1, 4).fill(3, 0, 1));
    return this.#openAt(this.b, sealed, this.endpointA) === 'deliver';
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

  /** What a real handshake of a device begins with. */
  initiationOf(device: Device): Uint8Array | undefined {
    device.rekey(undefined, this.now);
    return device.tick(this.now, UNIX + this.now).datagrams.at(-1)?.bytes;
  }

  /** A message like those that were real once, or one of those. */
  hostile(): Uint8Array {
    const { random, messages } = this;
    if (random.chance(0.15)) return random.bytes(random.below(300));
    const base = messages[random.below(messages.length)]!;
    if (random.chance(0.02)) return base.slice(0, SLOT);
    const bytes = mutate(random, base, messages);
    // Some with a right mac1, so that what lies behind it is reached.
    if (isHandshake(bytes) && random.chance(0.1)) this.regulars[0]!.macs.addMacs(bytes, this.now);
    return bytes.length > SLOT ? bytes.slice(0, SLOT) : bytes;
  }

  /** A handshake message that is wrong behind its macs, if anywhere. */
  macked(macs: CookieGenerator): Uint8Array {
    const { random } = this;
    const known = this.messages.filter(isHandshake);
    const bytes = known[random.below(known.length)]!.slice();
    for (let n = random.below(4); n > 0; n--) bytes[4 + random.below(bytes.length - 36)]! ^= 1 << random.below(8);
    bytes.fill(0, bytes.length - 16);
    macs.addMacs(bytes, this.now);
    return bytes;
  }

  /** Who does not know our public key has no valid mac1 (paper section 5.4.4). */
  hasMac1(bytes: Uint8Array): boolean {
    if (!isHandshake(bytes)) return false;
    const at = bytes.length - 32;
    const expected = this.#crypto.mac(this.#mac1Key, bytes.subarray(0, at));
    return Buffer.compare(expected, bytes.subarray(at, at + 16)) === 0;
  }

  /** A plaintext that no honest peer would send, sealed as one would. */
  authentic(buffer: Uint8Array, at: number): number {
    const { random } = this;
    const base = random.chance(0.02)
      ? this.#exchangeMessage()
      : random.chance(0.5)
        ? ipPacket(INNER_A, INNER_B, 1, 20 + random.below(200))
        : random.bytes(random.below(200));
    let plaintext = random.chance(0.7) ? mutate(random, base, [base]) : base;
    if (plaintext.length > SLOT - 64) plaintext = plaintext.slice(0, SLOT - 64);
    return this.sealAsPeer(plaintext, buffer, at);
  }

  /** Makes a datagram of the peer's with just this inside; returns its length. */
  sealAsPeer(plaintext: Uint8Array, buffer: Uint8Array, at: number): number {
    const keypair = (this.#handle as Peer).keypairs.current!;
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

  /** Opens the batch and checks every verdict; counts what is handed on. */
  openBatch(): void {
    const { batch } = this;
    this.b.open(batch, this.now);
    for (let i = 0; i < batch.count; i++) {
      const verdict = batch.verdicts[i]!;
      if (verdict !== VERDICT.deliver) {
        if (verdict === VERDICT.consumed || dropReason(verdict) !== undefined) continue;
        throw new Error(`verdict ${verdict} means nothing`);
      }
      this.delivered++;
      const [offset, length] = [batch.offsets[i]!, batch.lengths[i]!];
      const slot = i * SLOT;
      if (offset < slot || offset + length > slot + SLOT) throw new Error('a packet reaches out of its datagram');
      if (ipPacketLength(batch.view, offset, length) !== length)
        throw new Error('what was handed on is no whole packet');
      if (batch.view.getUint32(offset + 12) >>> 1 !== 0x0a000000 >>> 1)
        throw new Error('a source that is not the peer’s');
    }
  }

  #exchangeMessage(): Uint8Array {
    const { random } = this;
    const [type, length] = random.chance(0.5)
      ? (['offer', ENCAPSULATION_KEY_LENGTH] as const)
      : (['answer', CIPHERTEXT_LENGTH] as const);
    return encodeExchangeMessage({ type, id: random.bytes(8), body: random.bytes(length) });
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
