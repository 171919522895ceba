/** Key pairs and peers that nobody answers for, in base64. */
import { generatePrivateKey } from '@sealane/protocol';
import { selectCrypto } from '@sealane/tunnel';

/** @param {number} length */
export const random = (length) => crypto.getRandomValues(new Uint8Array(length));
/** @param {Uint8Array} bytes */
const base64 = (bytes) => Buffer.from(bytes).toString('base64');
const suite = selectCrypto();

/** @returns {import('./namespaces.mjs').Keys} */
export function newKeys() {
  const privateKey = generatePrivateKey(random);
  return { privateKey: base64(privateKey), publicKey: base64(suite.publicKey(privateKey)) };
}

/**
 * Peers with one address each that nobody plays.
 * @param {number} count
 * @returns {import('./namespaces.mjs').BenchPeer[]}
 */
export function silentPeers(count) {
  return Array.from({ length: count }, (_, i) => ({
    publicKey: newKeys().publicKey,
    allowedIps: [`10.${100 + (i >> 16)}.${(i >> 8) & 255}.${i & 255}/32`],
  }));
}

/**
 * Prefixes that no packet goes to.
 * @param {number} count
 */
export function unusedPrefixes(count) {
  return Array.from({ length: count }, (_, i) => `11.${(i >> 12) & 255}.${(i >> 4) & 255}.${(i & 15) << 4}/28`);
}
