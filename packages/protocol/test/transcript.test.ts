/** A recorded exchange with wireguard-go: byte for byte in both roles, against the package and against the second writing of the paper. */
import { blake2s } from '@noble/hashes/blake2.js';
import { describe, expect, it } from 'vitest';
import { PacketBatch } from '../src/batch.ts';
import type { Crypto } from '../src/crypto.ts';
import { CookieChecker, CookieGenerator } from '../src/cookie.ts';
import { Device } from '../src/device.ts';
import {
  authenticateInitiation,
  consumeResponse,
  createInitiation,
  createResponse,
  openInitiation,
  prologue,
  wipePending,
} from '../src/handshake.ts';
import {
  decodeCookieReply,
  decodeInitiation,
  decodeResponse,
  encodeInitiation,
  encodeResponse,
} from '../src/messages.ts';
import { nobleCrypto } from '../src/noble.ts';
import { concat, hex, ip, isZero, unhex, vectors } from './support/bytes.ts';
import { recording } from './support/lab.ts';
import * as paper from './support/paper.ts';

interface Transcript {
  readonly static_private_tester: string;
  readonly static_public_tester: string;
  readonly static_private_peer: string;
  readonly static_public_peer: string;
  readonly preshared_key: string;
  readonly peer_as_responder: {
    readonly ephemeral_private_initiator: string;
    readonly sender_index: number;
    readonly timestamp: string;
    readonly initiation: string;
    readonly response: string;
    readonly responder_index: number;
    readonly handshake_hash: string;
    readonly chaining_key: string;
    readonly initiator_send_key: string;
    readonly initiator_receive_key: string;
    readonly data_to_peer: string;
    readonly data_to_peer_plaintext: string;
    readonly data_from_peer: readonly {
      readonly packet: string;
      readonly counter: number;
      readonly plaintext: string;
    }[];
  };
  readonly peer_as_initiator: {
    readonly initiation: string;
    readonly initiator_index: number;
    readonly initiator_static_public_decrypted: string;
    readonly timestamp_decrypted: string;
    readonly ephemeral_private_responder: string;
    readonly responder_index: number;
    readonly response: string;
    readonly handshake_hash: string;
    readonly responder_receive_key: string;
    readonly responder_send_key: string;
    readonly first_data_from_peer: string;
    readonly first_data_plaintext: string;
  };
  readonly cookie_reply: {
    readonly initiation: string;
    readonly initiation_mac1: string;
    readonly source: string;
    readonly reply: string;
    readonly receiver_index: number;
    readonly cookie_decrypted: string;
    readonly initiation_with_mac2: string;
    readonly response: string;
    readonly ephemeral_private_initiator: string;
  };
}

const t = vectors<Transcript>('wireguard-go/transcript.json');
const crypto = nobleCrypto;
const tester = { privateKey: unhex(t.static_private_tester), publicKey: unhex(t.static_public_tester) };
const peer = { privateKey: unhex(t.static_private_peer), publicKey: unhex(t.static_public_peer) };
const psk = unhex(t.preshared_key);
const staticShared = crypto.dh(tester.privateKey, peer.publicKey)!;
const toPeer = prologue(crypto, 'chacha20poly1305', peer.publicKey);
const toTester = prologue(crypto, 'chacha20poly1305', tester.publicKey);

function opens(key: string, packet: string): string {
  const bytes = unhex(packet);
  const view = new DataView(bytes.buffer);
  const opener = crypto.aead('chacha20poly1305').opener(unhex(key));
  expect(opener.open(bytes, 16, bytes.length - 16, view.getUint32(8, true), view.getUint32(12, true))).toBe(true);
  return hex(bytes.subarray(16, bytes.length - 16));
}

