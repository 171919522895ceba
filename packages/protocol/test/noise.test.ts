/** `SymmetricState` under a token interpreter of the test's own, against the vectors of three other implementations. */
import { describe, expect, it } from 'vitest';
import { CIPHER_SUITES } from '../src/crypto.ts';
import { prologue } from '../src/handshake.ts';
import { nobleCrypto } from '../src/noble.ts';
import { SymmetricState } from '../src/noise.ts';
import { hex, unhex } from './support/bytes.ts';
import { expectReproduced, noiseVectors, Party, patternOf, suiteOf } from './support/noise-vectors.ts';

const NAME = new TextEncoder().encode('Noise_X');

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
    expect(hex(initiator.state.handshakeHash())).toBe(hash);
    expect(hex(initiator.read(second!, unhex(vector.messages[1]!.ciphertext))!)).toBe(vector.messages[1]!.payload);
  });

  it('mixChainingKey is mixKey without the key', () => {
    const start = (): SymmetricState =>
      SymmetricState.initialize(nobleCrypto, nobleCrypto.aead('chacha20poly1305'), NAME);
    const [a, b] = [start(), start()];
    a.mixChainingKey(Uint8Array.of(1));
    b.mixKey(Uint8Array.of(1));
    expect(a.split()).toEqual(b.split());
    expect(a.encryptAndHash(Uint8Array.of(5))).toEqual(Uint8Array.of(5));
    expect(b.encryptAndHash(Uint8Array.of(5))).toHaveLength(17);
  });
});
