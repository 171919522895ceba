/**
 * `npm run bench:floods` (root): a real server under floods, sealaned and wireguard-go by turns on the same machine in the same run. What
 * is kept is the throughput of a session under the flood, against that under the same flood to a socket that nobody reads: the cost of
 * making and receiving the flood counts in both.
 */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  closeFloodHosts,
  flood,
  INNER,
  openFloodHosts,
  openSink,
  PORT,
  SINK_PORT,
  SOURCES,
  startEnds,
} from './flood-ends.mjs';
import { measureStopped } from './flood-stopped.mjs';
import { cpuOf, rssOf, run, within } from './namespaces.mjs';
import { readOptions } from '../../scripts/options.mjs';

const usage = `node test/bench/floods.mjs [--peer-binary PATH] [--rounds N] [--seconds S] [--rate N] [--only a,b] [--alone] [--json FILE]
  --peer-binary  the wireguard-go to compare with (default: the one on PATH)
  --rate         datagrams a second
  --only         some of junk, spoofed, single, badmac, cookie, stopped
  --alone        without wireguard-go`;
const { values: options } = readOptions('bench:floods', usage, {
  'peer-binary': { type: 'string', default: 'wireguard-go' },
  rounds: { type: 'string', default: '3' },
  seconds: { type: 'string', default: '4' },
  rate: { type: 'string', default: '20000' },
  only: { type: 'string' },
  alone: { type: 'boolean', default: false },
  json: { type: 'string' },
});
if (process.platform !== 'linux' || process.getuid?.() !== 0) {
  console.error('bench:floods: needs Linux and root for network namespaces: not measured');
  process.exit(2);
}
const [rounds, seconds, rate] = [options.rounds, options.seconds, options.rate].map(Number);

/** @typedef {{ kept: number, control: number, gbits: number, honest: number[], cookies: number, grown: number, cost: number, alive: boolean, sent: number }} Outcome */
const FLOODS = [
  { id: 'S2', name: 'junk', text: 'junk, full size', kind: 'junk', sources: SOURCES, goal: '(0.66)' },
  {
    id: 'S3',
    name: 'spoofed',
    text: 'initiations, 200 sources',
    kind: 'initiation',
    sources: SOURCES,
    goal: '>= 0.70',
  },
  {
    id: 'S4',
    name: 'single',
    text: 'initiations, one source',
    kind: 'initiation',
    sources: SOURCES.slice(0, 1),
    goal: '>= 0.65',
  },
  { id: 'S5', name: 'badmac', text: 'initiations, wrong mac1', kind: 'badmac', sources: SOURCES, goal: '>= 0.85' },
  { id: '', name: 'cookie', text: 'cookie replies to nothing', kind: 'cookie', sources: SOURCES, goal: '' },
].filter(({ name }) => options.only?.split(',').includes(name) ?? true);
const stops = options.only?.split(',').includes('stopped') ?? true;
/** @type {('ours' | 'theirs')[]} */
const KINDS = options.alone ? ['ours'] : ['ours', 'theirs'];
const CONNECTS = 3;
const LEAD = 1_000;

/** Gbit/s from client to server. */
async function throughput() {
  const server = within('b', 'iperf3', ['-s', '-1', '--forceflush']);
  await once(server.stdout, 'data');
  const output = await run('a', 'iperf3', ['-c', INNER.server, '-t', String(seconds), '-O', '1', '-J']);
  server.kill('SIGKILL');
  const { bytes, seconds: lasted } = JSON.parse(output).end.sum_received;
  return (bytes * 8) / lasted / 1e9;
}

/**
 * @param {import('./flood-ends.mjs').Ends} ends
 * @param {(typeof FLOODS)[number]} what
 * @returns {Promise<Outcome>}
 */
async function measure({ server, publicKey, honest }, { kind, sources }) {
  const common = { kind, rate, seconds: seconds + 4, sources, publicKey };
  const sink = await openSink();
  const aside = flood({ ...common, port: SINK_PORT });
  await sleep(LEAD);
  const control = await throughput();
  await aside.done;
  sink.kill('SIGKILL');

  const pid = server.pid ?? 0;
  const before = rssOf(pid);
  let highest = before;
  const watch = setInterval(() => (highest = Math.max(highest, rssOf(pid))), 250);
  const real = flood({ ...common, port: PORT });
  await sleep(LEAD);
  const [at, used] = [performance.now(), cpuOf(pid)];
  await sleep(LEAD);
  const cost = ((cpuOf(pid) - used) * 1e6) / (rate * (performance.now() - at));
  const under = throughput();
  await sleep(LEAD);
  const connects = [];
  for (let i = 0; i < CONNECTS; i++) {
    connects.push(await honest.connect());
    // One peer may begin 50 times a second, as the paper has it.
    await sleep(100);
  }
  const gbits = await under;
  const sent = await real.done;
  clearInterval(watch);
  const answered = await run('a', 'ping', ['-c', '1', '-W', '2', INNER.server]).catch(() => undefined);
  return {
    kept: gbits / control,
    control,
    gbits,
    honest: connects.map(({ ms }) => ms ?? Infinity),
    cookies: Math.max(...connects.map(({ cookies }) => cookies)),
    grown: highest - before,
    cost,
    alive: answered !== undefined && server.exitCode === null && server.signalCode === null,
    sent,
  };
}

