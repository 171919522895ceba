/**
 * `Crypto` through libcrypto, which the node binary contains and exports. The data path is made of as few calls as possible:
 * a call costs 50 ns and a packet 500 ns. Everything off the data path goes through small copies in a scratch buffer.
 */
import { copySecret, nobleCrypto, wipe, type Aead, type CipherSuite, type Crypto } from '@sealane/protocol';
import { addressOf, foreign } from '../linux/foreign.ts';
import { nativeChacha } from './native-chacha.ts';
import { bindEvp, evpPacketCipher } from './native-evp.ts';
import { nativeGcm } from './native-gcm.ts';
import { nativeXchacha } from './native-xchacha.ts';
import { nodeCrypto } from './node.ts';

/** Longer inputs do not occur in handshakes; those that do come go to noble. */
const SCRATCH = 4_096;
const RESULT = SCRATCH - 64;
const STATE_KEY = SCRATCH - 128;

/** Throws when this node binary does not export what is needed, or koffi cannot be loaded. */
export function nativeCrypto(): Crypto {
  const evp = bindEvp();
  const scratch = new Uint8Array(new ArrayBuffer(SCRATCH));
  const base = addressOf(scratch);
  const aead = (suite: CipherSuite): Aead => {
    const parts = suite === 'chacha20poly1305' ? nativeChacha() : nativeGcm();
    return { ...nodeCrypto.aead(suite), ...(parts ?? evpPacketCipher(evp[suite])) };
  };
  const aeads: Readonly<Record<CipherSuite, Aead>> = {
    chacha20poly1305: aead('chacha20poly1305'),
    aes256gcm: aead('aes256gcm'),
  };

  return {
    ...nodeCrypto,
    ...bindX25519(),
    ...bindBlake2s(scratch, base),
    ...nativeXchacha(),
    name: `native (libcrypto ${process.versions.openssl})`,
    aead: (suite) => aeads[suite],
  };
}

/** X25519 without the key objects of EVP, which compute the public key each time; nothing where it is not exported. */
function bindX25519(): Partial<Crypto> {
  let multiply: ReturnType<typeof foreign>;
  let multiplyBase: ReturnType<typeof foreign>;
  try {
    multiply = foreign('int ossl_x25519(uintptr_t, uintptr_t, uintptr_t)');
    multiplyBase = foreign('void ossl_x25519_public_from_private(uintptr_t, uintptr_t)');
  } catch {
    return {};
  }
  const bytes = new Uint8Array(new ArrayBuffer(96));
  const at = addressOf(bytes);
  const take = (): Uint8Array => {
    const result = copySecret(bytes.subarray(64));
    wipe(bytes);
    return result;
  };
  return {
    publicKey(privateKey) {
      bytes.set(privateKey);
      multiplyBase(at + 64, at);
      return take();
    },
    dh(privateKey, publicKey) {
      bytes.set(privateKey);
      bytes.set(publicKey, 32);
      // 0 when the result is all zeros.
      const made = multiply(at + 64, at, at + 32);
      const result = take();
      return made === 1 ? result : undefined;
    },
  };
}

