/**
 * One peer: its configuration, its sessions, and the triggers and deadlines of the paper's section 6.
 * The data path calls the triggers (they only move deadlines); `tick` does what has become due.
 */
import {
  HANDSHAKE_INITIATION_INTERVAL,
  KEEPALIVE_TIMEOUT,
  MAX_HANDSHAKE_RETRIES,
  REKEY_AFTER_TIME,
  REKEY_AFTER_TIME_RECEIVING,
  REKEY_TIMEOUT,
  ZERO_KEYS_AFTER,
} from './constants.ts';
import type { DeviceContext, IndexEntry, Outbox } from './context.ts';
import { CookieGenerator } from './cookie.ts';
import type { CipherSuite, Crypto } from './crypto.ts';
import { secretBytes, wipe } from './crypto.ts';
import type { DataPeer } from './data-plane.ts';
import type { Scheduled } from './deadline-queue.ts';
import { dropVerdict } from './drops.ts';
import type { Endpoint } from './endpoint.ts';
import { sameEndpoint, sameRemote, withoutSource } from './endpoint.ts';
import type { TransportKeys } from './handshake.ts';
import { forget, initiate, type PendingHandshake } from './initiator.ts';
import { Keypair, type KeypairInput } from './keypair.ts';
import { Keypairs } from './keypairs.ts';
import { KEY_LENGTH } from './keys.ts';
import type { SessionInput } from './lane-publisher.ts';
import type { PostQuantum } from './post-quantum.ts';
import { sealCopy } from './seal.ts';
import { StagingQueue } from './staging.ts';
import type { Timestamp } from './tai64n.ts';
import { TIMER, Timers } from './timers.ts';

const STAGING_OVERFLOW = dropVerdict('staging-overflow');
const NOTHING = new Uint8Array(0);

export class Peer implements DataPeer, Scheduled {
  readonly publicKey: Uint8Array;
  readonly presharedKey: Uint8Array = secretBytes(KEY_LENGTH);
  readonly cookies: CookieGenerator;
  readonly timers: Timers;
  readonly staged: StagingQueue = new StagingQueue();
  readonly keypairs: Keypairs<IndexEntry>;
  endpoint: Endpoint | undefined;
  /** Seconds, 0 is off. */
  persistentKeepalive = 0;
  rekeyInterval: number = REKEY_AFTER_TIME;
  cipherSuite: CipherSuite = 'chacha20poly1305';
  /** The post-quantum exchange, when it is on. */
  postQuantum: PostQuantum | undefined;

  rxBytes = 0;
  txBytes = 0;
  /** Unix milliseconds. */
  lastHandshake: number | undefined;
  handshakeMs: number | undefined;
  sessions = 0;

  pending: PendingHandshake | undefined;
  /** The newest timestamp among the initiations that the peer sent us. */
  lastTimestamp: Timestamp | undefined;
  lastInitiationAt: number = -Infinity;

  scheduledAt: number = Infinity;
  heapIndex = -1;

  readonly #context: DeviceContext;
  #staticShared: Uint8Array | undefined;
  #sentTimestamp: Timestamp | undefined;
  #lastHandshakeSentAt = -Infinity;
  #attempts = 0;
  #forceInitiation = false;
  #probed: Endpoint | undefined;
  #cookieRetried = false;
  #needAnotherKeepalive = false;
  #confirmed = false;
  #roamed = false;

  constructor(context: DeviceContext, publicKey: Uint8Array) {
    this.#context = context;
    this.publicKey = publicKey.slice();
    this.cookies = new CookieGenerator(context.crypto, this.publicKey);
    this.keypairs = new Keypairs(context.indexes);
    this.timers = new Timers((at) => context.schedule(this, at));
  }

  deadline(): number {
    return this.timers.next();
  }

  /** Initiations since the peer's last answer, once one had to be repeated. */
  get unanswered(): number {
    return this.#attempts === 0 ? 0 : this.#attempts + 1;
  }

  /** DH of our static key with the peer's; undefined for low-order keys, to which nothing is ever sent. */
  staticShared(): Uint8Array | undefined {
    const { identity, crypto } = this.#context;
    if (this.#staticShared === undefined && identity !== undefined) {
      this.#staticShared = crypto.dh(identity.privateKey, this.publicKey);
    }
    return this.#staticShared;
  }

  // What the data path asks and tells.

  get sending(): Keypair | undefined {
    const { current, next } = this.keypairs;
    return next?.isConfirmed === true ? next : current;
  }

