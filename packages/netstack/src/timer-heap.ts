/** Deadlines in a binary heap. Moving a deadline later costs nothing: the entry is looked at again when its old time comes. */

/** Something that wants to be called at a time. */
export interface Timed {
  /** When it wants to be called, monotonic milliseconds; Infinity for never. */
  deadline: number;
  /** Owned by the heap: its slot, or -1. */
  heapIndex: number;
  onDeadline(now: number): void;
}

const INITIAL_CAPACITY = 64;

export class TimerHeap {
  // Both of one kind from the start: what V8 has compiled for one heap then suits the next.
  readonly #heap: (Timed | undefined)[] = Array.from({ length: INITIAL_CAPACITY }, () => undefined);
  /** The items' times, apart from the items: sifting then touches no cold memory. */
  #times = new Float64Array(INITIAL_CAPACITY);
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** No deadline lies before this time; Infinity when there is none. */
  next(): number {
    return this.#size > 0 ? this.#times[0]! : Infinity;
  }

  /** Call after `item.deadline` was set. */
  update(item: Timed): void {
    if (item.heapIndex < 0) {
      if (item.deadline === Infinity) return;
      if (this.#size === this.#times.length) this.#grow();
      this.#up(this.#size++, item, item.deadline);
    } else if (item.deadline < this.#times[item.heapIndex]!) {
      this.#up(item.heapIndex, item, item.deadline);
    }
  }

  remove(item: Timed): void {
    const index = item.heapIndex;
    if (index < 0) return;
    item.heapIndex = -1;
    const end = --this.#size;
    const last = this.#heap[end]!;
    this.#heap[end] = undefined;
    if (last === item) return;
    const time = this.#times[end]!;
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

  #grow(): void {
    const times = new Float64Array(this.#size * 2);
    times.set(this.#times);
    this.#times = times;
    while (this.#heap.length < times.length) this.#heap.push(undefined);
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
    const length = this.#size;
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
