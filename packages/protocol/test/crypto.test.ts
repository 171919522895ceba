/** The noble reference against Wycheproof, the BLAKE2 authors' answers and wireguard-go's KDF values. */
import { gcm } from '@noble/ciphers/aes.js';
import { chacha20poly1305 } from '@noble/ciphers/chacha.js';
import { blake2s } from '@noble/hashes/blake2.js';
import { describe, expect, it } from 'vitest';
import { nobleCrypto } from '../src/noble.ts';
import { kdf } from '../src/noise.ts';
import { wipe } from '../src/crypto.ts';
import { concat, hex, isZero, unhex, vectors } from './support/bytes.ts';

interface Case {
  readonly tcId: number;
  readonly comment: string;
  readonly result: 'valid' | 'acceptable' | 'invalid';
}
interface DhCase extends Case {
  readonly public: string;
  readonly private: string;
  readonly shared: string;
}
interface AeadCase extends Case {
  readonly key: string;
  readonly iv: string;
  readonly aad: string;
  readonly msg: string;
  readonly ct: string;
  readonly tag: string;
}
interface Suite<T> {
  readonly numberOfTests: number;
  readonly testGroups: readonly { readonly tests: readonly T[] }[];
}

function casesOf<T>(file: string): readonly T[] {
  const suite = vectors<Suite<T>>(`wycheproof/${file}`);
  const cases = suite.testGroups.flatMap((group) => group.tests);
  expect(cases.length).toBe(suite.numberOfTests);
  return cases;
}

const crypto = nobleCrypto;
const chacha = crypto.aead('chacha20poly1305');
const EMPTY = new Uint8Array(0);

describe('X25519', () => {
  it('gives every Wycheproof answer and refuses all-zero results', () => {
    const cases = casesOf<DhCase>('x25519_test.json');
    let refused = 0;
    for (const c of cases) {
      const shared = crypto.dh(unhex(c.private), unhex(c.public));
      if (isZero(unhex(c.shared))) {
        refused++;
        expect(shared, `case ${c.tcId}`).toBeUndefined();
      } else {
        expect(shared && hex(shared), `case ${c.tcId} ${c.comment}`).toBe(c.shared);
      }
    }
    expect(cases.length).toBe(518);
    expect(refused).toBeGreaterThan(10);
  });

  it('clamps private keys itself and leaves its arguments alone', () => {
    const key = new Uint8Array(32).fill(0xff);
    const clamped = key.slice();
    clamped[0] = 0xf8;
    clamped[31] = 0x7f;
    expect(crypto.publicKey(key)).toEqual(crypto.publicKey(clamped));
    expect(key.every((byte) => byte === 0xff)).toBe(true);
  });
});

/** The interface speaks of 64-bit counters: Wycheproof's other nonces go to the primitive behind it. */
const isCounterNonce = (c: AeadCase): boolean => c.iv.length === 24 && c.iv.startsWith('00000000');