process.once('SIGINT', () => {
  closeFloodHosts();
  process.exit(130);
});
const peer = execFileSync(options['peer-binary'], ['--version'], { encoding: 'utf8' }).split('\n')[0];
const machine = `${cpus()[0]?.model} x ${cpus().length}, Node ${process.versions.node}`;
console.log(`${machine}\nagainst ${peer}; ${rate} datagrams a second, ${rounds} rounds of ${seconds} s by turns\n`);

/** @type {Map<string, Outcome[]>} */
const outcomes = new Map();
/** @type {Map<string, import('./flood-stopped.mjs').Stopped[]>} */
const stopped = new Map();
openFloodHosts();
try {
  for (let round = 0; round < rounds; round++) {
    for (const kind of KINDS) {
      const ends = await startEnds(kind, options['peer-binary']);
      for (const what of FLOODS) {
        const key = `${what.name} ${kind}`;
        outcomes.set(key, [...(outcomes.get(key) ?? []), await measure(ends, what)]);
        process.stderr.write('.');
      }
      if (stops) stopped.set(kind, [...(stopped.get(kind) ?? []), await measureStopped(ends, rate)]);
      await ends.stop();
    }
  }
} finally {
  closeFloodHosts();
}
process.stderr.write('\n');

/** @param {number[]} list */
const median = (list) => list.toSorted((x, y) => x - y)[list.length >> 1] ?? NaN;
/** @param {Outcome[]} list */
function cells(list) {
  const kept = list.map((one) => one.kept);
  const honest = list.flatMap((one) => one.honest);
  return [
    `**${median(kept).toFixed(2)}** (${Math.min(...kept).toFixed(2)} - ${Math.max(...kept).toFixed(2)})`,
    `${median(honest).toFixed(0)} (${Math.max(...honest).toFixed(0)})`,
    String(Math.max(...list.map((one) => one.cookies))),
    median(list.map((one) => one.cost)).toFixed(1),
    `+${Math.max(...list.map((one) => one.grown)).toFixed(0)}`,
    list.every((one) => one.alive) ? 'yes' : 'NO',
  ];
}
if (FLOODS.length > 0)
  console.log(`| id | flood | goal | of | throughput kept: median (spread) | new peer, ms: median (longest) | cookies | processor, us a datagram | memory, MiB | alive |
|---|---|---|---|---|---|---|---|---|---|`);
for (const { id, name, text, goal } of FLOODS) {
  for (const kind of KINDS) {
    const list = outcomes.get(`${name} ${kind}`) ?? [];
    const who = kind === 'ours' ? 'sealaned' : 'wireguard-go';
    console.log(`| ${[id, text, goal, who, ...cells(list)].join(' | ')} |`);
  }
}
if (stops) {
  console.log(`
| id | stopped for 10 s under junk | Mbit/s of UDP before | back at nine tenths, s: median (longest) | goal | memory, MiB | alive |
|---|---|---|---|---|---|---|`);
  for (const kind of KINDS) {
    const list = stopped.get(kind) ?? [];
    const back = list.map((one) => one.back);
    const who = kind === 'ours' ? 'sealaned' : 'wireguard-go';
    const times = `**${median(back).toFixed(1)}** (${Math.max(...back).toFixed(1)})`;
    const grown = `+${Math.max(...list.map((one) => one.grown)).toFixed(0)}`;
    const usual = median(list.map((one) => one.usual)).toFixed(0);
    console.log(
      `| S10 | ${who} | ${usual} | ${times} | <= 2 | ${grown} | ${list.every((one) => one.alive) ? 'yes' : 'NO'} |`,
    );
  }
}
if (options.json !== undefined) {
  const content = {
    machine,
    peer,
    date: new Date().toISOString(),
    rate,
    seconds,
    outcomes: Object.fromEntries(outcomes),
    stopped: Object.fromEntries(stopped),
  };
  writeFileSync(options.json, `${JSON.stringify(content, null, 2)}\n`);
}
