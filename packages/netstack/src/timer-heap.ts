/** Deadlines in a binary heap. Moving a deadline later costs nothing: the entry is looked at again when its old time comes. */

/** Something that wants to be called at a time. */
export interface Timed {
  /** When it wants to be called, monotonic milliseconds; Infinity for never. */
  deadline: number;
  /** Owned by the heap: its slot, or -1. */
  heapIndex: number;
  onDeadline(now: number): void;
}

export class TimerHeap {
  readonly #heap: Timed[] = [];
  /** The items' times, apart from the items: sifting then touches no cold memory. */
  readonly #times: number[] = [];

  get size(): number {
    return this.#heap.length;
  }

  /** No deadline lies before this time; Infinity when there is none. */
  next(): number {
    return this.#times[0] ?? Infinity;
  }

  /** Call after `item.deadline` was set. */
  update(item: Timed): void {
    if (item.heapIndex < 0) {
      if (item.deadline === Infinity) return;
      this.#heap.push(item);
      this.#times.push(item.deadline);
      this.#up(this.#heap.length - 1, item, item.deadline);
    } else if (item.deadline < this.#times[item.heapIndex]!) {
      this.#up(item.heapIndex, item, item.deadline);
    }
  }

  remove(item: Timed): void {
    const index = item.heapIndex;
    if (index < 0) return;
    item.heapIndex = -1;
    const last = this.#heap.pop()!;
    const time = this.#times.pop()!;
    if (last === item) return;
    this.#down(index, last, time);
    this.#up(last.heapIndex, last, time);
  }

  /** Calls everything that is due. */
  expire(now: number): void {
    while (this.next() <= now) {
      const top = this.#heap[0]!;
      if (top.deadline > now && top.deadline < Infinity) {
        this.#down(0, top, top.deadline);
        continue;
      }
      this.remove(top);
      if (top.deadline > now) continue;
      top.deadline = Infinity;
      top.onDeadline(now);
      this.update(top);
    }
  }

  #up(index: number, item: Timed, time: number): void {
    const heap = this.#heap;
    const times = this.#times;
    while (index > 0) {
      const parent = (index - 1) >>> 1;
      if (times[parent]! <= time) break;
      this.#put(index, heap[parent]!, times[parent]!);
      index = parent;
    }
    this.#put(index, item, time);
  }

  #down(index: number, item: Timed, time: number): void {
    const heap = this.#heap;
    const times = this.#times;
    const { length } = heap;
    for (;;) {
      let child = index * 2 + 1;
      if (child >= length) break;
      if (child + 1 < length && times[child + 1]! < times[child]!) child++;
      if (times[child]! >= time) break;
      this.#put(index, heap[child]!, times[child]!);
      index = child;
    }
    this.#put(index, item, time);
  }

  #put(index: number, item: Timed, time: number): void {
    this.#heap[index] = item;
    this.#times[index] = time;
    item.heapIndex = index;
  }
}
