/**
 * The post-quantum exchange with one peer, where both sides are configured for it: ML-KEM-768 inside the established tunnel
 * gives a preshared key for the handshakes that follow, so that who records today's traffic and breaks Curve25519 with a later
 * quantum computer cannot read it. Authentication stays what it was.
 *
 *   initiator of the session                         its responder
 *   offer {id, encapsulation key}       ->
 *                                       <-           answer {id, ciphertext}: both derive the key
 *   a new handshake that names the key  ->           has the key and uses it
 *
 * The first two messages travel as data of the session, the offer again until it is answered, four times at most; an answer is
 * kept to be given again. Then a handshake (its initiation tells which derived key it is for, see derived-keys.ts) brings the
 * session to the new key at once. Either side may lose anything at any moment: a message is repeated, and whoever restarted
 * names no key, or answers with the configured one, and the handshake succeeds all the same, a round trip later at most.
 *
 * Invariant, whatever somebody on the path drops, delays or repeats: once a handshake used a derived key, two running processes
 * have one in common and end no handshake without. (1) One that the peer has shown to have goes only when both used a newer one,
 * and both learnt those they share in the same order. (2) An initiator takes the configured key only when the peer has refused
 * each derived one that may be named; the next is named at once. (3) No data brings a session without a derived key back.
 * The tunnel never waits: a responder takes the key that is named or the configured one, no third, and both have both.
 *
 * The key is HKDF(salt = configured preshared key, secret ‖ transcript), so each alone protects it. The transcript hash
 * covers a label, both static public keys (who offers first), the id, the encapsulation key and the ciphertext.
 *
 * An exchange begins with a session, when there is no derived key yet or it is older than the interval: an idle tunnel is
 * silent. When two offers cross, the one of the side with the smaller static key counts.
 */
import { REKEY_TIMEOUT } from './constants.ts';
import type { DeviceContext, Outbox } from './context.ts';
import { secretBytes, wipe } from './crypto.ts';
import type { DerivedKey } from './derived-keys.ts';
import { DerivedKeys } from './derived-keys.ts';
import { dropVerdict } from './drops.ts';
import type { ExchangeMessage } from './exchange-messages.ts';
import {
  decodeExchangeMessage,
  encodeExchangeMessage,
  EXCHANGE_ID_LENGTH,
  EXCHANGE_MTU,
  isExchangeMessage,
} from './exchange-messages.ts';
import type { KemKeys } from './kem.ts';
import { decapsulate, encapsulate, generateKemKeys } from './kem.ts';
import { isSmaller } from './keys.ts';
import type { PostQuantumStatus } from './model.ts';
import { kdf } from './noise.ts';
import type { Peer } from './peer.ts';
import { labelOf, type Timestamp } from './tai64n.ts';
import { TIMER } from './timers.ts';

/** Between two exchanges that we begin. */
const OFFER_INTERVAL = 10_000;
/** Between two offers that we answer: what a peer can make us compute. Shorter, so that an honest one never meets it. */
const ANSWER_INTERVAL = 5_000;
/** Offers sent before giving up until the next session. */
const MAX_OFFERS = 4;

const REFUSED = dropVerdict('exchange-refused');
const LABEL = Uint8Array.from('sealane post-quantum psk v1', (character) => character.charCodeAt(0));

interface Offer {
  readonly id: Uint8Array;
  readonly kem: KemKeys;
  sent: number;
  nextAt: number;
}

export class PostQuantum {
  readonly keys: DerivedKeys = new DerivedKeys();
  /** Milliseconds after which a derived key is renewed. */
  interval: number;
  readonly #context: DeviceContext;
  readonly #peer: Peer;
  #offer: Offer | undefined;
  #answer: { readonly id: Uint8Array; readonly ciphertext: Uint8Array } | undefined;
  /** A message that waits for the next tick; one at a time. */
  #received: Uint8Array | undefined;
  #wanted = false;
  #offeredAt = -Infinity;
  #answeredAt = -Infinity;
  #unanswered = false;
  #exchanges = 0;

  constructor(context: DeviceContext, peer: Peer, interval: number) {
    this.#context = context;
    this.#peer = peer;
    this.interval = interval;
  }