describe('as initiator, wireguard-go answering', () => {
  const r = t.peer_as_responder;

  it('makes the same initiation and derives the same keys', () => {
    const created = createInitiation(crypto, toPeer, {
      identity: tester,
      remoteStatic: peer.publicKey,
      staticShared,
      ephemeralPrivate: unhex(r.ephemeral_private_initiator),
      timestamp: unhex(r.timestamp),
    })!;
    const message = encodeInitiation({ ...created.message, sender: r.sender_index });
    new CookieGenerator(crypto, peer.publicKey).addMacs(message, 0);
    expect(hex(message)).toBe(r.initiation);

    const response = decodeResponse(unhex(r.response));
    expect(response.sender).toBe(r.responder_index);
    expect(response.receiver).toBe(r.sender_index);
    expect(new CookieChecker(crypto, (n) => new Uint8Array(n), tester.publicKey).checkMac1(unhex(r.response))).toBe(
      true,
    );
    const wrongPsk = consumeResponse(crypto, created.pending, tester, new Uint8Array(32), response);
    expect(wrongPsk).toBeUndefined();
    const keys = consumeResponse(crypto, created.pending, tester, psk, response)!;
    expect(hex(keys.send)).toBe(r.initiator_send_key);
    expect(hex(keys.receive)).toBe(r.initiator_receive_key);
  });

  it('seals the same data and opens what came back', () => {
    const plaintext = unhex(r.data_to_peer_plaintext);
    const padded = new Uint8Array(Math.ceil(plaintext.length / 16) * 16 + 16);
    padded.set(plaintext);
    crypto
      .aead('chacha20poly1305')
      .sealer(unhex(r.initiator_send_key))
      .seal(padded, 0, padded.length - 16, 0, 0);
    expect(hex(padded)).toBe(r.data_to_peer.slice(32));
    for (const { packet, plaintext: expected } of r.data_from_peer) {
      expect(opens(r.initiator_receive_key, packet)).toBe(expected);
    }
  });

  it('is what the paper says', () => {
    const made = paper.initiation({
      staticPrivate: tester.privateKey,
      responderPublic: peer.publicKey,
      ephemeralPrivate: unhex(r.ephemeral_private_initiator),
      sender: r.sender_index,
      timestamp: unhex(r.timestamp),
      presharedKey: psk,
    });
    expect(hex(made.message)).toBe(r.initiation);
    const keys = made.finish(unhex(r.response))!;
    expect(hex(keys.hash)).toBe(r.handshake_hash);
    expect(hex(keys.chainingKey)).toBe(r.chaining_key);
    expect(hex(keys.send)).toBe(r.initiator_send_key);
    expect(hex(keys.receive)).toBe(r.initiator_receive_key);
  });
});

describe('as responder, wireguard-go asking', () => {
  const r = t.peer_as_initiator;

  it('reads its initiation and makes the same response', () => {
    const initiation = decodeInitiation(unhex(r.initiation));
    expect(initiation.sender).toBe(r.initiator_index);
    expect(new CookieChecker(crypto, (n) => new Uint8Array(n), tester.publicKey).checkMac1(unhex(r.initiation))).toBe(
      true,
    );
    const opened = openInitiation(crypto, toTester, crypto.dh(tester.privateKey, initiation.ephemeral)!, initiation)!;
    expect(hex(opened.remoteStatic)).toBe(r.initiator_static_public_decrypted);
    expect(hex(authenticateInitiation(opened, staticShared, initiation)!)).toBe(r.timestamp_decrypted);
    // The datagram's buffer is used again before the answer is made.
    initiation.ephemeral.fill(0);
    const { message, keys } = createResponse(crypto, opened, unhex(r.ephemeral_private_responder), psk)!;
    const response = encodeResponse({ ...message, sender: r.responder_index, receiver: initiation.sender });
    new CookieGenerator(crypto, peer.publicKey).addMacs(response, 0);
    expect(hex(response)).toBe(r.response);
    expect(hex(keys.receive)).toBe(r.responder_receive_key);
    expect(hex(keys.send)).toBe(r.responder_send_key);
    expect(opens(r.responder_receive_key, r.first_data_from_peer)).toBe(r.first_data_plaintext);
  });

  it('is what the paper says', () => {
    const answered = paper.answer(unhex(r.initiation), {
      staticPrivate: tester.privateKey,
      ephemeralPrivate: unhex(r.ephemeral_private_responder),
      sender: r.responder_index,
      presharedKey: psk,
    })!;
    expect(hex(answered.response)).toBe(r.response);
    expect(hex(answered.hash)).toBe(r.handshake_hash);
    expect(hex(answered.receive)).toBe(r.responder_receive_key);
    expect(hex(answered.send)).toBe(r.responder_send_key);
  });

  it('does not open with any byte changed', () => {
    const bytes = unhex(r.initiation);
    for (let i = 8; i < 116; i++) {
      const forged = bytes.slice();
      forged[i]! ^= 0x10;
      const initiation = decodeInitiation(forged);
      const shared = crypto.dh(tester.privateKey, initiation.ephemeral);
      const opened = shared && openInitiation(crypto, toTester, shared, initiation);
      const timestamp = opened && authenticateInitiation(opened, staticShared, initiation);
      expect(i < 88 ? opened : timestamp, `byte ${i}`).toBeUndefined();
    }
  });
});

