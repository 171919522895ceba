/**
 * `npm run bench:tunnel` (root): the whole tunnel, TUN to TUN in network namespaces, ours and wireguard-go by turns on the same machine
 * in the same run. Medians and spread of the rounds; only the ratios mean anything on another day.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { closeHosts, cpuOf, INNER, openHosts, rssOf, run, startPair, stopPair, within } from './namespaces.mjs';
import { chart } from './chart.mjs';
import { handshakeRate } from './handshakes.mjs';
import { newKeys } from './keys.mjs';
import { quantile, rowsOf, scalingTable, table } from './report.mjs';
import { costBySize } from './scaling.mjs';
import { readOptions } from '../../scripts/options.mjs';

const usage = `node test/bench/tunnel.mjs [--peer-binary PATH] [--rounds N] [--seconds S] [--idle S] [--quick] [--json FILE] [--svg FILE]
  --peer-binary     the wireguard-go to compare with (default: the one on PATH)
  --allow-old-peer  compare with one that has no offloads, and say so
  --only            some measures, as in --only tcp,smallPackets,handshakes,scaling; no plot then
  --quick           TCP and ping only, 2 rounds of 3 seconds, any wireguard-go`;
const { values: options } = readOptions('bench:tunnel', usage, {
  'peer-binary': { type: 'string' },
  'allow-old-peer': { type: 'boolean', default: false },
  rounds: { type: 'string', default: '5' },
  seconds: { type: 'string', default: '4' },
  quick: { type: 'boolean', default: false },
  idle: { type: 'string', default: '60' },
  only: { type: 'string' },
  json: { type: 'string' },
  svg: { type: 'string' },
});
const rounds = options.quick ? 2 : Number(options.rounds);
const seconds = options.quick ? 3 : Number(options.seconds);

const HOW_TO_GET_ONE = `Debian 12 has one in its backports: add the suite bookworm-backports to the APT sources, then
  apt-get update && apt-get install -t bookworm-backports wireguard-go
or unpack that package elsewhere and name it with --peer-binary.`;

/** @type {(problem: string) => never} */
function say(problem) {
  console.error(`bench:tunnel: ${problem}`);
  process.exit(options.quick ? 0 : 2);
}

/** @param {string} program */
function which(program) {
  try {
    return execFileSync('which', [program], { encoding: 'utf8' }).trim();
  } catch {
    return undefined;
  }
}

if (process.platform !== 'linux' || process.getuid?.() !== 0)
  say('needs Linux and root for network namespaces: not measured');
for (const program of ['ip', 'iperf3', 'ping', 'wg'])
  if (which(program) === undefined) say(`needs ${program}: not measured`);
const peerProgram = options['peer-binary'] ?? which('wireguard-go');
if (peerProgram === undefined) say(`needs wireguard-go: not measured.\n${HOW_TO_GET_ONE}`);
// Versions print what their makers left there; the code for trains of datagrams and for the TUN's offloads is what matters.
const peerCode = readFileSync(peerProgram, 'latin1');
const hasOffloads = peerCode.includes('setGSOSize') && peerCode.includes('handleGRO');
if (!hasOffloads && !options['allow-old-peer'] && !options.quick) {
  say(
    `${peerProgram} has no offloads (it is older than 0.0.20231211); comparing with it would flatter us: --allow-old-peer does so.\n${HOW_TO_GET_ONE}`,
  );
}

/** @typedef {import('./namespaces.mjs').End} End */
/** @typedef {import('./namespaces.mjs').Pair} Pair */
/** @typedef {Record<string, (pair: Pair) => Promise<number>>} Measures */
/** @typedef {{ name: string, ends: { a: End, b: End }, outer?: 4 | 6, measures?: Measures }} Setting */
/** @typedef {Record<'ours' | 'theirs', [number, number][]>} Curves */

/** @type {End} */
const ours = { kind: 'ours' };
/** @type {End} */
const aes = { kind: 'ours', suite: 'aes256gcm' };
/** @type {End} */
const theirs = { kind: 'theirs', program: peerProgram };
/** @type {['ours' | 'theirs', End][]} */
const KINDS = [
  ['ours', ours],
  ['theirs', theirs],
];

