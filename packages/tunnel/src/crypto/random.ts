import { getRandomValues } from 'node:crypto';
import { secretBytes } from '@sealane/protocol';

/** Random bytes of the system, up to 65,536, where a secret may lie. */
export function randomSecret(length: number): Uint8Array {
  const bytes = secretBytes(length);
  getRandomValues(bytes);
  return bytes;
}