describe('a handshake of two', () => {
  const NO_PSK = new Uint8Array(32);

  function begin(using: Crypto, remoteStatic: Uint8Array): ReturnType<typeof createInitiation> {
    const ephemeralPrivate = unhex(t.peer_as_responder.ephemeral_private_initiator);
    const start = prologue(using, 'chacha20poly1305', peer.publicKey);
    const timestamp = paper.tai64n(0);
    return createInitiation(using, start, {
      identity: tester,
      remoteStatic,
      staticShared,
      ephemeralPrivate,
      timestamp,
    });
  }

  it('leaves no secret behind but the keys of the session', () => {
    const seen = recording(crypto);
    const { message, pending } = begin(seen.crypto, peer.publicKey)!;
    const initiation = { ...message, sender: 1 };
    const ephemeralShared = crypto.dh(peer.privateKey, message.ephemeral)!;
    const start = prologue(seen.crypto, 'chacha20poly1305', peer.publicKey);
    const opened = openInitiation(seen.crypto, start, ephemeralShared, initiation)!;
    expect(authenticateInitiation(opened, staticShared, initiation)).toBeDefined();
    const answered = createResponse(seen.crypto, opened, new Uint8Array(32).fill(5), NO_PSK)!;
    const response = { ...answered.message, sender: 2, receiver: 1 };
    const keys = consumeResponse(seen.crypto, pending, tester, NO_PSK, response)!;
    expect([hex(keys.send), hex(keys.receive)]).toEqual([hex(answered.keys.receive), hex(answered.keys.send)]);
    wipePending(pending);
    const kept = new Set([tester.privateKey, keys.send, keys.receive, answered.keys.send, answered.keys.receive]);
    const secrets = seen.secrets.filter(({ array }) => !kept.has(array));
    expect(secrets.length).toBeGreaterThan(20);
    expect(secrets.filter(({ array }) => !isZero(array))).toEqual([]);
  });

  it.each([0, 1])('is not begun with a low-order key, nor answered, nor completed (u = %i)', (u) => {
    const low = new Uint8Array(32).fill(u, 0, 1);
    expect(begin(crypto, low)).toBeUndefined();
    for (const remote of [{ remoteStatic: low }, { remoteEphemeral: low }]) {
      const state = toPeer.clone();
      const ephemeralPrivate = new Uint8Array(32).fill(5);
      const opened = { state, remoteStatic: tester.publicKey, remoteEphemeral: tester.publicKey, ...remote };
      expect(createResponse(crypto, opened, ephemeralPrivate, NO_PSK)).toBeUndefined();
      expect([isZero(ephemeralPrivate), isZero(state.handshakeHash())]).toEqual([true, true]);
    }
    const { pending } = begin(crypto, peer.publicKey)!;
    const response = { sender: 2, receiver: 1, ephemeral: low, encryptedNothing: new Uint8Array(16) };
    expect(consumeResponse(crypto, pending, tester, NO_PSK, response)).toBeUndefined();
  });
});

