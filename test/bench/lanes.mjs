/**
 * `node test/bench/lanes.mjs [LANES ...]` (root): one tunnel of ours with different numbers of lanes at both ends, by turns. Throughput and
 * processor time a gigabit, medians of the rounds. More lanes can only pay where there are more cores than two ends and iperf3 need.
 */
import { cpus } from 'node:os';
import { closeHosts, cpuOf, INNER, openHosts, run, startPair, stopPair, within } from './namespaces.mjs';
import { readOptions, refuse } from '../../scripts/options.mjs';
import { newKeys } from './keys.mjs';
import { quantile } from './report.mjs';

const ROUNDS = 3;
const SECONDS = 3;
const usage = 'node test/bench/lanes.mjs [LANES ...]     needs root; numbers of lanes to compare (default: 1 and 2)';
const counts = readOptions('lanes', usage, {}, []).positionals.map(Number);
if (!counts.every((count) => count >= 1)) refuse('lanes', 'expected numbers of lanes');
const lanes = counts.length > 0 ? counts : [1, 2];
const MEASURES = [
  { name: 'TCP, 1 stream', args: [] },
  { name: 'TCP, 10 streams', args: ['-P', '10'] },
  { name: 'TCP, 10 streams each way', args: ['-P', '10', '--bidir'] },
];

/** @type {Map<string, { gigabits: number, seconds: number }[]>} */
const results = new Map();

openHosts();
try {
  for (let round = 0; round < ROUNDS; round++) {
    for (const count of round % 2 === 0 ? lanes : lanes.toReversed()) {
      const end = { kind: /** @type {const} */ ('ours'), lanes: count };
      const started = await startPair({ a: end, b: end }, { a: newKeys(), b: newKeys() });
      const server = within('b', 'iperf3', ['-s']);
      await new Promise((resolve) => setTimeout(resolve, 300));
      for (const { name, args } of MEASURES) {
        const before = cpuOf(started.a.pid) + cpuOf(started.b.pid);
        const { end: sums } = JSON.parse(
          await run('a', 'iperf3', ['-J', '-t', String(SECONDS), '-c', INNER.b[0], ...args]),
        );
        const milliseconds = cpuOf(started.a.pid) + cpuOf(started.b.pid) - before;
        const bits = sums.sum_received.bytes * 8 + (sums.sum_received_bidir_reverse?.bytes ?? 0) * 8;
        const key = `${name} ${count}`;
        results.set(key, [
          ...(results.get(key) ?? []),
          { gigabits: bits / 1e9 / SECONDS, seconds: milliseconds / 1e3 / (bits / 1e9) },
        ]);
      }
      server.kill();
      await stopPair(started);
    }
  }
} finally {
  closeHosts();
}

console.log(`${cpus().length} cores (${cpus()[0]?.model}), Node ${process.versions.node}`);
for (const { name } of MEASURES) {
  for (const count of lanes) {
    const rows = results.get(`${name} ${count}`) ?? [];
    const median = (/** @type {number[]} */ values) =>
      quantile(
        values.toSorted((x, y) => x - y),
        0.5,
      ).toFixed(2);
    const gigabits = rows.map((row) => row.gigabits);
    console.log(
      `${name.padEnd(26)} ${count} lanes  ${median(gigabits)} Gbit/s (${Math.min(...gigabits).toFixed(2)} - ${Math.max(...gigabits).toFixed(2)}), ` +
        `${median(rows.map((row) => row.seconds))} s of processor time a gigabit`,
    );
  }
}
