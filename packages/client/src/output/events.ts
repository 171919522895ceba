import { formatKey } from '@sealane/protocol';
import { formatEndpoint, formatMilliseconds, type Log, type TunnelEvent } from '@sealane/tunnel';

const CIPHER_MISMATCH = "cipher-mismatch; write the same 'Cipher' in [Peer] at both ends";

/** One line for an event that a person watching wants to know; undefined for the others. */
export function eventLine(event: TunnelEvent): string | undefined {
  switch (event.type) {
    case 'session': {
      const took = event.handshakeMs === undefined ? '' : ` in ${formatMilliseconds(event.handshakeMs)}`;
      return event.number === 1 ? `first session with ${short(event.publicKey)}${took}` : undefined;
    }
    case 'roamed':
      return `${short(event.publicKey)} moved to ${formatEndpoint(event.endpoint)}`;
    case 'unanswered':
      return `${short(event.publicKey)} did not answer ${event.initiations} handshakes; waiting for new traffic`;
    case 'handshake-refused':
      return `a handshake was refused: ${event.reason === 'cipher-mismatch' ? CIPHER_MISMATCH : event.reason}`;
    case 'expired':
    case 'cookie-received':
    case 'note':
    case 'closed':
      break;
  }
  return undefined;
}

/** Writes such an event to the log; all of them can be caused from outside, so all are limited. */
export function logTunnelEvent(log: Log, name: string, event: TunnelEvent): void {
  const line = eventLine(event);
  if (line === undefined || event.type === 'closed' || event.type === 'note') return;
  const peer = 'publicKey' in event && event.publicKey !== undefined ? formatKey(event.publicKey) : undefined;
  log.limited(event.type, `${name}: ${line}`, { name, peer });
}

/** The beginning of a public key. */
function short(publicKey: Uint8Array): string {
  return `${formatKey(publicKey).slice(0, 8)}...`;
}
