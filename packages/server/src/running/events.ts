import type { DropReason } from '@sealane/protocol';
import { formatEndpoint, type Log, type TunnelEvent } from '@sealane/tunnel';

/** What the operator reads; the sender of the packet is never told. */
const CAUSES: Partial<Record<DropReason, string>> = {
  'bad-mac1': 'it was made for another server key',
  'cookie-required': 'under load: the sender must prove its address first',
  'rate-limited': 'under load: too many from this address',
  'handshake-queue-full': 'too many handshakes at once',
  'unknown-peer': 'its key is none of the peers',
  'handshake-failed': 'wrong key or wrong preshared key',
  'cipher-mismatch': "it uses another cipher than its peer entry: both ends need the same 'Cipher'",
  'stale-timestamp':
    "its timestamp is not newer than the last one: a replay, or the peer's clock was set back ('sealaned peer set NAME --forget-timestamp')",
  'initiation-flood': 'too soon after the one before',
};

/** Writes an event of the tunnel to the log; all of them can be caused from outside, so all are limited. */
export function logEvent(log: Log, event: TunnelEvent, nameOf: (publicKey: Uint8Array) => string): void {
  switch (event.type) {
    case 'session': {
      const peer = nameOf(event.publicKey);
      const { role, number, handshakeMs, hedged } = event;
      const fields = { peer, role, number, handshakeMs, hedged };
      log.limited('session', `session ${number} with ${peer} (${role})`, fields, `sessions of ${peer}`);
      return;
    }
    case 'roamed': {
      const peer = nameOf(event.publicKey);
      const endpoint = formatEndpoint(event.endpoint);
      log.limited('roamed', `${peer} is at ${endpoint}`, { peer, endpoint }, `moves of ${peer}`);
      return;
    }
    case 'expired': {
      const peer = nameOf(event.publicKey);
      log.limited('expired', `the keys of ${peer} are erased`, { peer }, `expiries of ${peer}`);
      return;
    }
    case 'unanswered': {
      const peer = nameOf(event.publicKey);
      const { initiations } = event;
      const message = `${peer} did not answer ${initiations} handshakes`;
      log.limited('unanswered', message, { peer, initiations }, `silence of ${peer}`);
      return;
    }
    case 'cookie-received': {
      const peer = nameOf(event.publicKey);
      const message = `${peer} is under load and asks for proof of address`;
      log.limited('cookie-received', message, { peer }, `cookies of ${peer}`);
      return;
    }
    case 'handshake-refused': {
      const { reason } = event;
      const peer = nameOf(event.publicKey);
      const endpoint = formatEndpoint(event.endpoint);
      const message = `refused a handshake of ${peer} from ${endpoint}: ${CAUSES[reason] ?? reason}`;
      log.limited('handshake-refused', message, { reason, peer, endpoint }, `handshakes refused as ${reason}`);
      return;
    }
    case 'note':
      log.once('note', event.text);
      return;
    case 'closed':
      return;
  }
}
