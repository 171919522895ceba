/** Virtual time in milliseconds: it stands still while things happen and jumps from one appointment to the next. */

interface Appointment {
  readonly at: number;
  readonly order: number;
  readonly run: () => void;
}

export class VirtualClock {
  #now = 0;
  #order = 0;
  readonly #heap: Appointment[] = [];

  get now(): number {
    return this.#now;
  }

  /** Runs `run` at `at` (or at once, if that is past), after everything that was asked for earlier at the same instant. */
  at(at: number, run: () => void): void {
    const heap = this.#heap;
    const appointment = { at: Math.max(at, this.#now), order: this.#order++, run };
    let i = heap.push(appointment) - 1;
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (!isBefore(appointment, heap[parent]!)) break;
      heap[i] = heap[parent]!;
      i = parent;
    }
    heap[i] = appointment;
  }

  after(ms: number, run: () => void): void {
    this.at(this.#now + ms, run);
  }

  /** Keeps every appointment up to and including `end`, then stands at `end`. Stops early when `until` says so. */
  runTo(end: number, until: () => boolean = () => false): void {
    while (!until()) {
      const next = this.#heap[0];
      if (next === undefined || next.at > end) {
        this.#now = Math.max(this.#now, end);
        return;
      }
      this.#take();
      this.#now = next.at;
      next.run();
    }
  }

  #take(): void {
    const heap = this.#heap;
    const last = heap.pop()!;
    if (heap.length === 0) return;
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child++;
      if (!isBefore(heap[child]!, last)) break;
      heap[i] = heap[child]!;
      i = child;
    }
    heap[i] = last;
  }
}

function isBefore(a: Appointment, b: Appointment): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order);
}
