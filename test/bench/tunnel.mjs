/**
 * `npm run bench:tunnel` (root): the whole tunnel, TUN to TUN in network namespaces, ours and wireguard-go by turns on the same machine
 * in the same run. Medians and spread of the rounds; only the ratios mean anything on another day.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { generatePrivateKey, nobleCrypto } from '@sealane/protocol';
import { closeHosts, cpuOf, INNER, openHosts, rssOf, run, startPair, stopPair, within } from './namespaces.mjs';
import { chart } from './chart.mjs';

const { values: options } = parseArgs({
  options: {
    'peer-binary': { type: 'string' },
    'allow-old-peer': { type: 'boolean', default: false },
    rounds: { type: 'string', default: '5' },
    seconds: { type: 'string', default: '4' },
    quick: { type: 'boolean', default: false },
    idle: { type: 'string', default: '60' },
    json: { type: 'string' },
    svg: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
});
if (options.help) {
  console.log(`node test/bench/tunnel.mjs [--peer-binary PATH] [--rounds N] [--seconds S] [--idle S] [--quick] [--json FILE] [--svg FILE]
  --peer-binary     the wireguard-go to compare with (default: the one on PATH)
  --allow-old-peer  compare with one that has no offloads, and say so
  --quick           TCP and ping only, 2 rounds of 3 seconds, any wireguard-go`);
  process.exit(0);
}
const rounds = options.quick ? 2 : Number(options.rounds);
const seconds = options.quick ? 3 : Number(options.seconds);

const HOW_TO_GET_ONE = `Debian 12 has one in its backports: add the suite bookworm-backports to the APT sources, then
  apt-get update && apt-get install -t bookworm-backports wireguard-go
or unpack that package elsewhere and name it with --peer-binary.`;

function say(problem) {
  console.error(`bench:tunnel: ${problem}`);
  process.exit(options.quick ? 0 : 2);
}

function which(program) {
  try {
    return execFileSync('which', [program], { encoding: 'utf8' }).trim();
  } catch {
    return undefined;
  }
}

if (process.platform !== 'linux' || process.getuid() !== 0)
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

const random = (length) => crypto.getRandomValues(new Uint8Array(length));
const base64 = (bytes) => Buffer.from(bytes).toString('base64');
function newKeys() {
  const privateKey = generatePrivateKey(random);
  return { privateKey: base64(privateKey), publicKey: base64(nobleCrypto.publicKey(privateKey)) };
}

const ours = { kind: 'ours' };
const aes = { kind: 'ours', suite: 'aes256gcm' };
const theirs = { kind: 'theirs', program: peerProgram };

/** Bits a second that arrive, and the datagrams of UDP. */
async function iperf(side, address, args) {
  const server = within(side === 'a' ? 'b' : 'a', 'iperf3', ['-s', '-1', '--forceflush']);
  await new Promise((resolve) => server.stdout.once('data', resolve));
  const output = await run(side, 'iperf3', ['-c', address, '-t', String(seconds), '-O', '1', '-J', ...args]);
  server.kill('SIGKILL');
  const { end } = JSON.parse(output);
  const sum = end.sum_received ?? end.sum;
  const arrived = sum.packets === undefined ? undefined : (sum.packets - sum.lost_packets) / sum.seconds;
  const lossless = end.sum_received?.bits_per_second ?? sum.bits_per_second * (1 - sum.lost_percent / 100);
  return { gbits: lossless / 1e9, packets: arrived };
}

async function pings(count, interval) {
  const output = await run('a', 'ping', ['-c', String(count), '-i', String(interval), INNER.b[0]]);
  return [...output.matchAll(/time=([\d.]+) ms/g)].map((match) => Number(match[1])).toSorted((x, y) => x - y);
}

const quantile = (sorted, q) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))];
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
    : [
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
      ]),
];
for (const [i, setting] of settings.entries()) setting.measures ??= settings[i - 1].measures;

const samples = new Map(settings.map(({ name }) => [name, {}]));
const curves = { sizes: { ours: [], theirs: [] }, streams: { ours: [], theirs: [] } };
const idle = {};

process.once('SIGINT', () => {
  closeHosts();
  process.exit(130);
});
const machine = `${cpus()[0]?.model ?? 'unknown processor'} x ${cpus().length}, Linux ${execFileSync('uname', ['-r'], { encoding: 'utf8' }).trim()}, Node ${process.versions.node}`;
const peer = `${execFileSync(peerProgram, ['--version'], { encoding: 'utf8' }).split('\n')[0]} (${hasOffloads ? 'with' : 'WITHOUT'} offloads)`;
console.log(
  `${machine}\nagainst ${peer}, ${rounds} rounds of ${seconds} s by turns, ${new Date().toISOString().slice(0, 10)}\n`,
);

