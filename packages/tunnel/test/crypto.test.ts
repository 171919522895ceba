/** Every fast implementation against the reference, other Noise implementations, Wycheproof and the BLAKE2 authors' answers. */
import { createCipheriv, createDecipheriv } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { CIPHER_SUITES, nobleCrypto, type Crypto } from '@sealane/protocol';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { expectReproduced, noiseVectors } from '../../protocol/test/support/noise-vectors.ts';
import { bindEvp, evpPacketCipher } from '../src/crypto/native-evp.ts';
import { nativeCrypto } from '../src/crypto/native.ts';
import { nodeCrypto } from '../src/crypto/node.ts';
import { givesKnownAnswers, selectCrypto } from '../src/crypto/select.ts';

interface Wycheproof<T> {
  readonly numberOfTests: number;
  readonly testGroups: readonly { readonly tests: readonly T[] }[];
}
interface DhCase {
  readonly tcId: number;
  readonly public: string;
  readonly private: string;
  readonly shared: string;
}
interface AeadCase {
  readonly tcId: number;
  readonly key: string;
  readonly iv: string;
  readonly aad: string;
  readonly msg: string;
  readonly ct: string;
  readonly tag: string;
  readonly result: 'valid' | 'invalid';
}

const readVectors = <T>(file: string): T =>
  JSON.parse(readFileSync(new URL(`../../../test/vectors/${file}`, import.meta.url), 'utf8')) as T;
const unhex = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'hex'));
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/** Native with its ciphers through EVP only, as on a node binary that does not export ChaCha20 and Poly1305. */
function evpOnly(): Crypto {
  const native = nativeCrypto();
  const evp = bindEvp();
  return {
    ...native,
    name: 'native, EVP only',
    aead: (suite) => ({ ...native.aead(suite), ...evpPacketCipher(evp[suite]) }),
  };
}

function gcmCases(): readonly AeadCase[] {
  return readVectors<Wycheproof<AeadCase>>('wycheproof/aes_gcm_test.json').testGroups.flatMap(({ tests }) => tests);
}

const bytes = (length: number): fc.Arbitrary<Uint8Array> => fc.uint8Array({ minLength: length, maxLength: length });
const counter = fc.oneof(
  fc.nat(0xffff_ffff),
  fc.constantFrom(0, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 0xffff_dffe),
);

