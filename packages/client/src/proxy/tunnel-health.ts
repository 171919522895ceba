/** Tells a tunnel that does not stand, or does not lead there, from a destination that does not answer. */
import { formatKey, type PeerStatus } from '@sealane/protocol';
import { formatEndpoint, NotRoutedError, type UserspaceTunnel } from '@sealane/tunnel';
import { errorCode } from '../errors.ts';
import type { Complaints } from './complaints.ts';

/** The far side of the tunnel is silent, so nobody behind it could answer. */
export class NoSessionError extends Error {
  override readonly name = 'NoSessionError';
  readonly code = 'ENETDOWN';
}

/** What silence looks like. */
const SILENT: ReadonlySet<string> = new Set(['ETIMEDOUT', 'EAI_AGAIN']);
const DOWN = 'the tunnel';

export class TunnelHealth {
  readonly #tunnel: Pick<UserspaceTunnel, 'status' | 'peerFor'>;
  readonly #complaints: Complaints;

  constructor(tunnel: Pick<UserspaceTunnel, 'status' | 'peerFor' | 'on'>, complaints: Complaints) {
    this.#tunnel = tunnel;
    this.#complaints = complaints;
    tunnel.on('session', () => complaints.settle(DOWN));
  }

  /** The error of a connection or a lookup through the tunnel, or a NoSessionError that it comes from. */
  async explain(error: unknown): Promise<unknown> {
    const notRouted = notRoutedIn(error);
    if (notRouted !== undefined) {
      this.#complaints.raise(notRouted.message, notRouted.message);
      return error;
    }
    if (!SILENT.has(errorCode(error) ?? '')) return error;
    const address = error instanceof Error && 'address' in error ? String(error.address) : '';
    try {
      const silent = await this.#silentPeer(address);
      if (silent === undefined) return error;
      const message = describe(silent);
      this.#complaints.raise(DOWN, message);
      return new NoSessionError(message, { cause: error });
    } catch {
      // A tunnel that was closed meanwhile has nothing to say.
      return error;
    }
  }

  /** The peer that the address is behind, or any one for a name, if none of them is there. */
  async #silentPeer(address: string): Promise<PeerStatus | undefined> {
    const { device } = await this.#tunnel.status();
    const publicKey = this.#tunnel.peerFor(address);
    const key = publicKey === undefined ? undefined : formatKey(publicKey);
    const peers = device.peers.filter((peer) => key === undefined || formatKey(peer.publicKey) === key);
    return peers.every(isSilent) ? peers[0] : undefined;
  }
}

/** The NotRoutedError that an error comes from. */
export function notRoutedIn(error: unknown): NotRoutedError | undefined {
  for (let at = error, depth = 0; at instanceof Error && depth < 5; at = at.cause, depth++) {
    if (at instanceof NotRoutedError) return at;
  }
  return undefined;
}

/** A session lasts longer than the peer may. */
function isSilent({ session, unanswered }: PeerStatus): boolean {
  return session === undefined || unanswered !== undefined;
}

function describe({ publicKey, endpoint }: PeerStatus): string {
  const where = endpoint === undefined ? `no endpoint of ${formatKey(publicKey)} is known` : formatEndpoint(endpoint);
  return endpoint === undefined
    ? `the tunnel has no session: ${where}`
    : `the tunnel has no session: ${where} does not answer the handshake`;
}
