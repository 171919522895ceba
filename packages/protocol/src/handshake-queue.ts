import { HANDSHAKE_QUEUE_LENGTH, UNDER_LOAD_LINGER, UNDER_LOAD_QUEUE_LENGTH } from './constants.ts';
import type { Endpoint } from './endpoint.ts';
import { sourceKey } from './ratelimiter.ts';

/** From half full on a source may have one message waiting, so that a flood from a few leaves room for everybody else. */
const SHARED_LENGTH = HANDSHAKE_QUEUE_LENGTH / 2;

export interface QueuedMessage {
  /** An owned copy. */
  readonly bytes: Uint8Array;
  readonly source: Endpoint;
}

/** Handshake messages that wait for the next tick, in order and bounded; its length says whether we are under load. */
export class HandshakeQueue {
  readonly #messages: QueuedMessage[] = [];
  /** How many wait, by source. */
  readonly #waiting = new Map<string, number>();
  #underLoadUntil = -Infinity;

  get length(): number {
    return this.#messages.length;
  }

  /** Whether one more from this source may wait. */
  hasRoom(source: Endpoint): boolean {
    if (this.length < SHARED_LENGTH) return true;
    return this.length < HANDSHAKE_QUEUE_LENGTH && !this.#waiting.has(sourceKey(source.address));
  }

  push(bytes: Uint8Array, source: Endpoint): void {
    const key = sourceKey(source.address);
    this.#waiting.set(key, (this.#waiting.get(key) ?? 0) + 1);
    this.#messages.push({ bytes, source });
  }

  shift(): QueuedMessage | undefined {
    const message = this.#messages.shift();
    if (message === undefined) return undefined;
    const key = sourceKey(message.source.address);
    const waiting = this.#waiting.get(key)! - 1;
    if (waiting === 0) this.#waiting.delete(key);
    else this.#waiting.set(key, waiting);
    return message;
  }

  /** Paper section 5.3: under load from an eighth of the queue on, and for a second after that. */
  underLoad(now: number): boolean {
    if (this.length >= UNDER_LOAD_QUEUE_LENGTH) this.#underLoadUntil = now + UNDER_LOAD_LINGER;
    return now < this.#underLoadUntil;
  }

  clear(): void {
    this.#messages.length = 0;
    this.#waiting.clear();
  }
}