  stage(packet: Uint8Array, now: number): boolean {
    const overflow = this.staged.push(packet);
    this.wantHandshake(now);
    return overflow;
  }

  sealed(keypair: Keypair, length: number, now: number): void {
    this.txBytes += length;
    this.packetSent(now, true);
    if (keypair.needsRenewal(now)) this.wantHandshake(now);
  }

  opened(keypair: Keypair, length: number, endpoint: Endpoint | undefined, carriesData: boolean, now: number): void {
    this.rxBytes += length;
    if (endpoint !== undefined) this.heardFrom(endpoint, now);
    const { current } = this.keypairs;
    if (this.keypairs.confirm(keypair, now)) this.sessionConfirmed(now);
    if (this.keypairs.current !== current) this.#context.lanes?.peerChanged(this);
    this.renewOnReceive(keypair, now);
    this.packetReceived(now, carriesData);
  }

  takeOther(packet: Uint8Array, view: DataView, offset: number, length: number, now: number): boolean {
    return this.postQuantum?.receive(packet, view, offset, length, now) === true;
  }

  // Triggers.

  /** Call after an authenticated packet was sealed for sending. */
  packetSent(now: number, carriesData: boolean): void {
    const { timers } = this;
    timers.clear(TIMER['send-keepalive']);
    if (carriesData && !timers.isSet(TIMER['new-handshake'])) {
      timers.set(TIMER['new-handshake'], now + KEEPALIVE_TIMEOUT + REKEY_TIMEOUT + this.#context.jitter());
    }
    this.#restartPersistentKeepalive(now);
  }

  /** Call after a packet was authenticated. */
  packetReceived(now: number, carriesData: boolean): void {
    const { timers } = this;
    timers.clear(TIMER['new-handshake']);
    if (carriesData) {
      if (timers.isSet(TIMER['send-keepalive'])) this.#needAnotherKeepalive = true;
      else timers.set(TIMER['send-keepalive'], now + KEEPALIVE_TIMEOUT);
    }
    this.#restartPersistentKeepalive(now);
  }

  /**
   * Call when a packet arrived on `keypair`: an initiator that only receives renews early enough that the sender never has to
   * stop (paper section 6.2). One with a persistent keepalive renews as on sending, because the packet has just put off
   * the keepalive that would have done it.
   */
  renewOnReceive(keypair: Keypair, now: number): void {
    if (!keypair.isInitiator || keypair !== this.keypairs.current) return;
    const due = this.persistentKeepalive > 0 && keypair.needsRenewal(now);
    if (due || now - keypair.createdAt >= REKEY_AFTER_TIME_RECEIVING) this.wantHandshake(now);
  }

  /** Call when the first packet on `next` arrived and made it `current`. */
  sessionConfirmed(now: number): void {
    this.#confirmed = true;
    this.#context.lanes?.peerChanged(this);
    this.discardPending();
    this.#handshakeDone();
    this.timers.set(TIMER.flush, now);
  }

  /** Call with the source of an authenticated message. */
  heardFrom(endpoint: Endpoint, now: number): void {
    const before = this.endpoint;
    if (before === endpoint || (before !== undefined && sameEndpoint(before, endpoint))) return;
    this.endpoint = endpoint;
    this.#context.lanes?.peerChanged(this);
    if (before === undefined || !sameRemote(before, endpoint)) {
      this.#roamed = true;
      this.timers.set(TIMER.flush, now);
    }
  }

  /** Begins a handshake with the next tick unless one is under way; not sooner than Rekey-Timeout after the last. */
  wantHandshake(now: number): void {
    if (this.timers.isSet(TIMER['retransmit-handshake']) || this.timers.isSet(TIMER.initiate)) return;
    this.timers.set(TIMER.initiate, Math.max(now, this.#lastHandshakeSentAt + REKEY_TIMEOUT));
  }

  // Control.

  /** Lets the system choose the local address again. */
  forgetSource(): void {
    if (this.endpoint === undefined) return;
    this.endpoint = withoutSource(this.endpoint);
    this.#context.lanes?.peerChanged(this);
  }

  /** Begins a handshake with the next tick whatever came before; its first initiation goes to `probed`, if given. */
  forceHandshake(now: number, probed?: Endpoint): void {
    this.#forceInitiation = true;
    this.#probed = probed;
    this.timers.set(TIMER.initiate, Math.max(now, this.#lastHandshakeSentAt + HANDSHAKE_INITIATION_INTERVAL));
  }

  /** Sends a keepalive with the next tick, which makes a session if there is none. */
  keepaliveNow(now: number): void {
    this.timers.set(TIMER['persistent-keepalive'], now);
  }

  /** Takes in the keys of a completed handshake, and wipes them. */
  beginSession(
    keys: TransportKeys,
    entry: IndexEntry,
    session: Pick<KeypairInput, 'localIndex' | 'remoteIndex' | 'isInitiator' | 'yields' | 'derivedKey'>,
    now: number,
  ): void {
    const { crypto, lanes } = this.#context;
    const input = {
      ...session,
      createdAt: now,
      renewAt: session.isInitiator ? now + this.rekeyInterval : Infinity,
    };
    const keypair =
      lanes?.share(this, crypto, this.cipherSuite, keys, input) ?? ownKeypair(crypto, this.cipherSuite, keys, input);
    wipe(keys.send, keys.receive);
    entry.keypair = keypair;
    this.keypairs.begin(keypair);
    this.timers.set(TIMER['zero-keys'], now + ZERO_KEYS_AFTER);
    if (!this.timers.isSet(TIMER['expire-session'])) this.timers.set(TIMER['expire-session'], keypair.expiresAt);
  }

  /** Our initiation was answered: the new session is `current` and what waited goes out. */
  initiatedSession(sentAt: number, out: Outbox): void {
    this.handshakeMs = out.now - sentAt;
    this.#handshakeDone();
    this.#sessionEstablished('initiator', out);
    this.postQuantum?.sessionBegan(out.now);
    this.#sendStagedOrKeepalive(out);
  }

  /** A response of ours went out: counts as a handshake message sent. */
  responseSent(now: number): void {
    this.#lastHandshakeSentAt = now;
    this.packetSent(now, false);
  }

  /**
   * The responder gave us a cookie: the initiation is sent again at once, now with mac2. Only once in a handshake,
   * because whoever answers everything with cookies must not make us send without end.
   */
  retryWithCookie(now: number): void {
    if (this.#cookieRetried) return;
    this.#cookieRetried = true;
    const at = Math.max(now, this.#lastHandshakeSentAt + HANDSHAKE_INITIATION_INTERVAL);
    this.timers.set(TIMER['retransmit-handshake'], at);
  }

  discardPending(): void {
    if (this.pending === undefined) return;
    this.#context.indexes.delete(this.pending.index);
    forget(this.pending);
    this.pending = undefined;
  }

  /** Our private key changed: sessions may still receive, but the next packet needs a new handshake. */
  identityChanged(): void {
    wipe(this.#staticShared);
    this.#staticShared = undefined;
    this.discardPending();
    this.postQuantum?.wipe();
    this.timers.clear(TIMER['retransmit-handshake']);
    this.keypairs.stopSending();
    this.#lastHandshakeSentAt = -Infinity;
  }

  /** Erases the sessions and the pending handshake; packets that wait for a session go on waiting. */
  eraseSessions(): void {
    this.discardPending();
    this.keypairs.clear();
    this.#context.lanes?.peerChanged(this);
    this.cookies.clear();
    this.postQuantum?.abandon();
  }

  /** Erases everything; the peer must not be used afterwards. */
  destroy(): void {
    this.eraseSessions();
    this.staged.clear();
    this.postQuantum?.wipe();
    this.timers.clearAll();
    wipe(this.presharedKey, this.#staticShared);
    this.#staticShared = undefined;
    this.endpoint = undefined;
  }

  /** Sends a packet in the current session, if it can send, and wipes it. */
  sendInSession(packet: Uint8Array, out: Outbox): void {
    const keypair = this.keypairs.current;
    if (this.endpoint === undefined || keypair?.claim(out.now, 1) !== true) return;
    const bytes = sealCopy(keypair, packet, this.#context.mtu);
    wipe(packet);
    out.datagrams.push({ endpoint: this.endpoint, bytes, kind: 'data', peer: this });
    this.txBytes += bytes.length;
    this.packetSent(out.now, packet.length > 0);
    if (keypair.needsRenewal(out.now)) this.wantHandshake(out.now);
  }

  /** Does what is due. */
  tick(out: Outbox): void {
    const { timers } = this;
    const { now } = out;
    if (timers.take(TIMER['expire-session'], now)) {
      timers.set(TIMER['expire-session'], this.keypairs.retireExpired(now));
    }
    if (timers.take(TIMER['zero-keys'], now)) {
      this.eraseSessions();
      out.events.push({ type: 'expired', publicKey: this.publicKey });
    }
    if (timers.take(TIMER['retransmit-handshake'], now)) this.#retransmit(out);
    if (timers.take(TIMER['new-handshake'], now)) {
      this.forgetSource();
      this.wantHandshake(now);
    }
    if (timers.take(TIMER.exchange, now)) this.postQuantum?.tick(out);
    if (timers.take(TIMER.initiate, now)) this.#startHandshake(out);
    if (timers.take(TIMER.flush, now)) this.#flush(out);
    if (timers.take(TIMER['send-keepalive'], now)) {
      this.#sendStagedOrKeepalive(out);
      if (this.#needAnotherKeepalive) {
        this.#needAnotherKeepalive = false;
        timers.set(TIMER['send-keepalive'], now + KEEPALIVE_TIMEOUT);
      }
    }
    if (timers.take(TIMER['persistent-keepalive'], now) && this.persistentKeepalive > 0) {
      this.#sendStagedOrKeepalive(out);
      this.#restartPersistentKeepalive(now);
    }
  }

  #startHandshake(out: Outbox): void {
    const forced = this.#forceInitiation;
    this.#forceInitiation = false;
    if (!forced && out.now - this.#lastHandshakeSentAt < REKEY_TIMEOUT) return;
    this.#attempts = 0;
    this.#cookieRetried = false;
    this.#sendInitiation(out);
  }

  #retransmit(out: Outbox): void {
    if (this.#attempts < MAX_HANDSHAKE_RETRIES) {
      this.#attempts += 1;
      this.forgetSource();
      this.#sendInitiation(out);
      return;
    }
    this.timers.clear(TIMER['send-keepalive']);
    this.discardPending();
    for (let n = this.staged.clear(); n > 0; n--) this.#context.drops.add(STAGING_OVERFLOW);
    if (!this.timers.isSet(TIMER['zero-keys'])) this.timers.set(TIMER['zero-keys'], out.now + ZERO_KEYS_AFTER);
    out.events.push({ type: 'unanswered', publicKey: this.publicKey, initiations: this.#attempts + 1 });
  }

  #sendInitiation(out: Outbox): void {
    const pending = initiate(this.#context, this, this.#probed ?? this.endpoint, this.#sentTimestamp, out);
    this.#probed = undefined;
    if (pending === undefined) return;
    this.pending = pending;
    this.#sentTimestamp = pending.timestamp;
    this.#lastHandshakeSentAt = out.now;
    this.packetSent(out.now, false);
    this.timers.set(TIMER['retransmit-handshake'], out.now + REKEY_TIMEOUT + this.#context.jitter());
  }

  #flush(out: Outbox): void {
    if (this.#roamed && this.endpoint !== undefined) {
      out.events.push({ type: 'roamed', publicKey: this.publicKey, endpoint: this.endpoint });
    }
    this.#roamed = false;
    if (this.#confirmed) this.#sessionEstablished('responder', out);
    this.#confirmed = false;
    if (this.staged.length > 0) this.#sendStagedOrKeepalive(out);
  }

  #sessionEstablished(role: 'initiator' | 'responder', out: Outbox): void {
    this.sessions += 1;
    this.lastHandshake = out.unixMs;
    out.events.push({
      type: 'session',
      publicKey: this.publicKey,
      role,
      number: this.sessions,
      ...(role === 'initiator' && this.handshakeMs !== undefined && { handshakeMs: this.handshakeMs }),
      ...(this.postQuantum !== undefined && { hedged: (this.keypairs.current?.derivedKey ?? 0) !== 0 }),
    });
  }

  #handshakeDone(): void {
    this.timers.clear(TIMER['retransmit-handshake']);
    this.timers.clear(TIMER.initiate);
    this.#attempts = 0;
  }

  /** What waited does as well as a keepalive. Without a usable session it goes on waiting for one. */
  #sendStagedOrKeepalive(out: Outbox): void {
    if (this.keypairs.current?.canSend(out.now) !== true) this.wantHandshake(out.now);
    else if (this.staged.length === 0) this.sendInSession(NOTHING, out);
    else for (const packet of this.staged.drain()) this.sendInSession(packet, out);
  }

  #restartPersistentKeepalive(now: number): void {
    if (this.persistentKeepalive > 0) {
      this.timers.set(TIMER['persistent-keepalive'], now + this.persistentKeepalive * 1000);
    }
  }
}

function ownKeypair(crypto: Crypto, suite: CipherSuite, keys: TransportKeys, input: SessionInput): Keypair {
  const aead = crypto.aead(suite);
  return new Keypair({ ...input, sealer: aead.sealer(keys.send), opener: aead.opener(keys.receive) });
}