describe('a device with the recorded keys', () => {
  /** Randomness that gives this key, this index and nothing else of interest. */
  function drawing(ephemeral: Uint8Array, index: number): (length: number) => Uint8Array {
    return (length) => {
      if (length === 32) return ephemeral.slice();
      return length === 4 ? Uint8Array.of(index, index >>> 8, index >>> 16, index >>> 24) : new Uint8Array(length);
    };
  }

  const source = { address: ip('127.0.0.1'), port: 51_820, scopeId: 0 };

  function make(ephemeral: string, index: number, identity: typeof tester, other: typeof peer): Device {
    const device = new Device({ crypto, random: drawing(unhex(ephemeral), index) });
    const everything = { address: ip('0.0.0.0'), length: 0 };
    device.configure(
      {
        privateKey: identity.privateKey,
        mtu: 1420,
        peers: [{ publicKey: other.publicKey, presharedKey: psk, endpoint: source, allowedIps: [everything] }],
      },
      0,
    );
    return device;
  }

  function open(device: Device, datagram: Uint8Array): string {
    const batch = new PacketBatch(datagram.slice(), 1);
    batch.push(0, datagram.length, source);
    device.open(batch, 0);
    return hex(batch.buffer.subarray(batch.offsets[0], batch.offsets[0]! + batch.lengths[0]!));
  }

  it('answers wireguard-go byte for byte and reads its first packet', () => {
    const r = t.peer_as_initiator;
    const device = make(r.ephemeral_private_responder, r.responder_index, tester, peer);
    open(device, unhex(r.initiation));
    const { datagrams } = device.tick(0, 0);
    expect(datagrams.map(({ bytes }) => hex(bytes))).toEqual([r.response]);
    const packet = open(device, unhex(r.first_data_from_peer));
    expect(r.first_data_plaintext.startsWith(packet)).toBe(true);
    expect(packet.length).toBe(2 * 84);
    expect(device.tick(0, 0).events.map(({ type }) => type)).toEqual(['session']);
  });

  it('asks as the paper does, reads the answer and seals as the paper does', () => {
    const r = t.peer_as_responder;
    const unixMs = 1_795_388_966_331;
    const device = make(r.ephemeral_private_initiator, r.sender_index, tester, peer);
    const plaintext = unhex(r.data_to_peer_plaintext);
    const batch = new PacketBatch(new Uint8Array(200), 1);
    batch.buffer.set(plaintext, 16);
    batch.push(16, plaintext.length);
    device.seal(batch, 0);
    const [first] = device.tick(0, unixMs).datagrams;
    const made = paper.initiation({
      staticPrivate: tester.privateKey,
      responderPublic: peer.publicKey,
      ephemeralPrivate: unhex(r.ephemeral_private_initiator),
      sender: r.sender_index,
      timestamp: paper.tai64n(unixMs),
      presharedKey: psk,
    });
    expect(hex(first!.bytes)).toBe(hex(made.message));
    const answered = paper.answer(first!.bytes, {
      staticPrivate: peer.privateKey,
      ephemeralPrivate: unhex(t.peer_as_initiator.ephemeral_private_responder),
      sender: r.responder_index,
      presharedKey: psk,
    })!;
    open(device, answered.response);
    const sealed = device.tick(0, unixMs).datagrams.map(({ bytes }) => hex(bytes));
    const padded = concat(plaintext, new Uint8Array((16 - (plaintext.length % 16)) % 16));
    expect(sealed).toEqual([hex(paper.data(answered.receive, r.responder_index, 0n, padded))]);
  });
});

