import { expect, it } from 'vitest';
import { type Timed, TimerHeap } from '../src/timer-heap.ts';
import { Dice } from './support/random.ts';

it('calls everything when due and nothing else, whatever is moved or removed', () => {
  // Invariant: after expire(now) every item with a deadline up to now was called once, and next() is no later than any other.
  const dice = new Dice(1);
  const heap = new TimerHeap();
  const due: number[] = [];
  const items = Array.from({ length: 200 }, (_, i): Timed => ({
    deadline: Infinity,
    heapIndex: -1,
    onDeadline: () => due.push(i),
  }));
  for (let now = 0; now < 5000; now++) {
    const item = items[dice.below(items.length)]!;
    item.deadline = dice.below(5) === 0 ? Infinity : now + dice.below(300);
    if (item.deadline === Infinity) heap.remove(item);
    else heap.update(item);
    const expected = items.flatMap(({ deadline }, i) => (deadline <= now ? [i] : []));
    due.length = 0;
    heap.expire(now);
    expect(due.toSorted((a, b) => a - b)).toEqual(expected);
    expect(heap.next()).toBeLessThanOrEqual(Math.min(...items.map(({ deadline }) => deadline)));
  }
  for (const item of items) heap.remove(item);
  expect([heap.size, heap.next()]).toEqual([0, Infinity]);
});
