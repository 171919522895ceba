/** Tells which secrets there are, each as a line of JSON on standard output, masked so that what is told cannot be what is found. */
import { writeSync } from 'node:fs';

const MASK = 0xa5;

export function tell(what, bytes) {
  let text = '';
  for (const byte of bytes) text += (byte ^ MASK).toString(16).padStart(2, '0');
  writeSync(1, `${JSON.stringify({ what, masked: text })}\n`);
}

/** Passes everything through and tells what is secret. */
export function telling(crypto) {
  const tellingAead = (aead) => ({
    ...aead,
    sealer(key) {
      tell('session', key);
      return aead.sealer(key);
    },
    opener(key) {
      tell('session', key);
      return aead.opener(key);
    },
  });
  const aeads = {
    chacha20poly1305: tellingAead(crypto.aead('chacha20poly1305')),
    aes256gcm: tellingAead(crypto.aead('aes256gcm')),
  };
  return {
    ...crypto,
    publicKey(privateKey) {
      tell('ephemeral', privateKey);
      return crypto.publicKey(privateKey);
    },
    dh(privateKey, publicKey) {
      const shared = crypto.dh(privateKey, publicKey);
      tell('shared', shared);
      return shared;
    },
    hmac(key, ...inputs) {
      // The secret of a post-quantum exchange comes with a hash behind it; nothing else of this length is mixed in.
      if (inputs[0].length === 64) tell('encapsulated', inputs[0].subarray(0, 32));
      const output = crypto.hmac(key, ...inputs);
      tell('chaining', output);
      return output;
    },
    aead: (suite) => aeads[suite],
  };
}