openHosts();
try {
  for (let round = 0; round < rounds; round++) {
    for (const { name, ends, outer, measures } of settings) {
      const keys = { a: newKeys(), b: newKeys() };
      const pair = await startPair(ends, keys, { outer });
      for (const [measure, take] of Object.entries(measures))
        (samples.get(name)[measure] ??= []).push(await take(pair));
      await stopPair(pair);
      process.stderr.write('.');
    }
  }
  if (!options.quick) await measureOnce();
} finally {
  closeHosts();
}
process.stderr.write('\n');

/** What needs no rounds: the curves of the plot, and idleness. */
async function measureOnce() {
  for (const [name, end] of [
    ['ours', ours],
    ['theirs', theirs],
  ]) {
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

const rows = [
  ['P1', 'TCP, one stream, Gbit/s', ['ours', 'tcp'], ['theirs', 'tcp'], '>= 1.4'],
  ['P2', 'the same, AES-256-GCM', ['ours, AES-256-GCM', 'tcp'], ['theirs', 'tcp'], '>= 1.8'],
  ['P3', 'ping at rest, p50, ms', ['ours', 'idlePing'], ['theirs', 'idlePing'], '<= 0.5'],
  ['P3', 'ping under load, p99, ms', ['ours', 'loadedPing'], ['theirs', 'loadedPing'], '<= 1'],
  ['P4', 'UDP of 64 bytes, packets/s', ['ours', 'smallPackets'], ['theirs', 'smallPackets'], '>= 1'],
  ['P6', 'UDP of 1372 bytes, Gbit/s', ['ours', 'udpBulk'], ['theirs', 'udpBulk'], '>= 1.1'],
  ['P6', 'TCP, IPv6 in IPv6, Gbit/s', ['ours, IPv6', 'ipv6'], ['theirs, IPv6', 'ipv6'], '>= 1.1'],
  ['P6', 'TCP, 10 streams, Gbit/s', ['ours', 'tenStreams'], ['theirs', 'tenStreams'], '>= 1.1'],
  ['P7', 'TCP, ours to theirs, Gbit/s', ['ours to theirs', 'tcp'], ['theirs', 'tcp'], '>= 1'],
  ['P7', 'TCP, theirs to ours, Gbit/s', ['theirs to ours', 'tcp'], ['theirs', 'tcp'], '>= 1'],
  ['P8', 'start to ready, ms', ['ours', 'ready'], ['theirs', 'ready'], '< 250 ms'],
  ['P9', 'resident memory at full rate, MiB', ['ours', 'rss'], ['theirs', 'rss'], '<= 120 MiB'],
];
const median = (list) =>
  quantile(
    list.toSorted((x, y) => x - y),
    0.5,
  );
const show = (value) => (value >= 1_000 ? Math.round(value).toString() : value.toPrecision(3));
const spread = (list) => `${show(median(list))} (${show(Math.min(...list))} - ${show(Math.max(...list))})`;
const report = rows
  .map(([id, text, [a, measure], [b, other], goal]) => ({
    id,
    text,
    goal,
    ours: samples.get(a)?.[measure],
    theirs: samples.get(b)?.[other],
  }))
  .filter((row) => row.ours !== undefined && row.theirs !== undefined);
console.log(`| id | what | ratio | goal | ours: median (spread) | wireguard-go |\n|---|---|---|---|---|---|`);
for (const { id, text, goal, ours: own, theirs: other } of report) {
  console.log(
    `| ${id} | ${text} | **${(median(own) / median(other)).toFixed(2)}** | ${goal} | ${spread(own)} | ${spread(other)} |`,
  );
}
for (const name of Object.keys(idle))
  console.log(`| P8 | processor seconds a minute at rest, each end, ${name} | | < 0.1 | ${idle[name].toFixed(3)} | |`);

if (options.json !== undefined) {
  const content = { machine, peer, date: new Date().toISOString(), rounds, seconds, rows: report, curves, idle };
  writeFileSync(options.json, `${JSON.stringify(content, null, 2)}\n`);
}
if (options.svg !== undefined && !options.quick) writeFileSync(options.svg, chart(curves));