describe('the cookie of wireguard-go under load', () => {
  const c = t.cookie_reply;
  const first = unhex(c.initiation);

  /** The generator in the state of having sent `message`, whose mac1 it must have made itself. */
  function sent(message: Uint8Array): CookieGenerator {
    const generator = new CookieGenerator(crypto, peer.publicKey);
    const copy = message.slice();
    copy.fill(0, 116);
    generator.addMacs(copy, 0);
    expect(hex(copy)).toBe(hex(message));
    return generator;
  }

  it('opens the reply and makes the mac2 that was accepted', () => {
    expect(hex(first.subarray(116, 132))).toBe(c.initiation_mac1);
    const generator = sent(first);
    expect(decodeCookieReply(unhex(c.reply)).receiver).toBe(c.receiver_index);
    expect(generator.consumeReply(decodeCookieReply(unhex(c.reply)), 1_000)).toBe(true);
    const again = unhex(c.initiation_with_mac2);
    again.fill(0, 116);
    generator.addMacs(again, 1_000);
    expect(hex(again)).toBe(c.initiation_with_mac2);
  });

  it('is what the paper says', () => {
    const cookie = paper.openCookieReply(unhex(c.reply), peer.publicKey, unhex(c.initiation_mac1))!;
    expect(hex(cookie)).toBe(c.cookie_decrypted);
    const nonce = unhex(c.reply).slice(8, 32);
    const remade = paper.cookieReply({
      responderPublic: peer.publicKey,
      receiver: c.receiver_index,
      nonce,
      cookie,
      mac1: unhex(c.initiation_mac1),
    });
    expect(hex(remade)).toBe(c.reply);
    const body = unhex(c.initiation_with_mac2).subarray(0, 116);
    expect(hex(paper.withMacs(body, peer.publicKey, cookie))).toBe(c.initiation_with_mac2);
  });

  it('uses the cookie for 115 s, then no longer (120 s less 5 s for the way)', () => {
    const macOf = (at: number): string => {
      const generator = sent(first);
      expect(generator.consumeReply(decodeCookieReply(unhex(c.reply)), 1_000)).toBe(true);
      const message = first.slice();
      generator.addMacs(message, at);
      return hex(message.subarray(132));
    };
    expect(macOf(1_000 + 114_999)).not.toBe('00'.repeat(16));
    expect(macOf(1_000 + 115_000)).toBe('00'.repeat(16));
  });

  it('takes one reply to the last message only', () => {
    const reply = decodeCookieReply(unhex(c.reply));
    const generator = sent(first);
    const other = unhex(c.initiation_with_mac2);
    other.fill(0, 116);
    generator.addMacs(other, 0);
    expect(generator.consumeReply(reply, 1)).toBe(false);
    generator.addMacs(first.slice(), 2);
    for (let bit = 0; bit < 64 * 8; bit += 13) {
      const forged = unhex(c.reply);
      if (bit < 64) continue;
      forged[bit >> 3]! ^= 1 << (bit & 7);
      expect(generator.consumeReply(decodeCookieReply(forged), 3), `bit ${bit}`).toBe(false);
    }
    expect(generator.consumeReply(reply, 4)).toBe(true);
    expect(generator.consumeReply(reply, 5)).toBe(false);
    const fresh = new CookieGenerator(crypto, peer.publicKey);
    expect(fresh.consumeReply(reply, 6)).toBe(false);
    // Anyone can make a reply about no message at all.
    const nonce = new Uint8Array(24);
    const about = { responderPublic: peer.publicKey, receiver: c.receiver_index, nonce, cookie: nonce.slice(16) };
    const forged = decodeCookieReply(paper.cookieReply({ ...about, mac1: new Uint8Array(0) }));
    expect([fresh.consumeReply(forged, 7), generator.consumeReply(forged, 7)]).toEqual([false, false]);
    const message = first.slice();
    generator.addMacs(message, 8);
    expect(isZero(message.subarray(132))).toBe(false);
    generator.clear();
    message.fill(0, 116);
    generator.addMacs(message, 9);
    expect(hex(message)).toBe(hex(first));
  });
});

