/**
 * The mode without root, whole: `sealaned run --userspace` and `sealane proxy --socks5` on loopback. One row each, or all:
 * node test/bench/userspace.mjs [download ...] [--rounds N] [--json FILE] [--profile DIR]
 */
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { cpuSeconds, openLab, residentMegabytes } from './userspace-lab.mjs';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { rounds: { type: 'string', default: '5' }, json: { type: 'string' }, profile: { type: 'string' } },
});
const DOWNLOAD_BYTES = 200e6;

/** @typedef {{ row: string, value: number, unit: string, goal?: string }} Row */

/** @returns {Promise<Row[]>} */
async function download() {
  const nodeOptions = values.profile === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${values.profile}`];
  const lab = await openLab({ nodeOptions });
  try {
    // Compiled code is what counts.
    await lab.fetch(DOWNLOAD_BYTES / 4);
    const rates = [];
    const before = [cpuSeconds(lab.server), cpuSeconds(lab.client)];
    for (let round = 0; round < Number(values.rounds); round++) {
      const start = performance.now();
      await lab.fetch(DOWNLOAD_BYTES);
      rates.push(DOWNLOAD_BYTES / 1000 / (performance.now() - start));
    }
    rates.sort((a, b) => a - b);
    const gigabytes = (rates.length * DOWNLOAD_BYTES) / 1e9;
    const row = 'SOCKS5 download of 200 MB';
    return [
      { row: `${row}, median`, value: rates[rates.length >> 1] ?? 0, unit: 'MB/s', goal: '>= 187' },
      { row: `${row}, lowest`, value: rates[0] ?? 0, unit: 'MB/s' },
      { row: `${row}, highest`, value: rates.at(-1) ?? 0, unit: 'MB/s' },
      { row: 'its processor time, sealaned', value: (cpuSeconds(lab.server) - before[0]) / gigabytes, unit: 's/GB' },
      { row: 'its processor time, sealane', value: (cpuSeconds(lab.client) - before[1]) / gigabytes, unit: 's/GB' },
      { row: 'resident after it, sealaned', value: residentMegabytes(lab.server), unit: 'MB' },
      { row: 'resident after it, sealane', value: residentMegabytes(lab.client), unit: 'MB' },
    ];
  } finally {
    await lab.close();
  }
}

const benches = { download };
const rows = [];
for (const [name, bench] of Object.entries(benches)) {
  if (positionals.length > 0 && !positionals.includes(name)) continue;
  for (const row of await bench()) {
    rows.push(row);
    const goal = row.goal === undefined ? '' : `  (goal ${row.goal})`;
    console.log(`${row.row.padEnd(58)}  ${row.value.toPrecision(3).padStart(8)} ${row.unit}${goal}`);
  }
}
if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(rows, null, 2)}\n`);