/**
 * What arrives: Gbit/s, and of UDP the datagrams a second.
 * @param {'a' | 'b'} side
 * @param {string} address
 * @param {string[]} args
 */
async function iperf(side, address, args) {
  const server = within(side === 'a' ? 'b' : 'a', 'iperf3', ['-s', '-1', '--forceflush']);
  await new Promise((resolve) => server.stdout.once('data', resolve));
  // Leaving out the first second confuses the counts of UDP.
  const warm = args.includes('-u') ? [] : ['-O', '1'];
  const output = await run(side, 'iperf3', ['-c', address, '-t', String(seconds), '-J', ...warm, ...args]);
  server.kill('SIGKILL');
  const { bytes, seconds: lasted } = JSON.parse(output).end.sum_received;
  const size = Number(args[args.indexOf('-l') + 1]);
  return { gbits: (bytes * 8) / lasted / 1e9, packets: bytes / size / lasted };
}

/**
 * @param {number} count
 * @param {number} interval
 */
async function pings(count, interval) {
  const output = await run('a', 'ping', ['-c', String(count), '-i', String(interval), INNER.b[0]]);
  return [...output.matchAll(/time=([\d.]+) ms/g)].map((match) => Number(match[1])).toSorted((x, y) => x - y);
}

const tcp = async () => (await iperf('a', INNER.b[0], [])).gbits;
const idlePing = async () => quantile(await pings(100, 0.01), 0.5);
async function loadedPing() {
  const load = iperf('a', INNER.b[0], []);
  await sleep(1_200);
  const times = await pings(Math.max(50, seconds * 60), 0.01);
  await load;
  return quantile(times, 0.99);
}

const messageSizes = [64, 128, 256, 512, 1_024, 1_372];
const streamCounts = [1, 2, 4, 8, 16, 32];
/** What is measured in each setting; `goal` compares with the same measure of the setting in `against`. */
/** @type {Setting[]} */
const settings = [
  {
    name: 'ours',
    ends: { a: ours, b: ours },
    measures: {
      tcp,
      idlePing,
      ...(!options.quick && {
        loadedPing,
        smallPackets: async () => (await iperf('a', INNER.b[0], ['-u', '-b', '0', '-l', '64'])).packets,
        udpBulk: async () => (await iperf('a', INNER.b[0], ['-u', '-b', '0', '-l', '1372'])).gbits,
        tenStreams: async () => (await iperf('a', INNER.b[0], ['-P', '10'])).gbits,
        rss: async (pair) => rssOf(pair.b.pid),
        ready: async (pair) => pair.b.ready,
      }),
    },
  },
  { name: 'theirs', ends: { a: theirs, b: theirs } },
  ...(options.quick
    ? []
    : /** @type {Setting[]} */ ([
        {
          name: 'ours, IPv6',
          ends: { a: ours, b: ours },
          outer: 6,
          measures: { ipv6: async () => (await iperf('a', INNER.b[1], [])).gbits },
        },
        { name: 'theirs, IPv6', ends: { a: theirs, b: theirs }, outer: 6 },
        { name: 'ours, AES-256-GCM', ends: { a: aes, b: aes }, measures: { tcp } },
        { name: 'ours to theirs', ends: { a: ours, b: theirs }, measures: { tcp } },
        { name: 'theirs to ours', ends: { a: theirs, b: ours }, measures: { tcp } },
      ])),
];
for (const [i, setting] of settings.entries()) setting.measures ??= settings[i - 1]?.measures ?? {};
const only = options.only?.split(',');
for (const setting of settings) {
  const wanted = Object.entries(setting.measures ?? {}).filter(([measure]) => only?.includes(measure) ?? true);
  setting.measures = Object.fromEntries(wanted);
}

/** @type {Map<string, Record<string, number[]>>} */
const samples = new Map(settings.map(({ name }) => [name, {}]));
/** @type {{ sizes: Curves, streams: Curves }} */
const curves = { sizes: { ours: [], theirs: [] }, streams: { ours: [], theirs: [] } };
/** @type {Record<string, number>} */
const idle = {};
/** @type {Partial<Record<'ours' | 'theirs', import('./report.mjs').Costs>>} */
const scaling = {};

