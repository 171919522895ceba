/** `SymmetricState` under a token interpreter of the test's own, against the vectors of three other implementations. */
import { describe, expect, it } from 'vitest';
import { CIPHER_SUITES } from '../src/crypto.ts';
import { prologue } from '../src/handshake.ts';
import { nobleCrypto } from '../src/noble.ts';
import { kdf, SymmetricState } from '../src/noise.ts';
import { concat, hex, isZero, unhex } from './support/bytes.ts';
import { recording } from './support/lab.ts';
import { expectReproduced, noiseVectors, Party, patternOf, suiteOf } from './support/noise-vectors.ts';

const NAME = new TextEncoder().encode('Noise_X');
const chacha = nobleCrypto.aead('chacha20poly1305');
const start = (): SymmetricState => SymmetricState.initialize(nobleCrypto, chacha, NAME);

describe('SymmetricState', () => {
  it('has vectors of every kind', () => {
    expect(noiseVectors.map(({ name }) => name.split('_')[1]).toSorted()).toEqual([
      ...Array.from({ length: 8 }, () => 'IK'),
      ...Array.from({ length: 2 }, () => 'IKpsk0+psk2'),
      ...Array.from({ length: 6 }, () => 'IKpsk1'),
      ...Array.from({ length: 6 }, () => 'IKpsk2'),
    ]);
    expect(noiseVectors.filter(({ name }) => name.includes('_AESGCM_'))).toHaveLength(5);
    expect(noiseVectors.map(({ name }) => name)).toContain('Noise_IKpsk2_25519_AESGCM_BLAKE2s');
  });

  it.each(noiseVectors)('reproduces $source $name (vector $number)', ({ vector }) => {
    expectReproduced(nobleCrypto, vector);
  });

  it.each(CIPHER_SUITES)('%s: a handshake of ours begins with the name that the vectors have', (suite) => {
    const { name } = noiseVectors.find(({ vector }) => vector.name.includes('IKpsk2_') && suiteOf(vector) === suite)!;
    const key = new Uint8Array(32).fill(3);
    const text = new TextEncoder();
    const expected = SymmetricState.initialize(nobleCrypto, nobleCrypto.aead(suite), text.encode(name));
    // The paper's IDENTIFIER (section 5.4) is its Noise prologue.
    expected.mixHash(text.encode('WireGuard v1 zx2c4 Jason@zx2c4.com'));
    expected.mixHash(key);
    expect(hex(prologue(nobleCrypto, suite, key).handshakeHash())).toBe(hex(expected.handshakeHash()));
  });

  it('refuses every single-bit change of a message, and a clone goes on unharmed', () => {
    const { vector } = noiseVectors.find(({ source, name }) => source === 'cacophony' && name.includes('psk2'))!;
    const [first, second] = patternOf(vector.name);
    const initiator = new Party(nobleCrypto, vector, 'initiator');
    const message = initiator.write(first!, unhex(vector.messages[0]!.payload));
    for (let byte = 32; byte < message.length; byte++) {
      const forged = message.slice();
      forged[byte]! ^= 1 << (byte & 7);
      expect(new Party(nobleCrypto, vector, 'responder').read(first!, forged)).toBeUndefined();
    }
    const before = initiator.state.clone();
    const hash = hex(before.handshakeHash());
    expect(before.decryptAndHash(new Uint8Array(16))).toBeUndefined();
    expect(hex(before.handshakeHash())).toBe(hash);
    before.wipe();
    initiator.state.handshakeHash().fill(0);
    expect(hex(initiator.state.handshakeHash())).toBe(hash);
    expect(hex(initiator.read(second!, unhex(vector.messages[1]!.ciphertext))!)).toBe(vector.messages[1]!.payload);
  });

  it.each([7, 31, 32, 33, 64])('begins with a name of %i bytes, padded or hashed (Noise section 5.2)', (length) => {
    const name = new Uint8Array(length).fill(0x61);
    const state = SymmetricState.initialize(nobleCrypto, chacha, name);
    const expected = length <= 32 ? concat(name, new Uint8Array(32 - length)) : nobleCrypto.hash(name);
    expect(hex(state.handshakeHash())).toBe(hex(expected));
  });

  it('passes through without a key, and counts from 0 with each new one (Noise section 5.1)', () => {
    const [a, b] = [start(), start()];
    const text = Uint8Array.of(1, 2, 3);
    for (const step of [0, 1, 2]) {
      for (const state of [a, b]) {
        if (step > 0) state.mixKey(Uint8Array.of(step));
      }
      for (let n = 0; n < 3; n++) {
        const sealed = a.encryptAndHash(text);
        const opened = b.decryptAndHash(sealed)!;
        if (step === 0) expect([hex(sealed), sealed === text, opened === sealed]).toEqual([hex(text), false, false]);
        expect(hex(opened)).toBe(hex(text));
        expect(hex(a.handshakeHash())).toBe(hex(b.handshakeHash()));
      }
    }
    const [chainingKey] = kdf(nobleCrypto, concat(NAME, new Uint8Array(32 - NAME.length)), Uint8Array.of(1), 1);
    const [, key] = kdf(nobleCrypto, chainingKey!, Uint8Array.of(2), 2);
    // Mixing without taking a key keeps the one there is, and its counter.
    for (const state of [a, b]) state.mixChainingKey(Uint8Array.of(3));
    const expected = chacha.seal(key!, 3, text, a.handshakeHash());
    expect(hex(a.encryptAndHash(text))).toBe(hex(expected));
    expect(hex(b.decryptAndHash(expected)!)).toBe(hex(text));
  });

  it('leaves no secret behind: what it replaces is zero at once, the rest when it is wiped', () => {
    const seen = recording(nobleCrypto);
    const state = SymmetricState.initialize(seen.crypto, seen.crypto.aead('chacha20poly1305'), NAME);
    const alive = (): number => seen.secrets.filter(({ array }) => !isZero(array)).length;
    for (const mix of ['mixKey', 'mixChainingKey', 'mixKeyAndHash', 'mixKey'] as const) {
      state[mix](Uint8Array.of(1));
      // The chaining key and the cipher key.
      expect(alive(), mix).toBe(2);
    }
    state.wipe();
    expect(alive()).toBe(0);
    expect(isZero(state.handshakeHash())).toBe(true);
  });

  it('mixChainingKey is mixKey without the key', () => {
    const [a, b] = [start(), start()];
    a.mixChainingKey(Uint8Array.of(1));
    b.mixKey(Uint8Array.of(1));
    expect(a.split()).toEqual(b.split());
    expect(a.encryptAndHash(Uint8Array.of(5))).toEqual(Uint8Array.of(5));
    expect(b.encryptAndHash(Uint8Array.of(5))).toHaveLength(17);
  });
});
