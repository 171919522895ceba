import type { KeypairInput } from '../../src/keypair.ts';

/** An initiator's session that began at 0, with these ciphers: what a test is not about. */
export function keypairInput(ciphers: Pick<KeypairInput, 'sealer' | 'opener'>): KeypairInput {
  const session = { isInitiator: true, localIndex: 1, remoteIndex: 2, createdAt: 0, renewAt: 120_000 };
  return { ...ciphers, ...session, yields: false, derivedKey: 0 };
}
