/**
 * A crowd of peers, ours and wireguard-go by turns: all of them come back at once, as after a restart, or none is there any more and each
 * has a keepalive. Ends with 1 when the median of ours misses a goal.
 * node test/bench/crowd.mjs [--peers 10000] [--rounds 3] [--seconds 60]     needs root, wg and wireguard-go
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { readOptions } from '../../scripts/options.mjs';
import { handshakeRate } from './handshakes.mjs';
import { newKeys, silentPeers } from './keys.mjs';
import { closeHosts, cpuOf, ip, namespaceOf, openHosts, OUTER, startEnd, stopEnd } from './namespaces.mjs';

const usage = `node test/bench/crowd.mjs [--peers N] [--rounds N] [--seconds N]     needs root, wg and wireguard-go
  --peers    how many (default 10000)
  --rounds   of each measurement (default 3)
  --seconds  how long dead peers are called (default 60)`;
const { values } = readOptions('crowd', usage, {
  peers: { type: 'string', default: '10000' },
  rounds: { type: 'string', default: '3' },
  seconds: { type: 'string', default: '60' },
});
const [count, rounds, seconds] = [Number(values.peers), Number(values.rounds), Number(values.seconds)];
/** Milliseconds until all have begun. */
const BEGINNING = 10_000;
const NOWHERE = OUTER.a[0].replace(/\d+$/, '99');
/** @type {[string, import('./namespaces.mjs').End][]} */
const KINDS = [
  ['ours', { kind: 'ours' }],
  ['wireguard-go', { kind: 'theirs' }],
];
/** @param {number[]} list */
const median = (list) => list.toSorted((a, b) => a - b)[list.length >> 1] ?? NaN;

/** Seconds until all have a session. @param {import('./namespaces.mjs').End} end */
async function storm(end) {
  return count / (await handshakeRate(end, { initiators: count, each: 1 }));
}

/** Percent of a core, and initiations a second. @param {import('./namespaces.mjs').End} end */
async function calling(end) {
  // Goes out and reaches nobody: no error comes back.
  ip('-n', namespaceOf('b'), 'neigh', 'replace', NOWHERE, 'lladdr', '02:00:00:00:00:99', 'dev', outerDevice());
  const peers = silentPeers(count).map((peer) => ({
    ...peer,
    endpoint: { address: NOWHERE, port: 51_999 },
    keepalive: 25,
  }));
  const started = await startEnd('b', end, newKeys(), peers);
  await sleep(BEGINNING);
  const [cpu, sent, at] = [cpuOf(started.pid), sentPackets(), performance.now()];
  await sleep(seconds * 1_000);
  const took = performance.now() - at;
  const result = { percent: (100 * (cpuOf(started.pid) - cpu)) / took, rate: ((sentPackets() - sent) * 1_000) / took };
  await stopEnd(started);
  return result;
}

function outerDevice() {
  return /dev (\S+)/.exec(ip('-n', namespaceOf('b'), 'route', 'get', NOWHERE))?.[1] ?? '';
}

function sentPackets() {
  const [{ stats64 }] = JSON.parse(ip('-n', namespaceOf('b'), '-s', '-j', 'link', 'show', outerDevice()));
  return Number(stats64.tx.packets);
}

/** @type {Record<string, { storm: number[], percent: number[], rate: number[] }>} */
const samples = Object.fromEntries(KINDS.map(([name]) => [name, { storm: [], percent: [], rate: [] }]));
openHosts();
try {
  for (let round = 0; round < rounds; round++) {
    for (const [name, end] of KINDS) {
      const taken = samples[name];
      taken?.storm.push(await storm(end));
      const { percent, rate } = await calling(end);
      taken?.percent.push(percent);
      taken?.rate.push(rate);
      process.stderr.write('.');
    }
  }
} finally {
  closeHosts();
}
process.stderr.write('\n');
for (const { row, measure, unit, goal } of /** @type {const} */ ([
  { row: `${count} peers come back: all have a session after`, measure: 'storm', unit: 's', goal: 15 },
  { row: `${count} dead peers with keepalive: processor`, measure: 'percent', unit: '% of a core', goal: 20 },
  { row: 'initiations a second to them', measure: 'rate', unit: '', goal: Infinity },
])) {
  const [ours, theirs] = KINDS.map(([name]) => median(samples[name]?.[measure] ?? []));
  const isMet = (ours ?? NaN) <= goal;
  const wanted = goal === Infinity ? '' : `, goal ${goal}${isMet ? '' : ', missed'}`;
  console.log(`${row.padEnd(47)} ${ours?.toPrecision(3)} ${unit} (wireguard-go ${theirs?.toPrecision(3)}${wanted})`);
  if (!isMet) process.exitCode = 1;
}