describe.each([nativeCrypto(), evpOnly(), nodeCrypto].map((crypto) => ({ name: crypto.name, crypto })))(
  '$name',
  ({ crypto }) => {
    it('gives the known answers', () => expect(givesKnownAnswers(crypto)).toBe(true));

    it.each(CIPHER_SUITES)('%s: seals and opens packets as the reference does, touching nothing else', (suite) => {
      const length = fc.oneof(fc.nat(200), fc.constantFrom(0, 1420, 1424, 1408, 9_000, 65_000));
      // One buffer for all runs: what lies around a packet is arbitrary, its place and alignment too.
      const buffer = new Uint8Array(70_000);
      fc.assert(
        fc.property(
          bytes(32),
          length,
          fc.nat(300),
          counter,
          counter,
          fc.nat(),
          (key, size, offset, low, high, seed) => {
            for (let i = 0; i < buffer.length; i += 97) buffer[i] = seed + i;
            const before = buffer.slice();
            const expected = before.slice();
            nobleCrypto.aead(suite).sealer(key).seal(expected, offset, size, low, high);
            const sealer = crypto.aead(suite).sealer(key);
            const opener = crypto.aead(suite).opener(key);
            sealer.seal(buffer, offset, size, low, high);
            expect(Buffer.compare(buffer, expected)).toBe(0);

            const flipped = offset + (seed % (size + 16));
            buffer[flipped]! ^= 1 << (seed & 7);
            expect(opener.open(buffer, offset, size + 16, low, high)).toBe(false);
            buffer.set(expected.subarray(offset, offset + size + 16), offset);
            expect(Buffer.compare(buffer, expected)).toBe(0);

            expect(opener.open(buffer, offset, size + 16, low, high)).toBe(true);
            buffer.set(before.subarray(offset + size, offset + size + 16), offset + size);
            expect(Buffer.compare(buffer, before)).toBe(0);
            sealer.wipe();
            opener.wipe();
          },
        ),
        { numRuns: 60 },
      );
    });

    it.each(CIPHER_SUITES)('%s: refuses every length too short for a tag, and other keys and counters', (suite) => {
      const opener = crypto.aead(suite).opener(new Uint8Array(32));
      for (let length = 0; length < 16; length++) expect(opener.open(new Uint8Array(64), 0, length, 0, 0)).toBe(false);
      const packet = new Uint8Array(40);
      crypto.aead(suite).sealer(new Uint8Array(32)).seal(packet, 0, 24, 5, 6);
      expect(opener.open(packet.slice(), 0, 40, 6, 5)).toBe(false);
      expect(opener.open(packet.slice(), 0, 40, 5, 7)).toBe(false);
      expect(crypto.aead(suite).opener(new Uint8Array(32).fill(1)).open(packet.slice(), 0, 40, 5, 6)).toBe(false);
      expect(opener.open(packet, 0, 40, 5, 6)).toBe(true);
    });

    it.each(CIPHER_SUITES)('%s: keeps two keys apart when they are used in turn', (suite) => {
      const aead = crypto.aead(suite);
      const pairs = [1, 2, 3].map((n) => ({
        key: new Uint8Array(32).fill(n),
        sealer: aead.sealer(new Uint8Array(32).fill(n)),
      }));
      for (let low = 0; low < 20; low++) {
        for (const { key, sealer } of pairs) {
          const packet = new Uint8Array(100).fill(low);
          const expected = packet.slice();
          nobleCrypto.aead(suite).sealer(key).seal(expected, 16, 64, low, 0);
          sealer.seal(packet, 16, 64, low, 0);
          expect(hex(packet)).toBe(hex(expected));
        }
      }
      pairs[0]!.sealer.wipe();
      const packet = new Uint8Array(100);
      pairs[1]!.sealer.seal(packet, 16, 64, 99, 0);
      expect(aead.opener(pairs[1]!.key).open(packet, 16, 80, 99, 0)).toBe(true);
    });

    it.each(CIPHER_SUITES)('%s: seals and opens handshake parts as the reference does', (suite) => {
      fc.assert(
        fc.property(bytes(32), fc.nat(), fc.uint8Array(), fc.uint8Array(), (key, count, text, aad) => {
          const sealed = crypto.aead(suite).seal(key, count, text, aad);
          expect(hex(sealed)).toBe(hex(nobleCrypto.aead(suite).seal(key, count, text, aad)));
          expect(crypto.aead(suite).open(key, count, sealed, aad)).toEqual(text);
          expect(crypto.aead(suite).open(key, count + 1, sealed, aad)).toBeUndefined();
          expect(crypto.aead(suite).open(key, count, sealed.subarray(0, 15), aad)).toBeUndefined();
        }),
        { numRuns: 50 },
      );
    });

    it.each(noiseVectors)('reproduces $source $name (vector $number)', ({ vector }) => {
      expectReproduced(crypto, vector);
    });

    it('gives the Wycheproof answer of AES-256-GCM whose nonce is a counter', () => {
      const [c, ...others] = gcmCases().filter(({ iv }) => iv.startsWith('00000000'));
      expect([c!.iv, c!.aad, c!.result, others.length]).toEqual(['00'.repeat(12), '', 'valid', 0]);
      const aead = crypto.aead('aes256gcm');
      const [key, text] = [unhex(c!.key), unhex(c!.msg)];
      expect(hex(aead.seal(key, 0, text, new Uint8Array()))).toBe(c!.ct + c!.tag);
      const packet = new Uint8Array(text.length + 16);
      packet.set(text);
      aead.sealer(key).seal(packet, 0, text.length, 0, 0);
      expect(hex(packet)).toBe(c!.ct + c!.tag);
      expect(aead.opener(key).open(packet, 0, packet.length, 0, 0)).toBe(true);
      expect(hex(packet.subarray(0, text.length))).toBe(c!.msg);
    });

    it('gives every Wycheproof answer of X25519 and refuses all-zero results', () => {
      const suite = readVectors<Wycheproof<DhCase>>('wycheproof/x25519_test.json');
      const cases = suite.testGroups.flatMap((group) => group.tests);
      expect(cases.length).toBe(518);
      for (const c of cases) {
        const shared = crypto.dh(unhex(c.private), unhex(c.public));
        const answer = shared === undefined ? '00'.repeat(32) : hex(shared);
        expect(answer, `case ${c.tcId}`).toBe(c.shared);
      }
    });

    it('computes public keys, hashes and codes as the reference does', () => {
      const inputs = fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 4 });
      fc.assert(
        fc.property(bytes(32), fc.uint8Array({ minLength: 1, maxLength: 32 }), inputs, (key, short, parts) => {
          expect(hex(crypto.hash(...parts))).toBe(hex(nobleCrypto.hash(...parts)));
          expect(hex(crypto.hmac(short, ...parts))).toBe(hex(nobleCrypto.hmac(short, ...parts)));
          expect(hex(crypto.mac(short, ...parts))).toBe(hex(nobleCrypto.mac(short, ...parts)));
          expect(hex(crypto.publicKey(key))).toBe(hex(nobleCrypto.publicKey(key)));
        }),
        { numRuns: 50 },
      );
      const long = new Uint8Array(100_000).fill(3);
      expect(hex(crypto.hash(long))).toBe(hex(nobleCrypto.hash(long)));
      expect(hex(crypto.hmac(long.subarray(0, 100), long))).toBe(hex(nobleCrypto.hmac(long.subarray(0, 100), long)));
      expect(hex(crypto.mac(long.subarray(0, 16), long))).toBe(hex(nobleCrypto.mac(long.subarray(0, 16), long)));
    });

    it('seals with a nonce of 24 bytes as the reference does, and opens that', () => {
      const text = fc.uint8Array({ maxLength: 300 });
      fc.assert(
        fc.property(bytes(32), bytes(24), text, text, (key, nonce, plain, data) => {
          const sealed = crypto.xseal(key, nonce, plain, data);
          expect(hex(sealed)).toBe(hex(nobleCrypto.xseal(key, nonce, plain, data)));
          expect(hex(crypto.xopen(key, nonce, sealed, data) ?? new Uint8Array())).toBe(hex(plain));
        }),
        { numRuns: 100 },
      );
    });

    it('gives all answers of the BLAKE2 authors', () => {
      const kat = readVectors<{ readonly blake2s_kat: readonly string[] }>('blake2/blake2s-kat.json').blake2s_kat;
      expect(kat.length).toBe(256);
      const input = Uint8Array.from({ length: 256 }, (_, i) => i);
      for (const [length, answer] of kat.entries()) expect(hex(crypto.hash(input.subarray(0, length)))).toBe(answer);
    });

    it('compares by content', () => {
      expect(crypto.equal(Uint8Array.of(1, 2), Uint8Array.of(1, 2))).toBe(true);
      expect(crypto.equal(Uint8Array.of(1, 2), Uint8Array.of(1, 3))).toBe(false);
      expect(crypto.equal(Uint8Array.of(1, 2), Uint8Array.of(1))).toBe(false);
    });
  },
);

