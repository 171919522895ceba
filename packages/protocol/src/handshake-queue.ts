import { HANDSHAKE_QUEUE_LENGTH, UNDER_LOAD_LINGER, UNDER_LOAD_QUEUE_LENGTH } from './constants.ts';
import type { Endpoint } from './endpoint.ts';

export interface QueuedMessage {
  /** An owned copy. */
  readonly bytes: Uint8Array;
  readonly source: Endpoint;
}

/** Handshake messages that wait for the next tick, in order and bounded; its length says whether we are under load. */
export class HandshakeQueue {
  #messages: QueuedMessage[] = [];
  #taken = 0;
  #underLoadUntil = -Infinity;

  get length(): number {
    return this.#messages.length - this.#taken;
  }

  /** False when the queue is full. */
  push(bytes: Uint8Array, source: Endpoint): boolean {
    if (this.length >= HANDSHAKE_QUEUE_LENGTH) return false;
    this.#messages.push({ bytes, source });
    return true;
  }

  shift(): QueuedMessage | undefined {
    const message = this.#messages[this.#taken];
    if (message === undefined) return undefined;
    this.#taken += 1;
    if (this.#taken === this.#messages.length) {
      this.#messages = [];
      this.#taken = 0;
    } else if (this.#taken >= HANDSHAKE_QUEUE_LENGTH) {
      this.#messages = this.#messages.slice(this.#taken);
      this.#taken = 0;
    }
    return message;
  }

  /** Paper section 5.3: under load from an eighth of the queue on, and for a second after that. */
  underLoad(now: number): boolean {
    if (this.length >= UNDER_LOAD_QUEUE_LENGTH) this.#underLoadUntil = now + UNDER_LOAD_LINGER;
    return now < this.#underLoadUntil;
  }

  clear(): void {
    this.#messages = [];
    this.#taken = 0;
  }
}
