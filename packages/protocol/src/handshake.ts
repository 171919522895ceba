/**
 * Noise_IKpsk2 as WireGuard uses it (paper section 5.4): two messages, each party in one function a message.
 * Nothing here keeps state: a caller commits what is returned only after authentication succeeded.
 */
import type { CipherSuite, Crypto } from './crypto.ts';
import { wipe } from './crypto.ts';
import type { Initiation, Response } from './messages.ts';
import { SymmetricState } from './noise.ts';
import type { Timestamp } from './tai64n.ts';

const PROTOCOL_NAME: Readonly<Record<CipherSuite, Uint8Array>> = {
  chacha20poly1305: ascii('Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s'),
  aes256gcm: ascii('Noise_IKpsk2_25519_AESGCM_BLAKE2s'),
};

const IDENTIFIER = ascii('WireGuard v1 zx2c4 Jason@zx2c4.com');
const EMPTY = new Uint8Array(0);

export interface Identity {
  readonly privateKey: Uint8Array;
  readonly publicKey: Uint8Array;
}

/** The two keys of a session, from the view of the party that got them. */
export interface TransportKeys {
  readonly send: Uint8Array;
  readonly receive: Uint8Array;
}

/** The transcript up to the responder's static key: the same for every handshake with that responder. */
export function prologue(crypto: Crypto, suite: CipherSuite, responderStatic: Uint8Array): SymmetricState {
  const state = SymmetricState.initialize(crypto, crypto.aead(suite), PROTOCOL_NAME[suite]);
  state.mixHash(IDENTIFIER);
  state.mixHash(responderStatic);
  return state;
}

/** What the initiator keeps until the response. */
export interface PendingInitiation {
  readonly state: SymmetricState;
  readonly ephemeralPrivate: Uint8Array;
}

export interface InitiationInput {
  readonly identity: Identity;
  readonly remoteStatic: Uint8Array;
  /** DH of our static with theirs. */
  readonly staticShared: Uint8Array;
  /** 32 random bytes, owned by the result from here on. */
  readonly ephemeralPrivate: Uint8Array;
  readonly timestamp: Timestamp;
}

/** `-> e, es, s, ss, {timestamp}`. Undefined when the remote static key is a low-order point. */
export function createInitiation(
  crypto: Crypto,
  start: SymmetricState,
  input: InitiationInput,
): { readonly message: Omit<Initiation, 'sender'>; readonly pending: PendingInitiation } | undefined {
  const ephemeralShared = crypto.dh(input.ephemeralPrivate, input.remoteStatic);
  if (ephemeralShared === undefined) return undefined;
  const state = start.clone();
  const ephemeral = crypto.publicKey(input.ephemeralPrivate);
  state.mixHash(ephemeral);
  state.mixChainingKey(ephemeral);
  state.mixKey(ephemeralShared);
  const encryptedStatic = state.encryptAndHash(input.identity.publicKey);
  state.mixKey(input.staticShared);
  const encryptedTimestamp = state.encryptAndHash(input.timestamp);
  wipe(ephemeralShared);
  return {
    message: { ephemeral, encryptedStatic, encryptedTimestamp },
    pending: { state, ephemeralPrivate: input.ephemeralPrivate },
  };
}

/** An initiation whose sender we know by now, but not yet whether it really sent this one. */
export interface OpenedInitiation {
  readonly state: SymmetricState;
  readonly remoteStatic: Uint8Array;
  readonly remoteEphemeral: Uint8Array;
}

/** The first half of consuming an initiation, up to the sender's static key. Undefined when it does not open. */
export function openInitiation(
  crypto: Crypto,
  start: SymmetricState,
  ephemeralShared: Uint8Array,
  message: Initiation,
): OpenedInitiation | undefined {
  const state = start.clone();
  state.mixHash(message.ephemeral);
  state.mixChainingKey(message.ephemeral);
  state.mixKey(ephemeralShared);
  const remoteStatic = state.decryptAndHash(message.encryptedStatic);
  if (remoteStatic === undefined) {
    state.wipe();
    return undefined;
  }
  return { state, remoteStatic, remoteEphemeral: message.ephemeral.slice() };
}

/** The second half: proves that the owner of the static key sent it, and returns its timestamp. */
export function authenticateInitiation(
  opened: OpenedInitiation,
  staticShared: Uint8Array,
  message: Initiation,
): Timestamp | undefined {
  opened.state.mixKey(staticShared);
  return opened.state.decryptAndHash(message.encryptedTimestamp);
}

/** `<- e, ee, se, psk, {}`. Consumes and wipes the opened initiation's state. */
export function createResponse(
  crypto: Crypto,
  opened: OpenedInitiation,
  ephemeralPrivate: Uint8Array,
  presharedKey: Uint8Array,
): { readonly message: Pick<Response, 'ephemeral' | 'encryptedNothing'>; readonly keys: TransportKeys } | undefined {
  const ee = crypto.dh(ephemeralPrivate, opened.remoteEphemeral);
  const se = crypto.dh(ephemeralPrivate, opened.remoteStatic);
  const { state } = opened;
  try {
    if (ee === undefined || se === undefined) return undefined;
    const ephemeral = crypto.publicKey(ephemeralPrivate);
    state.mixHash(ephemeral);
    state.mixChainingKey(ephemeral);
    state.mixChainingKey(ee);
    state.mixChainingKey(se);
    state.mixKeyAndHash(presharedKey);
    const encryptedNothing = state.encryptAndHash(EMPTY);
    const [receive, send] = state.split();
    return { message: { ephemeral, encryptedNothing }, keys: { send, receive } };
  } finally {
    wipe(ee, se, ephemeralPrivate);
    state.wipe();
  }
}

/** Completes a handshake that we began. Undefined, and `pending` untouched, when the response is not authentic. */
export function consumeResponse(
  crypto: Crypto,
  pending: PendingInitiation,
  identity: Identity,
  presharedKey: Uint8Array,
  message: Response,
): TransportKeys | undefined {
  const ee = crypto.dh(pending.ephemeralPrivate, message.ephemeral);
  const se = crypto.dh(identity.privateKey, message.ephemeral);
  const state = pending.state.clone();
  try {
    if (ee === undefined || se === undefined) return undefined;
    state.mixHash(message.ephemeral);
    state.mixChainingKey(message.ephemeral);
    state.mixChainingKey(ee);
    state.mixChainingKey(se);
    state.mixKeyAndHash(presharedKey);
    if (state.decryptAndHash(message.encryptedNothing) === undefined) return undefined;
    const [send, receive] = state.split();
    return { send, receive };
  } finally {
    wipe(ee, se);
    state.wipe();
  }
}

export function wipePending(pending: PendingInitiation): void {
  pending.state.wipe();
  wipe(pending.ephemeralPrivate);
}

function ascii(text: string): Uint8Array {
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}
