/** Deadlines in a binary heap. Moving a deadline later costs nothing: the entry is looked at again when its old time comes. */

/** Something that wants to be called at a time. */
export interface Timed {
  /** When it wants to be called, monotonic milliseconds; Infinity for never. */
  deadline: number;
  /** Owned by the heap: its slot, or -1, and the time it is filed under. */
  heapIndex: number;
  heapTime: number;
  onDeadline(now: number): void;
}

export class TimerHeap {
  readonly #heap: Timed[] = [];

  get size(): number {
    return this.#heap.length;
  }

  /** No deadline lies before this time; Infinity when there is none. */
  next(): number {
    return this.#heap[0]?.heapTime ?? Infinity;
  }

  /** Call after `item.deadline` was set. */
  update(item: Timed): void {
    if (item.heapIndex < 0) {
      if (item.deadline === Infinity) return;
      item.heapTime = item.deadline;
      this.#heap.push(item);
      this.#up(this.#heap.length - 1, item);
    } else if (item.deadline < item.heapTime) {
      item.heapTime = item.deadline;
      this.#up(item.heapIndex, item);
    }
  }

  remove(item: Timed): void {
    const index = item.heapIndex;
    if (index < 0) return;
    item.heapIndex = -1;
    const last = this.#heap.pop()!;
    if (last === item) return;
    this.#down(index, last);
    this.#up(last.heapIndex, last);
  }

  /** Calls everything that is due. */
  expire(now: number): void {
    for (let top = this.#heap[0]; top !== undefined && top.heapTime <= now; top = this.#heap[0]) {
      if (top.deadline > now && top.deadline < Infinity) {
        top.heapTime = top.deadline;
        this.#down(0, top);
        continue;
      }
      this.remove(top);
      if (top.deadline > now) continue;
      top.deadline = Infinity;
      top.onDeadline(now);
      this.update(top);
    }
  }

  #up(index: number, item: Timed): void {
    const heap = this.#heap;
    while (index > 0) {
      const parent = (index - 1) >>> 1;
      const other = heap[parent]!;
      if (other.heapTime <= item.heapTime) break;
      heap[index] = other;
      other.heapIndex = index;
      index = parent;
    }
    heap[index] = item;
    item.heapIndex = index;
  }

  #down(index: number, item: Timed): void {
    const heap = this.#heap;
    const { length } = heap;
    for (;;) {
      let child = index * 2 + 1;
      if (child >= length) break;
      if (child + 1 < length && heap[child + 1]!.heapTime < heap[child]!.heapTime) child++;
      const other = heap[child]!;
      if (other.heapTime >= item.heapTime) break;
      heap[index] = other;
      other.heapIndex = index;
      index = child;
    }
    heap[index] = item;
    item.heapIndex = index;
  }
}
