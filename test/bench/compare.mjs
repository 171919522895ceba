/**
 * Two builds of the Linux lane against each other (root): checkouts and, if named, a wireguard-go take turns in one run. Beside the rate it
 * shows the processor time that both ends together spend on a byte, which other work on the machine disturbs less.
 *
 *   node test/bench/compare.mjs ../before .; `--help` has the options
 */
import { readdirSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { once } from 'node:events';
import { newKeys } from './keys.mjs';
import { closeHosts, INNER, openHosts, run, startPair, stopPair, within } from './namespaces.mjs';
import { readOptions, refuse } from '../../scripts/options.mjs';

const usage = `node test/bench/compare.mjs CHECKOUT ... [options]     needs root
  --peer-binary PATH  a wireguard-go that takes its turn
  --suite aes256gcm   what the peers of ours use
  --rounds N          default 4
  --seconds S         of each measurement (default 3)
  --iperf WORDS       further arguments of iperf3, as in --iperf "-P 10"
  --pings N           default 100`;
const { values: options, positionals } = readOptions(
  'compare',
  usage,
  {
    'peer-binary': { type: 'string' },
    suite: { type: 'string' },
    rounds: { type: 'string', default: '4' },
    seconds: { type: 'string', default: '3' },
    iperf: { type: 'string', default: '' },
    pings: { type: 'string', default: '100' },
  },
  [],
);
/** @typedef {import('./namespaces.mjs').End} End */
/** @type {{ name: string, end: End }[]} */
const kinds = positionals.map((checkout) => ({
  name: checkout,
  end: {
    kind: 'ours',
    checkout: resolve(checkout),
    ...(options.suite !== undefined && { suite: options.suite }),
  },
}));
const program = options['peer-binary'];
if (program !== undefined) kinds.push({ name: 'wireguard-go', end: { kind: 'theirs', program } });
if (kinds.length === 0 || process.getuid?.() !== 0) refuse('compare', 'name checkouts to compare, as root');

/**
 * Nanoseconds on a processor of all threads.
 * @param {number} pid
 */
function spent(pid) {
  let total = 0;
  for (const task of readdirSync(`/proc/${pid}/task`)) {
    total += Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, 'utf8').split(' ')[0]);
  }
  return total;
}

/** @type {(sorted: number[], q: number) => number} */
const quantile = (sorted, q) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? NaN;
/** @type {(text: string) => number[]} */
const times = (text) =>
  [...text.matchAll(/time=([\d.]+) ms/g)].map(([, time]) => Number(time)).toSorted((x, y) => x - y);

/** @param {End} end */
async function measure(end) {
  const pair = await startPair({ a: end, b: end }, { a: newKeys(), b: newKeys() });
  const server = within('b', 'iperf3', ['-s', '-1', '--forceflush']);
  await once(server.stdout, 'data');
  const args = ['-c', INNER.b[0], '-t', String(Number(options.seconds) + 1), '-O', '1', '-J'];
  const load = run('a', 'iperf3', [...args, ...options.iperf.split(' ').filter((word) => word !== '')]);
  await sleep(1_000);
  const before = [spent(pair.a.pid), spent(pair.b.pid)];
  const start = performance.now();
  const busy =
    Number(options.pings) === 0 ? '' : await run('a', 'ping', ['-c', options.pings, '-i', '0.01', INNER.b[0]]);
  const report = JSON.parse(await load);
  const lasted = performance.now() - start;
  const bytes = report.end.sum_received.bytes;
  const cpu = [spent(pair.a.pid), spent(pair.b.pid)].map((after, i) => after - (before[i] ?? 0));
  server.kill('SIGKILL');
  const quiet =
    Number(options.pings) === 0 ? '' : await run('a', 'ping', ['-c', options.pings, '-i', '0.01', INNER.b[0]]);
  await stopPair(pair);
  // The warm second before the count is not in `bytes`, nor is its processor time.
  const seconds = report.end.sum_received.seconds;
  return {
    gbits: (bytes * 8) / seconds / 1e9,
    sender: ((cpu[0] ?? 0) / bytes) * ((seconds * 1000) / lasted),
    receiver: ((cpu[1] ?? 0) / bytes) * ((seconds * 1000) / lasted),
    'idle p50': quantile(times(quiet), 0.5),
    'loaded p50': quantile(times(busy), 0.5),
    'loaded p99': quantile(times(busy), 0.99),
  };
}

/** @type {Map<string, Record<string, number>[]>} */
const samples = new Map(kinds.map(({ name }) => [name, []]));
openHosts();
try {
  for (let round = 0; round < Number(options.rounds); round++) {
    for (const { name, end } of kinds) samples.get(name)?.push(await measure(end));
    process.stderr.write('.');
  }
} finally {
  closeHosts();
}
console.log(`\nmedian (least - most) of ${options.rounds} rounds; processor time in ns a byte, pings in ms`);
for (const { name } of kinds) {
  const taken = samples.get(name) ?? [];
  const columns = Object.keys(taken[0] ?? {}).map((key) => {
    const sorted = taken.map((sample) => sample[key] ?? NaN).toSorted((x, y) => x - y);
    const text = [quantile(sorted, 0.5), sorted[0], sorted.at(-1)].map((value) => (value ?? NaN).toPrecision(3));
    return `${key} ${text[0]} (${text[1]} - ${text[2]})`;
  });
  console.log(`${name}\n  ${columns.join('\n  ')}`);
}
