/**
 * Preloaded into a process and all its threads: tells every 32 random bytes that somebody takes of those that were drawn at once, as an ephemeral
 * key (as drawn and as X25519 has them).
 */
const { webcrypto } = require('node:crypto');
const { writeSync } = require('node:fs');

/** Where bytes were drawn. The function of node:crypto, which cannot be replaced, asks this one. */
const pools = [];
const cryptos = Object.getPrototypeOf(webcrypto);
const draw = cryptos.getRandomValues;
cryptos.getRandomValues = function (bytes) {
  if (!pools.some(({ buffer, byteOffset }) => buffer === bytes.buffer && byteOffset === bytes.byteOffset)) {
    pools.push(bytes);
  }
  return draw.call(this, bytes);
};

const arrays = Object.getPrototypeOf(Uint8Array.prototype);
const set = arrays.set;
arrays.set = function (source, offset) {
  if (source.length === 32 && pools.some((pool) => liesIn(pool, source))) {
    const lowest = (byte) => byte & 248;
    const highest = (byte) => (byte & 127) | 64;
    tell(source, (byte) => byte);
    tell(source, (byte, i) => (i === 0 ? lowest(byte) : i === 31 ? highest(byte) : byte));
  }
  return set.call(this, source, offset);
};

function liesIn(pool, bytes) {
  const at = bytes.byteOffset - pool.byteOffset;
  return bytes.buffer === pool.buffer && at >= 0 && at < pool.length;
}

function tell(bytes, change) {
  let text = '';
  for (let i = 0; i < 32; i++) text += (change(bytes[i], i) ^ 0xa5).toString(16).padStart(2, '0');
  writeSync(1, `${JSON.stringify({ what: 'own ephemeral', masked: text })}\n`);
}