  /** Called by the data path with an authentic packet that is no IP packet; false when it is no message of ours either. */
  receive(packet: Uint8Array, view: DataView, offset: number, length: number, now: number): boolean {
    if (this.#received !== undefined || !isExchangeMessage(view, offset, length)) return false;
    this.#received = packet.slice(offset, offset + length);
    this.#peer.timers.set(TIMER.exchange, now);
    return true;
  }

  /** The key that the peer's authentic initiation asks for, if we have it. */
  askedFor(timestamp: Timestamp): DerivedKey | undefined {
    return this.keys.named(labelOf(timestamp));
  }

  /**
   * Whether our handshake may end with the configured key, which the peer took for want of the one `asked` for. Not while another
   * is left to ask for: two processes that have one in common were brought here by a message that was held back.
   */
  mayFallBack(asked: DerivedKey | undefined): boolean {
    if (asked !== undefined) this.keys.lost(asked);
    return this.keys.newestShared === undefined;
  }

  /** Call when we are the initiator of a session, and when one finds the exchange switched on. */
  sessionBegan(now: number): void {
    const newest = this.keys.newestShared;
    if (newest !== undefined && newest.name !== this.#peer.keypairs.current?.derivedKey) this.#peer.forceHandshake(now);
    if (newest !== undefined && now - newest.createdAt < this.interval) return;
    this.#wanted = true;
    this.#schedule(now);
  }

  /** Does what is due. */
  tick(out: Outbox): void {
    if (this.#received !== undefined) {
      const message = decodeExchangeMessage(this.#received);
      this.#received = undefined;
      const accepted = message.type === 'offer' ? this.#acceptOffer(message, out) : this.#acceptAnswer(message, out);
      if (!accepted) this.#context.drops.add(REFUSED);
    }
    if (this.#offer !== undefined && this.#offer.nextAt <= out.now) {
      if (this.#offer.sent < MAX_OFFERS) this.#sendOffer(this.#offer, out);
      else this.#giveUp(this.#offer);
    }
    if (this.#offer === undefined && this.#wanted && this.#offeredAt + OFFER_INTERVAL <= out.now) this.#begin(out);
    this.#schedule(out.now);
  }

  /** Ends an exchange under way; the keys stay. */
  abandon(): void {
    wipe(this.#offer?.kem.decapsulationKey);
    this.#offer = undefined;
    this.#answer = undefined;
    this.#received = undefined;
    this.#wanted = false;
    this.#peer.timers.clear(TIMER.exchange);
  }

  /** Erases every key: the peer must agree on a new one. */
  wipe(): void {
    this.abandon();
    this.keys.clear();
  }

  status(now: number): PostQuantumStatus {
    const newest = this.keys.newestShared;
    return {
      interval: this.interval,
      exchanges: this.#exchanges,
      ...(newest !== undefined && { keyAgeMs: now - newest.createdAt }),
      ...(!this.#fits() ? { trouble: 'mtu' } : this.#unanswered ? { trouble: 'unanswered' } : {}),
    };
  }

  #begin(out: Outbox): void {
    this.#wanted = false;
    if (!this.#fits() || this.#peer.keypairs.current?.canSend(out.now) !== true) return;
    this.#offeredAt = out.now;
    const { random } = this.#context;
    this.#offer = { id: random(EXCHANGE_ID_LENGTH), kem: generateKemKeys(random), sent: 0, nextAt: out.now };
    this.#sendOffer(this.#offer, out);
  }

  #sendOffer(offer: Offer, out: Outbox): void {
    offer.sent += 1;
    offer.nextAt = out.now + REKEY_TIMEOUT + this.#context.jitter();
    this.#send({ type: 'offer', id: offer.id, body: offer.kem.encapsulationKey }, out);
  }

  #giveUp(offer: Offer): void {
    wipe(offer.kem.decapsulationKey);
    this.#offer = undefined;
    this.#unanswered = true;
  }

  #acceptOffer({ id, body }: ExchangeMessage, out: Outbox): boolean {
    const { identity, crypto, random } = this.#context;
    if (identity === undefined || !this.#fits()) return false;
    if (this.#answer === undefined || !crypto.equal(this.#answer.id, id)) {
      if (out.now - this.#answeredAt < ANSWER_INTERVAL) return false;
      if (this.#offer !== undefined && isSmaller(identity.publicKey, this.#peer.publicKey)) return false;
      this.#answeredAt = out.now;
      const made = encapsulate(body, random);
      if (made === undefined) return false;
      this.abandon();
      const transcript = [this.#peer.publicKey, identity.publicKey, id, body, made.ciphertext];
      if (!this.#derive(made.sharedSecret, transcript, false, out)) return false;
      this.#answer = { id: id.slice(), ciphertext: made.ciphertext };
    }
    this.#send({ type: 'answer', id, body: this.#answer.ciphertext }, out);
    return true;
  }

  #acceptAnswer({ id, body }: ExchangeMessage, out: Outbox): boolean {
    const { identity, crypto } = this.#context;
    const offer = this.#offer;
    if (identity === undefined || offer === undefined || !crypto.equal(offer.id, id)) return false;
    const { encapsulationKey, decapsulationKey } = offer.kem;
    const secret = decapsulate(body, decapsulationKey);
    if (secret === undefined) return false;
    this.abandon();
    const transcript = [identity.publicKey, this.#peer.publicKey, id, encapsulationKey, body];
    if (!this.#derive(secret, transcript, true, out)) return false;
    this.#peer.forceHandshake(out.now);
    return true;
  }

  /** Wipes the secret. False when the key's name is taken. */
  #derive(secret: Uint8Array, transcript: readonly Uint8Array[], heldByPeer: boolean, out: Outbox): boolean {
    const { crypto } = this.#context;
    const input = secretBytes(secret.length + 32);
    input.set(secret);
    input.set(crypto.hash(LABEL, ...transcript), secret.length);
    const [key] = kdf(crypto, this.#peer.presharedKey, input, 1);
    wipe(secret, input);
    if (!this.keys.add(crypto, key!, heldByPeer, out.now)) return false;
    this.#exchanges += 1;
    this.#unanswered = false;
    return true;
  }

  #send(message: ExchangeMessage, out: Outbox): void {
    this.#peer.sendInSession(encodeExchangeMessage(message), out);
  }

  #fits(): boolean {
    return this.#context.mtu === 0 || this.#context.mtu >= EXCHANGE_MTU;
  }

  #schedule(now: number): void {
    if (this.#received !== undefined) return;
    const at = this.#offer?.nextAt ?? (this.#wanted ? Math.max(now, this.#offeredAt + OFFER_INTERVAL) : Infinity);
    this.#peer.timers.set(TIMER.exchange, at);
  }
}
