/** What a process holds, over time: resident memory, descriptors and threads, as proc(5) tells. */
import { readdirSync, readFileSync } from 'node:fs';

/** @typedef {{ at: number, rss: number, descriptors: number, threads: number }} Sample seconds and MiB */

/** @returns {Omit<Sample, 'at'> | undefined} undefined when the process is gone */
export function look(pid) {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    return {
      rss: Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) / 1_024,
      descriptors: readdirSync(`/proc/${pid}/fd`).length,
      threads: Number(/Threads:\s+(\d+)/.exec(status)?.[1]),
    };
  } catch {
    return undefined;
  }
}

/** The part of a run that is warming up: a quarter of it, at most ten minutes. */
export function warmUp(seconds) {
  return Math.min(600, seconds / 4);
}

/** What the samples of one process say, those of the warm-up left out. */
export function judge(/** @type {Sample[]} */ samples) {
  const from = warmUp(samples.at(-1)?.at ?? 0);
  const warm = samples.filter(({ at }) => at >= from);
  const tenth = Math.max(1, Math.floor(warm.length / 10));
  const descriptors = (part) => median(part.map((sample) => sample.descriptors));
  return {
    begin: warm[0]?.rss ?? NaN,
    end: warm.at(-1)?.rss ?? NaN,
    highest: Math.max(...samples.map(({ rss }) => rss)),
    slope: slopeOf(warm.map(({ at, rss }) => [at, rss])) * 600,
    descriptorsBefore: descriptors(warm.slice(0, tenth)),
    descriptorsAfter: descriptors(warm.slice(-tenth)),
    threads: warm.at(-1)?.threads ?? NaN,
  };
}

/** Least squares: change of y for one of x. */
export function slopeOf(/** @type {(readonly [number, number])[]} */ points) {
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const [mx, my] = [mean(points.map(([x]) => x)), mean(points.map(([, y]) => y))];
  let above = 0;
  let below = 0;
  for (const [x, y] of points) {
    above += (x - mx) * (y - my);
    below += (x - mx) ** 2;
  }
  return below === 0 ? 0 : above / below;
}

export function median(/** @type {number[]} */ values) {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? NaN;
}