describe('the AES-256-GCM of the node binary, which node and native use', () => {
  it('gives every Wycheproof answer', () => {
    const cases = gcmCases();
    expect(cases.length).toBe(66);
    for (const c of cases) {
      const cipher = createCipheriv('aes-256-gcm', unhex(c.key), unhex(c.iv)).setAAD(unhex(c.aad));
      const sealed = cipher.update(c.msg, 'hex', 'hex') + cipher.final('hex') + cipher.getAuthTag().toString('hex');
      expect(sealed === c.ct + c.tag, `case ${c.tcId}`).toBe(c.result === 'valid');
      const decipher = createDecipheriv('aes-256-gcm', unhex(c.key), unhex(c.iv)).setAAD(unhex(c.aad));
      decipher.setAuthTag(unhex(c.tag));
      const text = decipher.update(c.ct, 'hex', 'hex');
      if (c.result === 'valid') expect(text + decipher.final('hex'), `case ${c.tcId}`).toBe(c.msg);
      else expect(() => decipher.final(), `case ${c.tcId}`).toThrow();
    }
  });
});

describe('selectCrypto', () => {
  it('prefers native and obeys a wish for another', () => {
    expect(selectCrypto().name).toMatch(/^native/);
    expect(selectCrypto('node').name).toMatch(/^node/);
    expect(selectCrypto('noble').name).toBe('noble');
  });

  it.each([
    ['dh', { dh: () => new Uint8Array(32) }],
    ['hash', { hash: () => new Uint8Array(32) }],
    ['hmac', { hmac: (...inputs: readonly Uint8Array[]) => nobleCrypto.hash(...inputs) }],
    ['mac', { mac: () => new Uint8Array(16) }],
    ['xseal', { xseal: () => new Uint8Array(32) }],
    ['publicKey', { publicKey: () => new Uint8Array(32) }],
    ['suites', { aead: () => nobleCrypto.aead('aes256gcm') }],
    [
      'an opener that never refuses',
      {
        aead: (suite: 'chacha20poly1305' | 'aes256gcm') => ({
          ...nobleCrypto.aead(suite),
          opener: (): { open: () => boolean; wipe: () => void } => ({ open: () => true, wipe: () => {} }),
        }),
      },
    ],
  ])('the known answers find a wrong %s', (_, wrong) => {
    expect(givesKnownAnswers({ ...nobleCrypto, ...wrong })).toBe(false);
    expect(givesKnownAnswers(nobleCrypto)).toBe(true);
  });
});
