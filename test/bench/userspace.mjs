/**
 * The mode without root, whole: `sealaned run --userspace` and `sealane proxy --socks5` on loopback. Some rows, or all:
 * node test/bench/userspace.mjs [download] [idle] [short]; `--help` has the options
 */
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { openCrowd } from './userspace-crowd.mjs';
import { cpuSeconds, openLab, residentMegabytes } from './userspace-lab.mjs';
import { readOptions } from '../../scripts/options.mjs';

const BENCHES = { download, idle, short };
const { values, positionals } = readOptions(
  'userspace',
  `node test/bench/userspace.mjs [${Object.keys(BENCHES).join('] [')}] [options]
  --rounds N       downloads (default 5)
  --connections N  of idle (default 10000) and short (default 100000)
  --seconds S      how long the idle ones are silent (default 310)
  --json FILE      writes the rows
  --profile DIR    processor profiles of both programs during download`,
  {
    rounds: { type: 'string', default: '5' },
    connections: { type: 'string' },
    seconds: { type: 'string', default: '310' },
    json: { type: 'string' },
    profile: { type: 'string' },
  },
  Object.keys(BENCHES),
);
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

/**
 * Connections that have spoken once and then are silent; long enough for each to be asked once whether it is still there.
 * @returns {Promise<Row[]>}
 */
async function idle() {
  const count = Number(values.connections ?? 10_000);
  const crowd = await openCrowd();
  const ends = [
    { name: 'gateway', pid: crowd.gateway.pid },
    { name: 'proxy', pid: crowd.proxy.pid },
  ];
  try {
    const sockets = [];
    await inTurns(count, 100, async () => void sockets.push(await crowd.speak()));
    await sleep(5_000);
    const before = ends.map(({ pid }) => cpuSeconds(pid));
    const start = performance.now();
    await sleep(Number(values.seconds) * 1000);
    const seconds = (performance.now() - start) / 1000;
    const row = `${count.toLocaleString('en')} idle connections through SOCKS5`;
    const rows = ends.flatMap(({ name, pid }, i) => [
      { row: `${row}, ${name}`, value: ((cpuSeconds(pid) - before[i]) / seconds) * 100, unit: '% CPU', goal: '<= 1' },
      { row: `${row}, ${name}`, value: residentMegabytes(pid), unit: 'MB resident', goal: '<= 300' },
    ]);
    for (const socket of sockets) socket.destroy();
    return rows;
  } finally {
    crowd.close();
  }
}

/**
 * Heap and tables before and after many connections that open, speak once and end.
 * @returns {Promise<Row[]>}
 */
async function short() {
  const count = Number(values.connections ?? 100_000);
  const crowd = await openCrowd();
  const ends = { gateway: crowd.gateway, proxy: crowd.proxy };
  const states = async () => {
    // TIME_WAIT is meant to last a minute.
    for (let waited = 0; waited < 90; waited++) {
      const all = await Promise.all(Object.values(ends).map((end) => end.state()));
      if (all.every(({ entries }) => entries.timeWaits === 0 && entries.connections === 0)) return all;
      await sleep(1000);
    }
    return Promise.all(Object.values(ends).map((end) => end.state()));
  };
  try {
    const one = async () => {
      const socket = await crowd.speak();
      socket.end();
      await once(socket, 'close');
    };
    await inTurns(2_000, 50, one);
    const before = await states();
    const start = performance.now();
    await inTurns(count, 50, one);
    const perSecond = (count / (performance.now() - start)) * 1000;
    const after = await states();
    const row = `${count.toLocaleString('en')} short connections through SOCKS5`;
    return [
      { row, value: perSecond, unit: '/s' },
      ...Object.keys(ends).flatMap((name, i) => [
        { row: `heap after them, ${name}`, value: (after[i].heap - before[i].heap) / 1e6, unit: 'MB more', goal: '0' },
        { row: `table entries after them, ${name}`, value: sum(after[i]) - sum(before[i]), unit: 'more', goal: '0' },
      ]),
    ];
  } finally {
    crowd.close();
  }
}

/** All of a stack's tables, and the process's handles. @param {import('./userspace-crowd.mjs').EndState} state */
function sum({ entries, resources }) {
  return Object.values(entries).reduce((total, entry) => total + entry, resources);
}

/** @param {number} count @param {number} atOnce @param {() => Promise<void>} job */
async function inTurns(count, atOnce, job) {
  let begun = 0;
  const worker = async () => {
    while (begun++ < count) await job();
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
}

const rows = [];
for (const [name, bench] of Object.entries(BENCHES)) {
  if (positionals.length > 0 && !positionals.includes(name)) continue;
  for (const row of await bench()) {
    rows.push(row);
    const goal = row.goal === undefined ? '' : `  (goal ${row.goal})`;
    console.log(`${row.row.padEnd(58)}  ${row.value.toPrecision(3).padStart(8)} ${row.unit}${goal}`);
  }
}
if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(rows, null, 2)}\n`);
