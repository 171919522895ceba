/**
 * What arrives on the control side: initiations, responses and cookie replies, each checked in the order of the paper
 * (section 5.4.7) and committed only when it is authentic. Every function returns the reason of a drop, or undefined.
 */
import { HANDSHAKE_INITIATION_INTERVAL } from './constants.ts';
import type { DeviceContext, IndexEntry, LocalIdentity, Outbox } from './context.ts';
import type { CipherSuite } from './crypto.ts';
import { CIPHER_SUITES, wipe } from './crypto.ts';
import type { DropReason } from './drops.ts';
import type { Endpoint } from './endpoint.ts';
import type { OpenedInitiation, TransportKeys } from './handshake.ts';
import { authenticateInitiation, consumeResponse, createResponse, openInitiation } from './handshake.ts';
import { isSmaller, KEY_LENGTH } from './keys.ts';
import type { Initiation } from './messages.ts';
import {
  decodeCookieReply,
  decodeInitiation,
  decodeResponse,
  encodeResponse,
  INITIATION,
  MESSAGE,
  RESPONSE,
} from './messages.ts';
import { forget } from './initiator.ts';
import type { Peer } from './peer.ts';
import type { RateLimiter } from './ratelimiter.ts';
import { isAfter } from './tai64n.ts';

export interface Admission {
  readonly underLoad: boolean;
  readonly limiter: RateLimiter;
}

export type FindPeer = (publicKey: Uint8Array) => Peer | undefined;

/** Processes one well-formed handshake message, whose mac1 was right when it came. */
export function receiveHandshake(
  context: DeviceContext,
  findPeer: FindPeer,
  bytes: Uint8Array,
  source: Endpoint,
  admission: Admission,
  out: Outbox,
): DropReason | undefined {
  const { identity } = context;
  if (identity === undefined) return 'device-down';
  if (bytes[0] === MESSAGE.cookieReply) return receiveCookieReply(context, bytes, out);
  if (admission.underLoad) {
    if (!identity.cookies.checkMac2(bytes, source, out.now)) {
      const reply = identity.cookies.createReply(bytes, source, out.now);
      out.datagrams.push({ endpoint: source, bytes: reply, kind: 'handshake' });
      return 'cookie-required';
    }
    if (!admission.limiter.allow(source.address, out.now)) return 'rate-limited';
  }
  return bytes[0] === MESSAGE.initiation
    ? receiveInitiation(context, identity, findPeer, bytes, source, out)
    : receiveResponse(context, identity, bytes, source, out);
}

function receiveInitiation(
  context: DeviceContext,
  identity: LocalIdentity,
  findPeer: FindPeer,
  bytes: Uint8Array,
  source: Endpoint,
  out: Outbox,
): DropReason | undefined {
  const message = decodeInitiation(bytes);
  const found = identify(context, identity, message);
  if (found === undefined) return 'handshake-failed';
  const { opened, suite } = found;
  const refuse = (reason: DropReason): DropReason => {
    opened.state.wipe();
    out.events.push({ type: 'handshake-refused', publicKey: opened.remoteStatic, endpoint: source, reason });
    return reason;
  };

  const peer = findPeer(opened.remoteStatic);
  if (peer === undefined) return refuse('unknown-peer');
  const staticShared = peer.staticShared();
  if (staticShared === undefined) return refuse('handshake-failed');
  const timestamp = authenticateInitiation(opened, staticShared, message);
  if (timestamp === undefined) return refuse('handshake-failed');
  if (suite !== peer.cipherSuite) return refuse('cipher-mismatch');
  if (peer.lastTimestamp !== undefined && !isAfter(timestamp, peer.lastTimestamp)) {
    return refuse('stale-timestamp');
  }
  if (out.now - peer.lastInitiationAt < HANDSHAKE_INITIATION_INTERVAL) return refuse('initiation-flood');

  const derived = peer.postQuantum?.askedFor(timestamp);
  const presharedKey = derived?.key ?? peer.presharedKey;
  const answer = createResponse(context.crypto, opened, context.random(KEY_LENGTH), presharedKey);
  if (answer === undefined) return 'handshake-failed';
  if (derived !== undefined) peer.postQuantum?.keys.confirm(derived);
  peer.lastTimestamp = timestamp;
  peer.lastInitiationAt = out.now;
  peer.heardFrom(source, out.now);
  peer.rxBytes += INITIATION.length;
  peer.packetReceived(out.now, false);

  const entry: IndexEntry = { peer, keypair: undefined };
  const local = context.indexes.insert(entry);
  const isInitiator = false;
  const names = { localIndex: local, remoteIndex: message.sender, derivedKey: derived?.name ?? 0 };
  peer.beginSession(answer.keys, entry, { ...names, isInitiator, yields: false }, out.now);
  const response = encodeResponse({ sender: local, receiver: message.sender, ...answer.message });
  peer.cookies.addMacs(response, out.now);
  out.datagrams.push({ endpoint: source, bytes: response, kind: 'handshake', peer });
  peer.txBytes += RESPONSE.length;
  peer.responseSent(out.now);
  return undefined;
}

