/**
 * What gathers in programs that run for months. A session outlives the collections of young objects, so what it leaves (its replay window, its
 * keys' handles: memory outside of the JavaScript heap) waits for a collection of the old ones. V8 begins that when the heap has grown by
 * many MiB, which in a thread that allocates little takes days. It is begun here, while nothing else is to be done.
 */
import { getHeapStatistics, setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/** Milliseconds. */
const COLLECTION_INTERVAL = 300_000;
/** Bytes. Beyond it a collection takes long enough to be felt, and what gathers is little beside the rest. */
const LARGE_HEAP = 2 ** 25;

/** Collects the garbage of this thread every five minutes, in a moment when it is told that there is time. */
export class IdleCollector {
  #next: number;
  #collect: (() => void) | undefined;

  /** `now` is in milliseconds. */
  constructor(now: number) {
    this.#next = now + COLLECTION_INTERVAL;
  }

  /** Called when nothing waits; true when it was time to collect. */
  idle(now: number): boolean {
    if (now < this.#next) return false;
    this.#next = now + COLLECTION_INTERVAL;
    if (getHeapStatistics().used_heap_size > LARGE_HEAP) return false;
    this.#collect ??= collectorOfThread();
    this.#collect?.();
    return true;
  }
}

/** For a program's main thread: collects from now on, without keeping the program running. */
export function keepHeapSmall(): void {
  const collector = new IdleCollector(performance.now());
  setInterval(() => collector.idle(performance.now()), COLLECTION_INTERVAL / 4).unref();
}

/**
 * Contexts that are made while the flag is set have the function; nothing else of the process gets it. Undefined when another thread, which
 * does the same, has taken the flag back meanwhile: it is asked for again the next time.
 */
function collectorOfThread(): (() => void) | undefined {
  setFlagsFromString('--expose-gc');
  try {
    return runInNewContext("typeof gc === 'function' ? gc : undefined") as (() => void) | undefined;
  } finally {
    setFlagsFromString('--no-expose-gc');
  }
}
