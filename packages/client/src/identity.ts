import { createHash } from 'node:crypto';
import { selectCrypto, type TunnelConfig } from '@sealane/tunnel';

/** Names what is kept for a key, whatever its interface is called; says nothing about the key. */
export function identityOf(config: TunnelConfig): string {
  const publicKey = selectCrypto().publicKey(config.interface.privateKey);
  return createHash('sha256').update(publicKey).digest('hex').slice(0, 16);
}
