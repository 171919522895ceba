/** What a soak has shown, as text, JSON and a plot. */
import { writeFileSync } from 'node:fs';
import { judge, median, warmUp } from './samples.mjs';
import { plot } from './plot.mjs';

/** MiB per ten minutes. */
const MOST_SLOPE = 1;
/** A slope over less than this, in seconds, says nothing about a leak. */
const SHORTEST = 900;

/**
 * @param {object} soak
 * @param {string} soak.kind
 * @param {number} soak.seconds
 * @param {Map<string, import('./samples.mjs').Sample[]>} soak.samples
 * @param {import('./churn.mjs').Churn} soak.churn
 * @param {number} soak.topRate
 * @param {any} soak.traffic
 * @param {readonly string[]} soak.problems
 */
export function summarize({ kind, seconds, samples, churn, topRate, traffic, problems }) {
  const processes = Object.fromEntries(Array.from(samples, ([name, taken]) => [name, judge(taken)]));
  const faults = [...problems];
  for (const [name, { slope, descriptorsBefore, descriptorsAfter }] of Object.entries(processes)) {
    if (seconds >= SHORTEST && slope >= MOST_SLOPE)
      faults.push(`${name}: memory grows by ${slope.toFixed(2)} MiB in 10 min`);
    if (descriptorsAfter > descriptorsBefore)
      faults.push(`${name}: ${descriptorsBefore} descriptors became ${descriptorsAfter}`);
  }
  if (traffic.wrong > 0 || traffic.datagrams.wrong > 0) faults.push('bytes came back changed');
  if (traffic.datagrams.twice > 0) faults.push(`${traffic.datagrams.twice} datagrams came twice`);
  const restarts = Object.fromEntries(
    Object.entries(churn.back).map(([signal, times]) => [
      signal,
      { times: times.length, median: median(times), longest: Math.max(0, ...times) },
    ]),
  );
  return { kind, seconds, processes, churn: churn.counts, restarts, topRate, traffic, faults };
}

/** @param {ReturnType<typeof summarize>} summary */
export function tableOf({ kind, seconds, processes, churn, restarts, topRate, traffic, faults }) {
  const row = (cells) => cells.map((cell, i) => (i === 0 ? cell.padEnd(10) : cell.padStart(12))).join('');
  const megabits = (bytes) => `${((bytes * 8) / 1e6).toFixed(0)} Mbit/s`;
  const { datagrams } = traffic;
  return [
    `${(seconds / 60).toFixed(1)} min, ${kind}`,
    '',
    row(['process', 'MiB warm', 'at the end', 'highest', 'per 10 min', 'descriptors', 'threads']),
    ...Object.entries(processes).map(([name, one]) =>
      row([
        name,
        one.begin.toFixed(1),
        one.end.toFixed(1),
        one.highest.toFixed(1),
        `${one.slope >= 0 ? '+' : ''}${one.slope.toFixed(2)}`,
        `${one.descriptorsBefore}->${one.descriptorsAfter}`,
        String(one.threads),
      ]),
    ),
    ...(seconds < SHORTEST ? ['(too short a run for its slopes to mean anything)'] : []),
    '',
    `TCP   ${megabits(traffic.rate)} wanted of at most ${megabits(topRate)}, ${(traffic.back / 2 ** 30).toFixed(2)} GiB there and back, ` +
      `${traffic.wrong} wrong pieces, ${traffic.broken} connections broken`,
    `UDP   ${datagrams.sent} sent, ${datagrams.back} back, ${datagrams.twice} twice, ${datagrams.wrong} wrong`,
    ...Object.entries(churn).map(([name, { done, failed }]) => `${name.padEnd(9)} ${done}, ${failed} failed`),
    ...Object.entries(restarts).map(
      ([signal, { times, median: middle, longest }]) =>
        `after ${signal}: back ${times} times, ${middle.toFixed(0)} ms in the middle, ${longest.toFixed(0)} ms at most`,
    ),
    '',
    ...(faults.length === 0 ? ['Nothing to complain of.'] : [`${faults.length} complaints:`, ...faults.slice(0, 50)]),
  ].join('\n');
}

/** Writes soak.txt, soak.json and soak.svg. */
export function writeReport(folder, summary, /** @type {Map<string, import('./samples.mjs').Sample[]>} */ samples) {
  const lines = Array.from(samples, ([name, taken]) => ({
    name,
    points: taken.map(({ at, rss }) => /** @type {[number, number]} */ ([at / 60, rss])),
  }));
  const shadedUntil = warmUp(summary.seconds) / 60;
  writeFileSync(`${folder}/soak.txt`, `${tableOf(summary)}\n`);
  writeFileSync(
    `${folder}/soak.json`,
    `${JSON.stringify({ ...summary, samples: Object.fromEntries(samples) }, null, 1)}\n`,
  );
  writeFileSync(`${folder}/soak.svg`, plot(lines, { label: 'resident memory in MiB over minutes', shadedUntil }));
}