describe('ChaCha20-Poly1305', () => {
  const cases = casesOf<AeadCase>('chacha20_poly1305_test.json');

  it('gives every Wycheproof answer', () => {
    expect(cases.length).toBe(325);
    for (const c of cases) {
      const sealed = unhex(c.ct + c.tag);
      const open = (): Uint8Array => chacha20poly1305(unhex(c.key), unhex(c.iv), unhex(c.aad)).decrypt(sealed);
      if (c.result === 'valid') {
        expect(hex(open()), `case ${c.tcId}`).toBe(c.msg);
        expect(chacha20poly1305(unhex(c.key), unhex(c.iv), unhex(c.aad)).encrypt(unhex(c.msg))).toEqual(sealed);
      } else {
        expect(open, `case ${c.tcId} ${c.comment}`).toThrow();
      }
    }
  });

  it('gives the same answers through sealers and openers, in place, where the nonce is a counter', () => {
    const usable = cases.filter((c) => isCounterNonce(c));
    expect(usable.length).toBe(10);
    for (const c of usable) {
      const view = new DataView(unhex(c.iv).buffer);
      const low = view.getUint32(4, true);
      const high = view.getUint32(8, true);
      const sealed = unhex(c.ct + c.tag);
      const message = unhex(c.msg);
      if (c.result === 'valid' && c.aad === '') {
        const buffer = new Uint8Array(7 + sealed.length + 3).fill(0xa5);
        buffer.set(message, 7);
        chacha.sealer(unhex(c.key)).seal(buffer, 7, message.length, low, high);
        expect(hex(buffer.subarray(7, 7 + sealed.length)), `case ${c.tcId}`).toBe(c.ct + c.tag);
        expect(hex(buffer.subarray(0, 7)) + hex(buffer.subarray(7 + sealed.length))).toBe('a5'.repeat(10));
        expect(chacha.opener(unhex(c.key)).open(buffer, 7, sealed.length, low, high)).toBe(true);
        expect(hex(buffer.subarray(7, 7 + message.length))).toBe(c.msg);
      }
    }
  });

  it('puts 64-bit counters into the nonce in little endian, exactly', () => {
    const key = new Uint8Array(32).map((_, i) => i);
    for (const counter of [
      0n,
      1n,
      2n ** 31n,
      2n ** 32n - 1n,
      2n ** 32n,
      2n ** 53n - 1n,
      2n ** 53n,
      2n ** 53n + 1n,
      2n ** 60n,
      2n ** 64n - 2n ** 13n - 2n,
    ]) {
      const nonce = new Uint8Array(12);
      new DataView(nonce.buffer).setBigUint64(4, counter, true);
      const expected = chacha20poly1305(key, nonce).encrypt(Uint8Array.of(1, 2, 3));
      const buffer = new Uint8Array(19);
      buffer.set([1, 2, 3]);
      chacha.sealer(key).seal(buffer, 0, 3, Number(counter & 0xffffffffn), Number(counter >> 32n));
      expect(hex(buffer), `counter ${counter}`).toBe(hex(expected));
    }
  });

  it.each(['chacha20poly1305', 'aes256gcm'] as const)('%s: one flipped bit anywhere is refused', (suite) => {
    const aead = crypto.aead(suite);
    const key = new Uint8Array(32).fill(7);
    const text = Uint8Array.from({ length: 5 }, (_, i) => i);
    const aad = Uint8Array.of(9);
    const sealed = aead.seal(key, 3, text, aad);
    expect(aead.open(key, 3, sealed, aad)).toEqual(text);
    for (let bit = 0; bit < sealed.length * 8; bit++) {
      const forged = sealed.slice();
      forged[bit >> 3]! ^= 1 << (bit & 7);
      expect(aead.open(key, 3, forged, aad)).toBeUndefined();
    }
    expect(aead.open(key, 4, sealed, aad)).toBeUndefined();
    expect(aead.open(key, 3, sealed, EMPTY)).toBeUndefined();
    expect(aead.open(key, 3, sealed.subarray(0, 15), aad)).toBeUndefined();
    const opener = aead.opener(key);
    const nothing = aead.seal(key, 3, EMPTY, EMPTY);
    expect(aead.open(key, 3, nothing, EMPTY)).toEqual(EMPTY);
    expect(opener.open(nothing, 0, 16, 3, 0)).toBe(true);
    // A counter above 32 bits is one number here and two halves there.
    expect(opener.open(aead.seal(key, 5 * 2 ** 32 + 6, text, EMPTY), 0, 21, 6, 5)).toBe(true);
    for (let length = 0; length < 16; length++) expect(opener.open(new Uint8Array(16), 0, length, 0, 0)).toBe(false);
  });

  it.each(['chacha20poly1305', 'aes256gcm'] as const)('%s: sealers and openers copy their key', (suite) => {
    const key = new Uint8Array(32).fill(7);
    const sealer = crypto.aead(suite).sealer(key);
    const opener = crypto.aead(suite).opener(key);
    wipe(key);
    expect(isZero(key)).toBe(true);
    const buffer = new Uint8Array(20);
    sealer.seal(buffer, 0, 4, 5, 6);
    expect(crypto.aead(suite).opener(new Uint8Array(32).fill(7)).open(buffer.slice(), 0, 20, 5, 6)).toBe(true);
    expect(opener.open(buffer.slice(), 0, 20, 5, 6)).toBe(true);
    opener.wipe();
    expect(opener.open(buffer, 0, 20, 5, 6)).toBe(false);
  });
});

describe('AES-256-GCM', () => {
  const cases = vectors<Suite<AeadCase>>('wycheproof/aes_gcm_test.json').testGroups.flatMap((group) => group.tests);

  it('gives every Wycheproof answer', () => {
    expect(cases.length).toBe(66);
    for (const c of cases) {
      const sealed = unhex(c.ct + c.tag);
      const open = (): Uint8Array => gcm(unhex(c.key), unhex(c.iv), unhex(c.aad)).decrypt(sealed);
      if (c.result === 'valid') {
        expect(hex(open()), `case ${c.tcId}`).toBe(c.msg);
        expect(gcm(unhex(c.key), unhex(c.iv), unhex(c.aad)).encrypt(unhex(c.msg))).toEqual(sealed);
      } else {
        expect(open, `case ${c.tcId} ${c.comment}`).toThrow();
      }
    }
  });

  it('puts 64-bit counters into the nonce in big endian, exactly', () => {
    const key = new Uint8Array(32).map((_, i) => i);
    for (const counter of [0n, 1n, 2n ** 32n - 1n, 2n ** 32n, 2n ** 53n + 1n, 2n ** 64n - 2n ** 13n - 2n]) {
      const nonce = new Uint8Array(12);
      new DataView(nonce.buffer).setBigUint64(4, counter);
      const expected = gcm(key, nonce).encrypt(Uint8Array.of(1, 2, 3));
      const buffer = new Uint8Array(19);
      buffer.set([1, 2, 3]);
      crypto
        .aead('aes256gcm')
        .sealer(key)
        .seal(buffer, 0, 3, Number(counter & 0xffffffffn), Number(counter >> 32n));
      expect(hex(buffer), `counter ${counter}`).toBe(hex(expected));
    }
  });
});

