/**
 * The soak: servers and clients as processes under traffic, changes of configuration, restarts and links that come and go, and a report
 * of what it did to their memory. As root on Linux in network namespaces, otherwise over loopback. Ctrl-C ends it with the report so far.
 * npm run soak -- [MINUTES] [--out FOLDER] [--loopback]
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Processes } from './demo/processes.mjs';
import { Churn } from './soak/churn.mjs';
import { overLoopback } from './soak/loopback.mjs';
import { inNamespaces } from './soak/namespaces.mjs';
import { summarize, tableOf, writeReport } from './soak/report.mjs';
import { look } from './soak/samples.mjs';
import { Watch } from './soak/watch.mjs';
import { readOptions, refuse } from './options.mjs';

/** Milliseconds between looks at memory, and in which the highest rate is found. */
const INTERVAL = 5_000;
const MEASURING = 5_000;

const { minutes, out, loopback } = readWishes();
const directory = mkdtempSync(join(tmpdir(), 'sealane-soak-'));
process.env['STATE_DIRECTORY'] = directory;
const processes = new Processes();
const watch = new Watch();
/** @type {(() => unknown)[]} */
const undo = [() => rmSync(directory, { recursive: true, force: true }), () => processes.endAll()];
/** @type {Map<string, import('./soak/samples.mjs').Sample[]>} */
const samples = new Map();
let interrupted = false;
for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM'])) {
  process.on(signal, () => {
    // The terminal tells the tunnels too: what ends now is no fault of theirs.
    watch.finish();
    interrupted = true;
  });
}

try {
  process.exitCode = await soak();
} catch (error) {
  if (!interrupted) {
    console.error(`soak: ${error instanceof Error ? error.message : String(error)}`);
    for (const words of processes.lastWords()) console.error(words);
  }
  process.exitCode = interrupted ? 130 : 1;
} finally {
  watch.finish();
  for (const step of undo.toReversed()) await step();
}
process.exit();

async function soak() {
  const root = process.platform === 'linux' && process.getuid?.() === 0;
  const open = root && !loopback ? inNamespaces : overLoopback;
  const rig = await open({ processes, watch, directory, undo });
  say(`${minutes} min, ${rig.kind}; Ctrl-C ends it with the report so far`);
  /** @type {any} */
  let traffic;
  rig.sender.lines((line) => (traffic = JSON.parse(line)));
  await nap(MEASURING + 1_000);
  const before = traffic?.back ?? 0;
  await nap(MEASURING);
  const topRate = ((traffic?.back ?? 0) - before) / (MEASURING / 1_000);
  if (!(topRate > 0) && !interrupted) throw new Error('nothing comes back through the tunnel');
  rig.sender.child.stdin?.write(`rate ${Math.round(topRate / 2)}\n`);
  say(`at most ${((topRate * 8) / 1e6).toFixed(0)} Mbit/s there and back: half of it from now on`);

  const churn = new Churn(rig, { processes, watch });
  churn.begin();
  const from = performance.now();
  for (const { name } of rig.lasting) samples.set(name, []);
  while (!interrupted && performance.now() - from < minutes * 60_000) {
    await nap(Math.min(INTERVAL, minutes * 60_000 - (performance.now() - from)));
    const at = (performance.now() - from) / 1_000;
    for (const { name, running } of rig.lasting) {
      const seen = look(running.child.pid);
      if (seen !== undefined) samples.get(name)?.push({ at, ...seen });
    }
    if ((samples.get('server')?.length ?? 0) % 12 === 0) say(progress(at, traffic, churn));
  }
  watch.finish();
  const seconds = (performance.now() - from) / 1_000;
  await churn.end();
  const summary = summarize({ kind: rig.kind, seconds, samples, churn, topRate, traffic, problems: watch.problems });
  mkdirSync(out, { recursive: true });
  writeReport(out, summary, samples);
  console.log(`\n${tableOf(summary)}\n\n${join(out, 'soak.txt')}, soak.json and soak.svg have it too.`);
  return summary.faults.length === 0 ? 0 : 1;
}

function progress(seconds, traffic, churn) {
  const rss = Array.from(samples, ([name, taken]) => `${name} ${taken.at(-1)?.rss.toFixed(0)} MiB`).join(', ');
  return `${(seconds / 60).toFixed(0)} min: ${rss}; ${(traffic.back / 2 ** 30).toFixed(1)} GiB, ${churn.counts.restarts.done} restarts, ${watch.problems.length} complaints`;
}

/** Sleeps, but not past an interruption. */
async function nap(ms) {
  for (const end = performance.now() + ms; !interrupted && performance.now() < end;) {
    await sleep(Math.max(1, Math.min(100, end - performance.now())));
  }
}

function say(text) {
  process.stderr.write(`soak: ${text}\n`);
}

function readWishes() {
  const usage = 'npm run soak [-- [MINUTES] [--out FOLDER] [--loopback]]';
  const { values, positionals } = readOptions(
    'soak',
    usage,
    { out: { type: 'string', default: 'soak' }, loopback: { type: 'boolean', default: false } },
    [],
  );
  const wanted = Number(positionals[0] ?? 60);
  if (!(wanted > 0 && wanted <= 10_000) || positionals.length > 1) {
    refuse('soak', `${positionals.join(' ')}: expected a number of minutes above 0`);
  }
  return { minutes: wanted, out: resolve(values.out), loopback: values.loopback };
}
