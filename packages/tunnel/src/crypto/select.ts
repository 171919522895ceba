import { CIPHER_SUITES, nobleCrypto, type Crypto } from '@sealane/protocol';
import { nativeCrypto } from './native.ts';
import { nodeCrypto } from './node.ts';

export type CryptoKind = 'native' | 'node' | 'noble';

/** The order of preference, fastest first. */
export const CRYPTO_KINDS: readonly CryptoKind[] = ['native', 'node', 'noble'];

const MAKERS: Readonly<Record<CryptoKind, () => Crypto>> = {
  native: nativeCrypto,
  node: () => nodeCrypto,
  noble: () => nobleCrypto,
};

const selected = new Map<CryptoKind, Crypto>();

/**
 * The fastest implementation that works here, beginning with `preferred`: each must give the known answers first, once a
 * thread. Throws only when not even noble does.
 */
export function selectCrypto(preferred: CryptoKind = 'native'): Crypto {
  const known = selected.get(preferred);
  if (known !== undefined) return known;
  const crypto = firstThatWorks(preferred);
  selected.set(preferred, crypto);
  return crypto;
}

function firstThatWorks(preferred: CryptoKind): Crypto {
  for (const kind of CRYPTO_KINDS.slice(CRYPTO_KINDS.indexOf(preferred))) {
    try {
      const crypto = MAKERS[kind]();
      if (givesKnownAnswers(crypto)) return crypto;
    } catch {
      // Not to be had on this system: the next one serves, and status names it.
    }
  }
  throw new Error('no cryptography on this system gives the right answers');
}

const KEY = Uint8Array.from({ length: 32 }, (_, i) => i + 1);
const PEER = Uint8Array.from({ length: 32 }, (_, i) => 255 - i);
const TEXT = Uint8Array.from({ length: 100 }, (_, i) => i * 7);

/** Answers of these inputs, made with the reference implementation and checked against a second one in the tests. */
export const KNOWN_ANSWERS = {
  publicKey: '07a37cbc142093c8b755dc1b10e86cb426374ad16aa853ed0bdfc0b2b86d1c7c',
  dh: 'db7daeba5e8124d23771e50172f8ba355ed34229cfd8f984d7065c52af0bd758',
  hash: '8c5b1ab8d654380db30d2509d4aec3fb8022582aa4b260876e1f02729ba76b84',
  hmac: '6e1682424765ca86ba406f492b4941aeabb95777ef4e157585883bf3f4d7620a',
  mac: 'f9c689c191dfd0f7c93e42212d83289a',
  xseal:
    '36cb8cdb284de62ef983997eaf503a164c61da0aeb323e1f4854f4f9167f5044382b076d05b863b87e1b167b7443c8ca979dcf10946a3a978d5241a5ae2ebaeb3b8847eeac62179f93add72cd2be68c18a20698cc32451ba6562fc4d811ab8e9328553830de51a15e78fc319c896597fd605346b',
  chacha20poly1305:
    '291e33efdeae8ecf4f6f6df0c4a3135c743cfe22e719f9861b41051c6ea8880003b40d5092b41c317135d9ebc4c8008f1f3a3027a42ff2822e8563829a80c1dc6403a0e2c649fb3fb2d699da846be61365afccf6361b372dd13c0582e7eea9c9a84ab1dae13bd72f714ef04e7a49e6e93f89ddc8',
  aes256gcm:
    '7494f570c14ede687d293da7500522b895a33241b398e8973977885b88f20a5f0566a4c48e0e07ff3132cadbd2612010ee173c0d4680b86a985002c577fccf48f1c968eb67f760a4fc53f6d027a4eefbfcc6d0cf0dc71cf4103e93dd9029169b4f11e68d7a8c92b5e3b5ddf77094afcad8fa2657',
} as const;

/** Whether every primitive gives the answers that it must, and refuses what it must. */
export function givesKnownAnswers(crypto: Crypto): boolean {
  const shared = crypto.dh(KEY, PEER);
  return (
    hex(crypto.publicKey(KEY)) === KNOWN_ANSWERS.publicKey &&
    shared !== undefined &&
    hex(shared) === KNOWN_ANSWERS.dh &&
    crypto.dh(KEY, new Uint8Array(32)) === undefined &&
    hex(crypto.hash(KEY, TEXT)) === KNOWN_ANSWERS.hash &&
    hex(crypto.hmac(KEY, TEXT, PEER)) === KNOWN_ANSWERS.hmac &&
    hex(crypto.mac(KEY, TEXT)) === KNOWN_ANSWERS.mac &&
    hex(crypto.xseal(KEY, TEXT.subarray(0, 24), TEXT, PEER)) === KNOWN_ANSWERS.xseal &&
    CIPHER_SUITES.every((suite) => packetsAreRight(crypto, suite))
  );
}

function packetsAreRight(crypto: Crypto, suite: (typeof CIPHER_SUITES)[number]): boolean {
  const aead = crypto.aead(suite);
  const sealer = aead.sealer(KEY);
  const opener = aead.opener(KEY);
  try {
    const packet = new Uint8Array(TEXT.length + 32);
    packet.set(TEXT, 16);
    sealer.seal(packet, 16, TEXT.length, 0x8899_aabb, 0x0102_0304);
    if (hex(packet.subarray(16)) !== KNOWN_ANSWERS[suite]) return false;
    packet[20]! ^= 1;
    const forged = packet.slice();
    packet[20]! ^= 1;
    if (opener.open(forged, 16, TEXT.length + 16, 0x8899_aabb, 0x0102_0304)) return false;
    if (!opener.open(packet, 16, TEXT.length + 16, 0x8899_aabb, 0x0102_0304)) return false;
    return hex(packet.subarray(16, 16 + TEXT.length)) === hex(TEXT);
  } finally {
    sealer.wipe();
    opener.wipe();
  }
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}
