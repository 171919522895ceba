/** The initiator's first step: an initiation of our own, made and remembered until its response. */
import type { DeviceContext, Outbox } from './context.ts';
import { copySecret, wipe } from './crypto.ts';
import type { DerivedKey } from './derived-keys.ts';
import type { Endpoint } from './endpoint.ts';
import { createInitiation, prologue, wipePending, type PendingInitiation } from './handshake.ts';
import { KEY_LENGTH } from './keys.ts';
import { encodeInitiation } from './messages.ts';
import type { Peer } from './peer.ts';
import type { Timestamp } from './tai64n.ts';
import { labelled, laterOf, timestampAfter } from './tai64n.ts';

/** Our initiation that waits for its response. */
export interface PendingHandshake extends PendingInitiation {
  readonly index: number;
  readonly sentAt: number;
  readonly timestamp: Timestamp;
  /** A copy of the post-quantum preshared key that we asked for. */
  readonly derivedKey: DerivedKey | undefined;
}

/**
 * Sends an initiation, strictly later than `sentTimestamp`, in place of the one that waits. Undefined, and nothing is sent,
 * without private key, without endpoint and to low-order keys.
 */
export function initiate(
  context: DeviceContext,
  peer: Peer,
  endpoint: Endpoint | undefined,
  sentTimestamp: Timestamp | undefined,
  out: Outbox,
): PendingHandshake | undefined {
  const { identity, crypto, random, indexes } = context;
  const staticShared = peer.staticShared();
  if (identity === undefined || staticShared === undefined || endpoint === undefined) return undefined;
  const timestamp = timestampAfter(laterOf(sentTimestamp, context.timestampFloor), out.unixMs);
  const asked = peer.postQuantum?.keys.newestShared;
  const start = prologue(crypto, peer.cipherSuite, peer.publicKey);
  const created = createInitiation(crypto, start, {
    identity,
    remoteStatic: peer.publicKey,
    staticShared,
    ephemeralPrivate: random(KEY_LENGTH),
    timestamp: labelled(timestamp, asked?.name ?? 0),
  });
  start.wipe();
  if (created === undefined) return undefined;
  peer.discardPending();
  const index = indexes.insert({ peer, keypair: undefined });
  context.timestamp = laterOf(context.timestamp, timestamp);
  const bytes = encodeInitiation({ sender: index, ...created.message });
  peer.cookies.addMacs(bytes, out.now);
  out.datagrams.push({ endpoint, bytes, kind: 'handshake', peer });
  peer.txBytes += bytes.length;
  const derivedKey = asked && { ...asked, key: copySecret(asked.key) };
  return { ...created.pending, index, sentAt: out.now, timestamp, derivedKey };
}

/** Erases what an initiation that is answered or given up leaves behind. */
export function forget(pending: PendingHandshake): void {
  wipePending(pending);
  wipe(pending.derivedKey?.key);
}
