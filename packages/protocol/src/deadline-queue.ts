/** What a DeadlineQueue holds: `deadline` is the truth, `scheduledAt` is never later than it. */
export interface Scheduled {
  scheduledAt: number;
  heapIndex: number;
  deadline(): number;
}

/**
 * A binary heap of deadlines that mostly move later: setting one earlier sifts it up at once, moving it later costs nothing
 * until it reaches the top and turns out to be early.
 */
export class DeadlineQueue<T extends Scheduled> {
  readonly #heap: T[] = [];

  /** Makes sure `item` comes up at `at` or before. */
  schedule(item: T, at: number): void {
    if (item.heapIndex >= 0) {
      if (at >= item.scheduledAt) return;
      item.scheduledAt = at;
      this.#up(item.heapIndex);
    } else if (at !== Infinity) {
      item.scheduledAt = at;
      item.heapIndex = this.#heap.push(item) - 1;
      this.#up(item.heapIndex);
    }
  }

  remove(item: T): void {
    const i = item.heapIndex;
    if (i < 0) return;
    item.heapIndex = -1;
    const last = this.#heap.pop()!;
    if (last === item) return;
    this.#heap[i] = last;
    last.heapIndex = i;
    this.#up(i);
    this.#down(last.heapIndex);
  }

  /** The item with the earliest true deadline, undefined when none has one. */
  first(): T | undefined {
    for (;;) {
      const top = this.#heap[0];
      if (top === undefined) return undefined;
      const at = top.deadline();
      if (at <= top.scheduledAt) return top;
      if (at === Infinity) {
        this.remove(top);
      } else {
        top.scheduledAt = at;
        this.#down(0);
      }
    }
  }

  #up(from: number): void {
    const item = this.#heap[from]!;
    let i = from;
    while (i > 0) {
      const parent = (i - 1) >> 1;
      const other = this.#heap[parent]!;
      if (other.scheduledAt <= item.scheduledAt) break;
      this.#place(other, i);
      i = parent;
    }
    this.#place(item, i);
  }

  #down(from: number): void {
    const item = this.#heap[from]!;
    let i = from;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= this.#heap.length) break;
      const right = this.#heap[child + 1];
      if (right !== undefined && right.scheduledAt < this.#heap[child]!.scheduledAt) child += 1;
      const other = this.#heap[child]!;
      if (other.scheduledAt >= item.scheduledAt) break;
      this.#place(other, i);
      i = child;
    }
    this.#place(item, i);
  }

  #place(item: T, i: number): void {
    this.#heap[i] = item;
    item.heapIndex = i;
  }
}
