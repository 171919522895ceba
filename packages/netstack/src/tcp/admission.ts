/** How many connections there are, and from whom: what decides whether another one may be opened. */
import type { DropReason } from '../drops.ts';
import { SourceCounter, type StackLimits } from '../limits.ts';

type Source = string | number;

export class Admission {
  readonly #limits: StackLimits;
  readonly #sources = new SourceCounter();
  readonly #halfOpenSources = new SourceCounter();
  #connections = 0;
  #halfOpen = 0;

  constructor(limits: StackLimits) {
    this.#limits = limits;
  }

  get connections(): number {
    return this.#connections;
  }

  get halfOpen(): number {
    return this.#halfOpen;
  }

  /** Sources that have connections. */
  get sources(): number {
    return this.#sources.size;
  }

  get isFull(): boolean {
    return this.#connections >= this.#limits.maxConnections;
  }

  /** Why a request from `source` is refused, or undefined. */
  refusal(source: Source): DropReason | undefined {
    const limits = this.#limits;
    if (this.isFull) return 'limit-connections';
    if (this.#halfOpen >= limits.maxHalfOpen) return 'limit-half-open';
    if (this.#sources.count(source) >= limits.maxConnectionsPerSource) return 'limit-source';
    return this.#halfOpenSources.count(source) >= limits.maxHalfOpenPerSource ? 'limit-source' : undefined;
  }

  /** Counts a connection of our own. */
  addOutgoing(): void {
    this.#connections++;
  }

  removeOutgoing(): void {
    this.#connections--;
  }

  /** Counts a request, half-open for now. */
  add(source: Source): void {
    this.#connections++;
    this.#halfOpen++;
    this.#sources.add(source);
    this.#halfOpenSources.add(source);
  }

  /** The handshake is complete, or the connection is about to go. */
  leaveHalfOpen(source: Source): void {
    this.#halfOpen--;
    this.#halfOpenSources.remove(source);
  }

  /** Forgets a connection that `leaveHalfOpen` was called for. */
  remove(source: Source): void {
    this.#connections--;
    this.#sources.remove(source);
  }
}