process.once('SIGINT', () => {
  closeHosts();
  process.exit(130);
});
const said = (/** @type {string} */ program, /** @type {string[]} */ ...args) =>
  execFileSync(program, args, { encoding: 'utf8', cwd: fileURLToPath(new URL('.', import.meta.url)) })
    .split('\n')[0]
    ?.trim() ?? '';
const machine = `${cpus()[0]?.model ?? 'unknown processor'} x ${cpus().length}, Linux ${said('uname', '-r')}, Node ${process.versions.node}`;
const build = `Sealane ${commit()}, ${said('iperf3', '--version').replace(/ \(.*/, '')}`;
const peer = `${said(peerProgram, '--version')} (${hasOffloads ? 'with' : 'WITHOUT'} offloads)`;
console.log(
  `${machine}\n${build}\nagainst ${peer}, ${rounds} rounds of ${seconds} s by turns, ${new Date().toISOString().slice(0, 10)}\n`,
);

openHosts();
try {
  for (let round = 0; round < rounds; round++) {
    for (const { name, ends, outer, measures } of settings) {
      if (Object.keys(measures ?? {}).length === 0) continue;
      const keys = { a: newKeys(), b: newKeys() };
      const pair = await startPair(ends, keys, { outer });
      const taken = samples.get(name) ?? {};
      for (const [measure, take] of Object.entries(measures ?? {})) (taken[measure] ??= []).push(await take(pair));
      await stopPair(pair);
      process.stderr.write('.');
    }
    if (!options.quick && (only?.includes('handshakes') ?? true)) await measureHandshakes();
  }
  if (!options.quick && only === undefined) await measureOnce();
  if (only?.includes('scaling') ?? !options.quick) await measureScaling();
} finally {
  closeHosts();
}
process.stderr.write('\n');

/** What was built, as Git names it; a packed copy has no history. */
function commit() {
  try {
    return said('git', 'describe', '--always', '--dirty');
  } catch {
    return 'of an unknown commit';
  }
}

async function measureHandshakes() {
  for (const [name, end] of KINDS) {
    const taken = samples.get(name) ?? {};
    (taken['handshakes'] ??= []).push(await handshakeRate(end));
    process.stderr.write('h');
  }
}

async function measureScaling() {
  for (const [name, end] of KINDS) {
    scaling[name] = await costBySize(end, seconds);
    process.stderr.write('s');
  }
}

/** What needs no rounds: the curves of the plot, and idleness. */
async function measureOnce() {
  for (const [name, end] of KINDS) {
    const pair = await startPair({ a: end, b: end }, { a: newKeys(), b: newKeys() });
    for (const size of messageSizes) {
      const { gbits } = await iperf('a', INNER.b[0], ['-u', '-b', '0', '-l', String(size)]);
      curves.sizes[name].push([size, gbits]);
    }
    for (const count of streamCounts) {
      const { gbits } = await iperf('a', INNER.b[0], ['-P', String(count)]);
      curves.streams[name].push([count, gbits]);
    }
    await sleep(2_000);
    const before = cpuOf(pair.a.pid) + cpuOf(pair.b.pid);
    await sleep(Number(options.idle) * 1_000);
    idle[name] = ((cpuOf(pair.a.pid) + cpuOf(pair.b.pid) - before) / 2_000) * (60 / Number(options.idle));
    await stopPair(pair);
    process.stderr.write('+');
  }
}

const report = rowsOf(samples);
console.log(table(report));
for (const [name, used] of Object.entries(idle))
  console.log(`| P8 | processor seconds a minute at rest, each end, ${name} | | < 0.1 | ${used.toFixed(3)} | |`);
if (scaling.ours !== undefined && scaling.theirs !== undefined) {
  console.log(`\n${scalingTable({ ours: scaling.ours, theirs: scaling.theirs })}`);
}

if (options.json !== undefined) {
  const content = {
    machine,
    build,
    peer,
    date: new Date().toISOString(),
    rounds,
    seconds,
    rows: report,
    curves,
    idle,
    scaling,
  };
  writeFileSync(options.json, `${JSON.stringify(content, null, 2)}\n`);
}
if (options.svg !== undefined && !options.quick && only === undefined) writeFileSync(options.svg, chart(curves));