/** BLAKE2s of OpenSSL: EVP_MD for the hash (and HMAC from it, RFC 2104), EVP_MAC for the keyed one. */
function bindBlake2s(scratch: Uint8Array, base: number): Partial<Crypto> {
  const init = foreign('int EVP_DigestInit_ex(uintptr_t, uintptr_t, uintptr_t)');
  const update = foreign('int EVP_DigestUpdate(uintptr_t, uintptr_t, size_t)');
  const final = foreign('int EVP_DigestFinal_ex(uintptr_t, uintptr_t, uintptr_t)');
  const context = foreign('uintptr_t EVP_MD_CTX_new()')();
  const blake2s256 = foreign('uintptr_t EVP_blake2s256()')();
  const result = base + RESULT;

  /** Hashes `prefix` bytes that lie in the scratch already and the inputs behind them. */
  const digest = (prefix: number, inputs: readonly Uint8Array[]): Uint8Array | undefined => {
    const length = gather(scratch, prefix, inputs);
    if (length === undefined) return undefined;
    init(context, blake2s256, 0);
    update(context, base, length);
    final(context, result, 0);
    const hash = copySecret(scratch.subarray(RESULT, RESULT + 32));
    scratch.fill(0, 0, length);
    scratch.fill(0, RESULT, RESULT + 32);
    return hash;
  };
  const hash = (...inputs: readonly Uint8Array[]): Uint8Array => digest(0, inputs) ?? nobleCrypto.hash(...inputs);

  return {
    hash,
    hmac(key, ...inputs) {
      if (key.length > 64) return nobleCrypto.hmac(key, ...inputs);
      const pad = (byte: number): void => {
        scratch.fill(byte, 0, 64);
        for (let i = 0; i < key.length; i++) scratch[i] = key[i]! ^ byte;
      };
      pad(0x36);
      const inner = digest(64, inputs);
      if (inner === undefined) {
        scratch.fill(0, 0, 64);
        return nobleCrypto.hmac(key, ...inputs);
      }
      pad(0x5c);
      const outer = digest(64, [inner])!;
      wipe(inner);
      return outer;
    },
    ...bindMac(scratch, base),
  };
}

function bindMac(scratch: Uint8Array, base: number): Partial<Crypto> {
  const fetch = foreign('uintptr_t EVP_MAC_fetch(uintptr_t, str, uintptr_t)') as unknown as (
    library: number,
    name: string,
    properties: number,
  ) => number;
  const algorithm = fetch(0, 'BLAKE2SMAC', 0);
  if (algorithm === 0) return {};
  const context = foreign('uintptr_t EVP_MAC_CTX_new(uintptr_t)')(algorithm);
  const init = foreign('int EVP_MAC_init(uintptr_t, uintptr_t, size_t, uintptr_t)');
  const update = foreign('int EVP_MAC_update(uintptr_t, uintptr_t, size_t)');
  const final = foreign('int EVP_MAC_final(uintptr_t, uintptr_t, uintptr_t, size_t)');

  const parameters = new Uint8Array(new ArrayBuffer(128));
  const view = new DataView(parameters.buffer);
  const at = addressOf(parameters);
  // { "size", OSSL_PARAM_UNSIGNED_INTEGER, &16, sizeof(size_t) } and the empty one that ends the list.
  parameters.set([0x73, 0x69, 0x7a, 0x65], 80);
  view.setBigUint64(96, 16n, true);
  view.setBigUint64(0, BigInt(at + 80), true);
  view.setUint32(8, 2, true);
  view.setBigUint64(16, BigInt(at + 96), true);
  view.setBigUint64(24, 8n, true);

  return {
    mac(key, ...inputs) {
      const length = gather(scratch, 0, inputs);
      if (length === undefined || key.length === 0 || key.length > 32) return nobleCrypto.mac(key, ...inputs);
      scratch.set(key, STATE_KEY);
      // Taken anew each time: this is also what keeps the parameters reachable.
      init(context, base + STATE_KEY, key.length, addressOf(parameters));
      update(context, base, length);
      final(context, base + RESULT, 0, 16);
      // No key of a session: what it proves is where a datagram came from, and strangers can make us compute it.
      const mac = scratch.slice(RESULT, RESULT + 16);
      scratch.fill(0, RESULT, RESULT + 16);
      scratch.fill(0, 0, length);
      scratch.fill(0, STATE_KEY, STATE_KEY + 32);
      return mac;
    },
  };
}

/** Copies the inputs one after another from `offset`; returns where they end, or undefined when there is no room. */
function gather(scratch: Uint8Array, offset: number, inputs: readonly Uint8Array[]): number | undefined {
  let end = offset;
  for (const input of inputs) end += input.length;
  if (end > STATE_KEY) return undefined;
  let at = offset;
  for (const input of inputs) {
    scratch.set(input, at);
    at += input.length;
  }
  return end;
}