describe('XChaCha20-Poly1305', () => {
  it('gives every Wycheproof answer', () => {
    const cases = casesOf<AeadCase>('xchacha20_poly1305_test.json');
    expect(cases.length).toBe(315);
    for (const c of cases) {
      const sealed = concat(unhex(c.ct), unhex(c.tag));
      if (c.iv.length !== 48) {
        // The interface promises 24-byte nonces only; another size must not yield a plaintext.
        let opened: Uint8Array | undefined;
        try {
          opened = crypto.xopen(unhex(c.key), unhex(c.iv), sealed, unhex(c.aad));
        } catch {
          opened = undefined;
        }
        expect(opened, `case ${c.tcId}`).toBeUndefined();
        continue;
      }
      const opened = crypto.xopen(unhex(c.key), unhex(c.iv), sealed, unhex(c.aad));
      expect(opened && hex(opened), `case ${c.tcId} ${c.comment}`).toBe(c.result === 'valid' ? c.msg : undefined);
      if (c.result === 'valid') {
        expect(crypto.xseal(unhex(c.key), unhex(c.iv), unhex(c.msg), unhex(c.aad))).toEqual(sealed);
      }
    }
  });
});

describe('BLAKE2s', () => {
  const kat = vectors<{ readonly blake2s_kat: readonly string[]; readonly blake2s_keyed_kat: readonly string[] }>(
    'blake2/blake2s-kat.json',
  );
  const input = Uint8Array.from({ length: 256 }, (_, i) => i);

  it('gives all 256 unkeyed answers, however the input is cut', () => {
    expect(kat.blake2s_kat.length).toBe(256);
    for (const [length, digest] of kat.blake2s_kat.entries()) {
      const cut = length >> 1;
      expect(hex(crypto.hash(input.subarray(0, length)))).toBe(digest);
      expect(hex(crypto.hash(input.subarray(0, cut), EMPTY, input.subarray(cut, length)))).toBe(digest);
    }
  });

  it('gives all 256 keyed answers', () => {
    expect(kat.blake2s_keyed_kat.length).toBe(256);
    const key = input.subarray(0, 32);
    for (const [length, digest] of kat.blake2s_keyed_kat.entries()) {
      expect(hex(blake2s(input.subarray(0, length), { key }))).toBe(digest);
      // The interface's 16-byte MAC is a BLAKE2s of its own (the length is part of its parameters), not a prefix.
      const mac = crypto.mac(key, input.subarray(0, length >> 1), input.subarray(length >> 1, length));
      expect(mac).toEqual(blake2s(input.subarray(0, length), { key, dkLen: 16 }));
      expect(hex(mac)).not.toBe(digest.slice(0, 32));
    }
  });

  it('gives HMAC of RFC 2104 for keys below, at and above the block size', () => {
    for (const size of [0, 1, 32, 64, 65, 200]) {
      const key = input.subarray(0, size);
      const block = new Uint8Array(64);
      block.set(size > 64 ? crypto.hash(key) : key);
      const inner = crypto.hash(
        block.map((byte) => byte ^ 0x36),
        input,
      );
      expect(crypto.hmac(key, input)).toEqual(
        crypto.hash(
          block.map((byte) => byte ^ 0x5c),
          inner,
        ),
      );
    }
  });
});

describe('kdf', () => {
  const { vectors: cases } = vectors<{
    readonly vectors: readonly Record<'key' | 'input' | 't0' | 't1' | 't2', string>[];
  }>('wireguard-go/kdf.json');

  it.each(cases)('reproduces wireguard-go for key "$key"', (c) => {
    const all = [c.t0, c.t1, c.t2];
    for (const count of [1, 2, 3] as const) {
      expect(kdf(crypto, unhex(c.key), unhex(c.input), count).map((key) => hex(key))).toEqual(all.slice(0, count));
    }
  });
});

describe('equal', () => {
  it('compares content and length', () => {
    const a = Uint8Array.of(1, 2, 3);
    expect(crypto.equal(a, Uint8Array.of(1, 2, 3))).toBe(true);
    expect(crypto.equal(a, Uint8Array.of(1, 2, 4))).toBe(false);
    expect(crypto.equal(a, Uint8Array.of(0, 2, 3))).toBe(false);
    expect(crypto.equal(a, Uint8Array.of(1, 2))).toBe(false);
    expect(crypto.equal(Uint8Array.of(1, 2), a)).toBe(false);
    expect(crypto.equal(Uint8Array.of(1, 2, 0), Uint8Array.of(1, 2))).toBe(false);
    expect(crypto.equal(EMPTY, EMPTY)).toBe(true);
  });
});
