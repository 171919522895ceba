import type { DropReason } from '@sealane/protocol';
import { formatEndpoint, type TunnelEvent } from '@sealane/tunnel';
import type { Log } from './log.ts';

/** What the operator reads; the sender of the packet is never told. */
const CAUSES: Partial<Record<DropReason, string>> = {
  'bad-mac1': 'it was made for another server key',
  'cookie-required': 'under load: the sender must prove its address first',
  'rate-limited': 'under load: too many from this address',
  'handshake-queue-full': 'too many handshakes at once',
  'unknown-peer': 'its key is none of the peers',
  'handshake-failed': 'wrong key or wrong preshared key',
  'stale-timestamp': "its timestamp is not newer than the last one: a replay, or the peer's clock was set back",
  'initiation-flood': 'too soon after the one before',
};

/** Writes an event of the tunnel to the log; all of them can be caused from outside, so all are limited. */
export function logEvent(log: Log, event: TunnelEvent, nameOf: (publicKey: Uint8Array) => string): void {
  switch (event.type) {
    case 'session': {
      const peer = nameOf(event.publicKey);
      const { role, number, handshakeMs, hedged } = event;
      const fields = { peer, role, number, handshakeMs, hedged };
      log.limited(`sessions of ${peer}`, 'session', `session ${number} with ${peer} (${role})`, fields);
      return;
    }
    case 'roamed': {
      const peer = nameOf(event.publicKey);
      const endpoint = formatEndpoint(event.endpoint);
      log.limited(`moves of ${peer}`, 'roamed', `${peer} is at ${endpoint}`, { peer, endpoint });
      return;
    }
    case 'expired': {
      const peer = nameOf(event.publicKey);
      log.limited(`expiries of ${peer}`, 'expired', `the keys of ${peer} are erased`, { peer });
      return;
    }
    case 'unanswered': {
      const peer = nameOf(event.publicKey);
      const { initiations } = event;
      log.limited(`silence of ${peer}`, 'unanswered', `${peer} did not answer ${initiations} handshakes`, {
        peer,
        initiations,
      });
      return;
    }
    case 'cookie-received': {
      const peer = nameOf(event.publicKey);
      log.limited(`cookies of ${peer}`, 'cookie-received', `${peer} is under load and asks for proof of address`, {
        peer,
      });
      return;
    }
    case 'handshake-refused': {
      const { reason } = event;
      const peer = nameOf(event.publicKey);
      const endpoint = formatEndpoint(event.endpoint);
      const message = `refused a handshake of ${peer} from ${endpoint}: ${CAUSES[reason] ?? reason}`;
      log.limited(`handshakes refused as ${reason}`, 'handshake-refused', message, { reason, peer, endpoint });
      return;
    }
    case 'closed':
      return;
  }
}
