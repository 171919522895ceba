/** `Crypto` through node:crypto: no native call of ours, and what it lacks (keyed BLAKE2s, XChaCha20) from noble. */
import {
  createCipheriv,
  createDecipheriv,
  createHash,
  createHmac,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  timingSafeEqual,
  type CipherGCMTypes,
  type KeyObject,
} from 'node:crypto';
import {
  copySecret,
  nobleCrypto,
  wipe,
  type Aead,
  type CipherSuite,
  type Crypto,
  type PacketOpener,
  type PacketSealer,
} from '@sealane/protocol';

const TAG_LENGTH = 16;
const OPTIONS = { authTagLength: TAG_LENGTH };

/** The DER that stands before the 32 bytes of a key (RFC 8410). */
const PRIVATE_PREFIX = Uint8Array.from([48, 46, 2, 1, 0, 48, 5, 6, 3, 43, 101, 110, 4, 34, 4, 32]);
const PUBLIC_PREFIX = Uint8Array.from([48, 42, 48, 5, 6, 3, 43, 101, 110, 3, 33, 0]);

interface Suite {
  readonly name: CipherGCMTypes;
  readonly bigEndian: boolean;
}

const SUITES: Readonly<Record<CipherSuite, Suite>> = {
  // The type of the GCM names is what node:crypto gives AEADs; the two are used alike.
  chacha20poly1305: { name: 'chacha20-poly1305' as CipherGCMTypes, bigEndian: false },
  aes256gcm: { name: 'aes-256-gcm', bigEndian: true },
};

export const nodeCrypto: Crypto = {
  ...nobleCrypto,
  name: `node (openssl ${process.versions.openssl})`,
  publicKey(privateKey) {
    const der = createPublicKey(privateKeyObject(privateKey)).export({ format: 'der', type: 'spki' });
    return new Uint8Array(der.subarray(PUBLIC_PREFIX.length));
  },
  dh(privateKey, publicKey) {
    try {
      const theirs = createPublicKey({ key: concat([PUBLIC_PREFIX, publicKey]), format: 'der', type: 'spki' });
      const shared = diffieHellman({ privateKey: privateKeyObject(privateKey), publicKey: theirs });
      const result = copySecret(shared);
      wipe(shared);
      return result;
    } catch {
      // OpenSSL refuses a result of all zeros.
      return undefined;
    }
  },
  hash(...inputs) {
    const hash = createHash('blake2s256');
    for (const input of inputs) hash.update(input);
    return new Uint8Array(hash.digest());
  },
  hmac(key, ...inputs) {
    const hmac = createHmac('blake2s256', key);
    for (const input of inputs) hmac.update(input);
    const digest = hmac.digest();
    const result = copySecret(digest);
    wipe(digest);
    return result;
  },
  aead: (suite) => AEADS[suite],
  equal: (a, b) => a.length === b.length && timingSafeEqual(a, b),
};

const AEADS: Readonly<Record<CipherSuite, Aead>> = {
  chacha20poly1305: nodeAead(SUITES.chacha20poly1305),
  aes256gcm: nodeAead(SUITES.aes256gcm),
};

function nodeAead(suite: Suite): Aead {
  return {
    seal(key, counter, plaintext, associatedData) {
      const cipher = createCipheriv(
        suite.name,
        key,
        nonceOf(suite, counter >>> 0, Math.floor(counter / 2 ** 32)),
        OPTIONS,
      );
      cipher.setAAD(associatedData, { plaintextLength: plaintext.length });
      const body = cipher.update(plaintext);
      cipher.final();
      return concat([body, cipher.getAuthTag()]);
    },
    open(key, counter, ciphertext, associatedData) {
      const length = ciphertext.length - TAG_LENGTH;
      if (length < 0) return undefined;
      const nonce = nonceOf(suite, counter >>> 0, Math.floor(counter / 2 ** 32));
      const decipher = createDecipheriv(suite.name, key, nonce, OPTIONS);
      decipher.setAAD(associatedData, { plaintextLength: length });
      decipher.setAuthTag(ciphertext.subarray(length));
      const plain = decipher.update(ciphertext.subarray(0, length));
      try {
        decipher.final();
        return new Uint8Array(plain);
      } catch {
        return undefined;
      }
    },
    sealer: (key) => new NodePacketCipher(suite, key),
    opener: (key) => new NodePacketCipher(suite, key),
  };
}

class NodePacketCipher implements PacketSealer, PacketOpener {
  readonly #suite: Suite;
  readonly #key: Uint8Array;

  constructor(suite: Suite, key: Uint8Array) {
    this.#suite = suite;
    this.#key = copySecret(key);
  }

  seal(buffer: Uint8Array, offset: number, length: number, low: number, high: number): void {
    const cipher = createCipheriv(this.#suite.name, this.#key, nonceOf(this.#suite, low, high), OPTIONS);
    buffer.set(cipher.update(buffer.subarray(offset, offset + length)), offset);
    cipher.final();
    buffer.set(cipher.getAuthTag(), offset + length);
  }

  open(buffer: Uint8Array, offset: number, length: number, low: number, high: number): boolean {
    const plain = length - TAG_LENGTH;
    if (plain < 0) return false;
    const decipher = createDecipheriv(this.#suite.name, this.#key, nonceOf(this.#suite, low, high), OPTIONS);
    decipher.setAuthTag(buffer.subarray(offset + plain, offset + length));
    const opened = decipher.update(buffer.subarray(offset, offset + plain));
    try {
      decipher.final();
    } catch {
      return false;
    }
    buffer.set(opened, offset);
    return true;
  }

  wipe(): void {
    wipe(this.#key);
  }
}

/** Noise sections 12.3 and 12.4: 32 zero bits, then the counter. */
function nonceOf(suite: Suite, low: number, high: number): Uint8Array {
  const nonce = new Uint8Array(12);
  const view = new DataView(nonce.buffer);
  view.setUint32(4, suite.bigEndian ? high : low, !suite.bigEndian);
  view.setUint32(8, suite.bigEndian ? low : high, !suite.bigEndian);
  return nonce;
}

function privateKeyObject(privateKey: Uint8Array): KeyObject {
  // Not from Buffer's pool, where what lies beside it would keep it.
  const der = Buffer.from(new ArrayBuffer(PRIVATE_PREFIX.length + privateKey.length));
  der.set(PRIVATE_PREFIX);
  der.set(privateKey, PRIVATE_PREFIX.length);
  try {
    return createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
  } finally {
    wipe(der);
  }
}

function concat(parts: readonly Uint8Array[]): Buffer {
  return Buffer.concat(parts);
}