describe('CookieChecker', () => {
  const initiation = unhex(t.cookie_reply.initiation);
  const source = { address: ip('192.0.2.7'), port: 40_000, scopeId: 0 };
  let nextByte = 0;
  const random = (length: number): Uint8Array => Uint8Array.from({ length }, () => ++nextByte % 251);

  /** The message with the mac2 that the reply's cookie makes. */
  function proved(reply: Uint8Array): Uint8Array {
    const cookie = paper.openCookieReply(reply, peer.publicKey, initiation.subarray(116, 132))!;
    return paper.withMacs(initiation.subarray(0, 116), peer.publicKey, cookie);
  }

  it('knows its own mac1 and no other', () => {
    const checker = new CookieChecker(crypto, random, peer.publicKey);
    expect(checker.checkMac1(initiation)).toBe(true);
    expect(new CookieChecker(crypto, random, tester.publicKey).checkMac1(initiation)).toBe(false);
    for (let i = 0; i < 132; i++) {
      const forged = initiation.slice();
      forged[i]! ^= 1;
      expect(checker.checkMac1(forged), `byte ${i}`).toBe(false);
    }
  });

  it('binds a cookie to address and port', () => {
    const checker = new CookieChecker(crypto, random, peer.publicKey);
    expect(checker.checkMac2(initiation, source, 0)).toBe(false);
    const message = proved(checker.createReply(initiation, source, 0));
    expect(checker.checkMac2(message, source, 1)).toBe(true);
    expect(checker.checkMac2(message, { ...source, port: 40_001 }, 1)).toBe(false);
    expect(checker.checkMac2(message, { ...source, port: 40_000 ^ 0x100 }, 1)).toBe(false);
    expect(checker.checkMac2(message, { ...source, address: ip('192.0.2.8') }, 1)).toBe(false);
    expect(checker.checkMac2(message, { ...source, address: ip('::ffff:c000:207') }, 1)).toBe(false);
    const v6 = { address: ip('2001:db8::7'), port: 40_000, scopeId: 0 };
    expect(checker.checkMac2(proved(checker.createReply(initiation, v6, 1)), v6, 1)).toBe(true);
  });

  it('accepts a mac2 with a zero byte in it, but neither zeros nor one made without a secret', () => {
    const checker = new CookieChecker(crypto, random, peer.publicKey);
    // Before the first reply there is no secret: the hash of the address under none proves nothing.
    const unkeyed = blake2s(concat(source.address, Uint8Array.of(source.port >>> 8, source.port)), { dkLen: 16 });
    const guessed = paper.withMacs(initiation.subarray(0, 116), peer.publicKey, unkeyed);
    expect(checker.checkMac2(guessed, source, 1)).toBe(false);
    const messages = Array.from({ length: 200 }, (_, i) => {
      const from = { ...source, port: 1 + i };
      return { from, message: proved(checker.createReply(initiation, from, 0)) };
    });
    expect(messages.some(({ message }) => message.subarray(132).includes(0))).toBe(true);
    for (const { from, message } of messages) {
      expect(checker.checkMac2(message, from, 1)).toBe(true);
      message.fill(0, 132);
      expect(checker.checkMac2(message, from, 1)).toBe(false);
    }
  });

  it('knows nothing any more after it was wiped', () => {
    const drawn: Uint8Array[] = [];
    const checker = new CookieChecker(crypto, (length) => drawn[drawn.push(random(length)) - 1]!, peer.publicKey);
    const message = proved(checker.createReply(initiation, source, 0));
    expect([checker.checkMac1(message), checker.checkMac2(message, source, 1)]).toEqual([true, true]);
    checker.wipe();
    expect([checker.checkMac1(message), checker.checkMac2(message, source, 1)]).toEqual([false, false]);
    expect(drawn.filter(({ length }) => length === 32).map((secret) => isZero(secret))).toEqual([true]);
  });

  it('changes its secret every 120 s', () => {
    const checker = new CookieChecker(crypto, random, peer.publicKey);
    const message = proved(checker.createReply(initiation, source, 0));
    checker.createReply(initiation, source, 119_999);
    expect(checker.checkMac2(message, source, 119_999)).toBe(true);
    expect(checker.checkMac2(message, source, 120_000)).toBe(false);
    const fresh = proved(checker.createReply(initiation, source, 120_000));
    expect(checker.checkMac2(fresh, source, 120_001)).toBe(true);
    expect(checker.checkMac2(message, source, 120_001)).toBe(false);
    checker.createReply(initiation, source, 239_999);
    expect(checker.checkMac2(fresh, source, 239_999)).toBe(true);
    expect(checker.checkMac2(fresh, source, 240_000)).toBe(false);
  });

  it('answers with 64 bytes to the sender index, a fresh nonce each time', () => {
    const checker = new CookieChecker(crypto, random, peer.publicKey);
    const replies = Array.from({ length: 80 }, () => checker.createReply(initiation, source, 0));
    for (const reply of replies) {
      expect(reply.length).toBe(64);
      expect(hex(reply.subarray(0, 4))).toBe('03000000');
      expect(hex(reply.subarray(4, 8))).toBe(hex(initiation.subarray(4, 8)));
    }
    expect(new Set(replies.map((reply) => hex(reply.subarray(8, 32)))).size).toBe(80);
  });
});
