/**
 * XChaCha20-Poly1305 through libcrypto, for cookie replies: the one cipher that strangers can make us use, so its cost bounds what a
 * flood of handshakes costs. HChaCha20 (draft-irtf-cfrg-xchacha section 2.2) is a block of ChaCha20 less what is added at its end.
 */
import { nobleCrypto, wipe, type Crypto } from '@sealane/protocol';
import { addressOf, foreign } from '../linux/foreign.ts';

/** "expand 32-byte k". */
const CONSTANTS = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574] as const;
const TAG_LENGTH = 16;
const EVP_CTRL_AEAD_GET_TAG = 0x10;
/** Longest plaintext, and longest associated data; a cookie reply has 16 bytes of each. */
const LONGEST = 256;
/** Places in the memory that C sees. */
const KEY = 0;
const LONG_NONCE = 32;
const NONCE = 48;
const BLOCK = 64;
const SUBKEY = 128;
const WRITTEN = 160;
const DATA = 192;
const TEXT = DATA + LONGEST;
const MEMORY = TEXT + LONGEST + TAG_LENGTH;

export function nativeXchacha(): Pick<Crypto, 'xseal'> {
  const init = foreign('int EVP_EncryptInit_ex(uintptr_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t)');
  const update = foreign('int EVP_EncryptUpdate(uintptr_t, uintptr_t, uintptr_t, uintptr_t, int)');
  const final = foreign('int EVP_EncryptFinal_ex(uintptr_t, uintptr_t, uintptr_t)');
  const control = foreign('int EVP_CIPHER_CTX_ctrl(uintptr_t, int, int, uintptr_t)');
  const create = foreign('uintptr_t EVP_CIPHER_CTX_new()');
  const [stream, aead] = [create(), create()];
  init(stream, foreign('uintptr_t EVP_chacha20()')(), 0, 0, 0);
  init(aead, foreign('uintptr_t EVP_chacha20_poly1305()')(), 0, 0, 0);
  const bytes = new Uint8Array(new ArrayBuffer(MEMORY));
  const words = new Uint32Array(bytes.buffer, 0, DATA >> 2);
  const base = addressOf(bytes);

  const deriveSubkey = (): void => {
    bytes.fill(0, BLOCK, BLOCK + 64);
    init(stream, 0, 0, base + KEY, base + LONG_NONCE);
    update(stream, base + BLOCK, base + WRITTEN, base + BLOCK, 64);
    for (let i = 0; i < 4; i++) {
      words[(SUBKEY >> 2) + i] = words[(BLOCK >> 2) + i]! - CONSTANTS[i]!;
      words[(SUBKEY >> 2) + 4 + i] = words[(BLOCK >> 2) + 12 + i]! - words[(LONG_NONCE >> 2) + i]!;
    }
  };

  return {
    xseal(key, nonce, plaintext, associatedData) {
      const { length } = plaintext;
      if (length > LONGEST || associatedData.length > LONGEST || nonce.length !== 24 || key.length !== 32)
        return nobleCrypto.xseal(key, nonce, plaintext, associatedData);
      bytes.set(key, KEY);
      // The first 16 bytes of the nonce go into the subkey; the last 8 follow 4 zeros.
      bytes.set(nonce.subarray(0, 16), LONG_NONCE);
      bytes.set(nonce.subarray(16), NONCE + 4);
      bytes.set(associatedData, DATA);
      bytes.set(plaintext, TEXT);
      deriveSubkey();
      init(aead, 0, 0, base + SUBKEY, base + NONCE);
      if (associatedData.length > 0) update(aead, 0, base + WRITTEN, base + DATA, associatedData.length);
      if (length > 0) update(aead, base + TEXT, base + WRITTEN, base + TEXT, length);
      final(aead, base + TEXT + length, base + WRITTEN);
      control(aead, EVP_CTRL_AEAD_GET_TAG, TAG_LENGTH, base + TEXT + length);
      const sealed = bytes.slice(TEXT, TEXT + length + TAG_LENGTH);
      wipe(bytes);
      return sealed;
    },
  };
}
