import { describe, expect, it } from 'vitest';
import { type FirewallState, LookSchedule } from '../src/linux/firewall-news.ts';

const SECOND = 1_000;

/** Asks four times a second for a minute; resolves to how often it was time to look. */
function looks(schedule: LookSchedule, isNews: boolean, state: FirewallState): number {
  let count = 0;
  for (let now = 0; now < 60 * SECOND; now += 250) {
    if (!schedule.isDue(isNews, now)) continue;
    count++;
    schedule.looked(state, now);
  }
  return count;
}

describe('looking after the firewall', () => {
  it('is done once when nothing is told and all is whole, and every five seconds when nothing can be told', () => {
    expect(looks(new LookSchedule(true), false, 'whole')).toBe(1);
    expect(looks(new LookSchedule(false), false, 'whole')).toBe(12);
  });

  it('follows each change as long as that finds all whole', () => {
    expect(looks(new LookSchedule(true), true, 'whole')).toBe(240);
  });

  it.each(['failed', 'restored'] as const)('is done every five seconds while it is %s, and all the same', (state) => {
    expect(looks(new LookSchedule(true), false, state)).toBe(12);
  });

  it.each(['failed', 'restored'] as const)('does not spin while each change finds it %s', (state) => {
    const schedule = new LookSchedule(true);
    expect(looks(schedule, true, state)).toBe(10 + 11);
    // The other one has given up.
    expect(schedule.isDue(true, 61 * SECOND)).toBe(false);
    expect(schedule.isDue(false, 70 * SECOND)).toBe(true);
    schedule.looked('whole', 70 * SECOND);
    expect(schedule.isDue(false, 90 * SECOND)).toBe(false);
    expect(schedule.isDue(true, 90 * SECOND)).toBe(true);
  });
});