/** Decrypts the sender's static key; the transcript name tells the cipher suites apart. */
function identify(
  context: DeviceContext,
  identity: LocalIdentity,
  message: Initiation,
): { readonly opened: OpenedInitiation; readonly suite: CipherSuite } | undefined {
  const ephemeralShared = context.crypto.dh(identity.privateKey, message.ephemeral);
  if (ephemeralShared === undefined) return undefined;
  try {
    for (const suite of CIPHER_SUITES) {
      const opened = openInitiation(context.crypto, identity.prologues[suite], ephemeralShared, message);
      if (opened !== undefined) return { opened, suite };
    }
    return undefined;
  } finally {
    wipe(ephemeralShared);
  }
}

function receiveResponse(
  context: DeviceContext,
  identity: LocalIdentity,
  bytes: Uint8Array,
  source: Endpoint,
  out: Outbox,
): DropReason | undefined {
  const message = decodeResponse(bytes);
  const entry = context.indexes.lookup(message.receiver);
  const pending = entry?.peer.pending;
  if (entry === undefined || pending?.index !== message.receiver) return 'unknown-index';
  const { peer } = entry;
  const { derivedKey } = pending;
  const consume = (presharedKey: Uint8Array): TransportKeys | undefined =>
    consumeResponse(context.crypto, pending, identity, presharedKey, message);
  // A peer that does not have the derived key answers with the configured one.
  const hedged = derivedKey && consume(derivedKey.key);
  const keys = hedged ?? consume(peer.presharedKey);
  if (keys === undefined) {
    out.events.push({
      type: 'handshake-refused',
      publicKey: peer.publicKey,
      endpoint: source,
      reason: 'handshake-failed',
    });
    return 'handshake-failed';
  }
  if (hedged !== undefined) peer.postQuantum?.keys.confirm(derivedKey!);
  else if (peer.postQuantum?.mayFallBack(derivedKey) === false) {
    wipe(keys.send, keys.receive);
    peer.forceHandshake(out.now);
    return 'exchange-refused';
  }
  peer.pending = undefined;
  forget(pending);
  peer.heardFrom(source, out.now);
  peer.rxBytes += RESPONSE.length;
  peer.packetReceived(out.now, false);
  const yields = isSmaller(peer.publicKey, identity.publicKey);
  const derivedName = hedged === undefined ? 0 : derivedKey!.name;
  const names = { localIndex: message.receiver, remoteIndex: message.sender, derivedKey: derivedName };
  peer.beginSession(keys, entry, { ...names, isInitiator: true, yields }, out.now);
  peer.initiatedSession(pending.sentAt, out);
  return undefined;
}

function receiveCookieReply(context: DeviceContext, bytes: Uint8Array, out: Outbox): DropReason | undefined {
  const reply = decodeCookieReply(bytes);
  const peer = context.indexes.lookup(reply.receiver)?.peer;
  if (peer === undefined || !peer.cookies.consumeReply(reply, out.now)) return 'bad-cookie-reply';
  out.events.push({ type: 'cookie-received', publicKey: peer.publicKey });
  if (peer.pending?.index === reply.receiver) peer.retryWithCookie(out.now);
  return undefined;
}
