import { getRandomValues } from 'node:crypto';
import { secretBytes } from '@sealane/protocol';

/** Drawn at once: asking the system for a key's worth takes as long as for a page. */
const POOL_BYTES = 4_096;
const LARGEST_SHARE = 64;

const pool = secretBytes(POOL_BYTES);
let left = 0;

/** Random bytes of the system, up to 65,536, where a secret may lie. */
export function randomSecret(length: number): Uint8Array {
  const bytes = secretBytes(length);
  if (length > LARGEST_SHARE) {
    getRandomValues(bytes);
    return bytes;
  }
  if (left < length) {
    getRandomValues(pool);
    left = POOL_BYTES;
  }
  const share = pool.subarray(left - length, left);
  bytes.set(share);
  // Whoever reads the pool later learns nothing of what was given out.
  share.fill(0);
  left -= length;
  return bytes;
}
