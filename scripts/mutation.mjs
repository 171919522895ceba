/**
 * Mutation tests of the protocol: Stryker changes one expression at a time and the tests must notice.
 * npm run mutation -- [replay noise ...]     without names: all files, which takes an hour or two
 * npm run mutation -- --summary              only the table of what was run, and the survivors
 * Stryker is installed beside the workspace, in the folder SEALANE_STRYKER or ~/.cache/sealane-stryker. What was run is kept in
 * mutation/, and mutants whose code and tests stayed the same are not run again.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, readdirSync } from 'node:fs';
import { homedir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { readOptions } from './options.mjs';

const VERSION = '9.6.1';
const WANTED = 0.85;

const root = fileURLToPath(new URL('../', import.meta.url));
const results = join(root, 'mutation');
const report = join(results, 'results.json');
const home = process.env['SEALANE_STRYKER'] ?? join(homedir(), '.cache', 'sealane-stryker');
const stryker = join(home, 'node_modules/@stryker-mutator/core/bin/stryker.js');

/** What runs whole devices, but not over long times or through a network. */
const DEVICE = ['configure', 'control', 'device-api', 'device-crossing', 'lane-publisher', 'peer', 'status'];

/** The tests whose subject a file is, where they do not have its name. */
const TESTS = {
  batch: DEVICE,
  clock: ['time'],
  configure: DEVICE,
  context: DEVICE,
  control: DEVICE,
  cookie: ['transcript'],
  crypto: ['crypto', 'noise'],
  'deadline-queue': ['parts'],
  'derived-keys': ['post-quantum-parts', 'post-quantum'],
  device: DEVICE,
  drops: ['parts', 'status'],
  endpoint: ['parts'],
  'exchange-messages': ['post-quantum-parts'],
  handshake: ['noise', 'transcript'],
  'index-table': ['parts'],
  initiator: DEVICE,
  ip: ['parts', 'data-plane'],
  jitter: ['time'],
  keypair: ['parts'],
  keypairs: ['parts', 'device-crossing'],
  keys: ['parts'],
  'lane-model': ['lanes'],
  'lane-publisher': ['lane-publisher', 'lanes'],
  'lane-replica': ['lane-replica', 'lanes'],
  messages: ['parts', 'transcript'],
  noble: ['crypto', 'noise'],
  noise: ['noise', 'transcript'],
  peer: DEVICE,
  'post-quantum': ['post-quantum', 'post-quantum-wire', 'post-quantum-offering', 'post-quantum-parts'],
  seal: ['parts', 'data-plane'],
  'shared-session': ['shared-session', 'lanes'],
  staging: ['parts'],
  status: ['status', 'peer'],
  timers: ['time'],
};

const usage = `npm run mutation [-- [NAME ...] [--summary]]
  NAME       a file of packages/protocol/src without its ending (default: all, which takes an hour or two)
  --summary  only the table of what was run, and the survivors`;
const { values, positionals } = readOptions('mutation', usage, { summary: { type: 'boolean' } }, []);
const sources = readdirSync(join(root, 'packages/protocol/src')).map((file) => file.replace(/\.ts$/, ''));
const unknown = positionals.find((name) => !sources.includes(nameOf(name)));
if (unknown !== undefined) {
  console.error(`${unknown}: packages/protocol/src/${nameOf(unknown)}.ts does not exist`);
  process.exit(2);
}
if (values.summary !== true) {
  install();
  const wanted = (positionals.length > 0 ? positionals : sources).filter((name) => testsOf(name) !== undefined);
  const isLong = (name) => testsOf(name) === DEVICE && !name.includes(':');
  mutate(
    wanted.filter((name) => !isLong(name)),
    'all',
  );
  mutate(wanted.filter(isLong), 'quickest');
}
process.exit(summarize() ? 0 : 1);

/** Of `peer` and of `peer:1-100`, its first hundred lines, by all of its tests. */
function nameOf(argument) {
  return argument.split(':')[0] ?? '';
}

/** Files of types and constants have none. */
function testsOf(argument) {
  const name = nameOf(argument);
  return TESTS[name] ?? (existsSync(join(root, `packages/protocol/test/${name}.test.ts`)) ? [name] : undefined);
}

function install() {
  if (existsSync(stryker)) return;
  mkdirSync(home, { recursive: true });
  const flags = ['--prefix', home, '--ignore-scripts', '--no-audit', '--no-fund'];
  const { status } = spawnSync('npm', ['install', ...flags, `@stryker-mutator/core@${VERSION}`], { stdio: 'inherit' });
  if (status !== 0) process.exit(1);
}

function mutate(wanted, which) {
  if (wanted.length === 0) return;
  mkdirSync(results, { recursive: true });
  const files = wanted.map((each) => each.replace(/^[^:]*/, 'packages/protocol/src/$&.ts'));
  const tests = Object.fromEntries(wanted.map((each) => [nameOf(each), testsOf(each)]));
  spawnSync(process.execPath, [stryker, 'run', '--mutate', files.join()], {
    cwd: root,
    stdio: 'inherit',
    env: { ...process.env, SEALANE_MUTATION_TESTS: JSON.stringify({ which, tests }) },
  });
}

/** True when enough mutants of all files that were run are dead. */
function summarize() {
  const { files } = existsSync(report) ? JSON.parse(readFileSync(report, 'utf8')) : { files: {} };
  const survivors = [];
  const sum = { killed: 0, timedOut: 0, valid: 0 };
  console.log(`\n${'file'.padEnd(20)} killed  of  score  of these by time`);
  for (const path of Object.keys(files).toSorted()) {
    const { mutants, source } = files[path];
    const count = (...wanted) => mutants.filter(({ status }) => wanted.includes(status)).length;
    const counts = {
      killed: count('Killed', 'Timeout'),
      timedOut: count('Timeout'),
      valid: count('Killed', 'Timeout', 'Survived', 'NoCoverage'),
    };
    console.log(row(basename(path, '.ts'), counts));
    for (const key of Object.keys(sum)) sum[key] += counts[key];
    for (const { location, mutatorName, replacement, status } of mutants) {
      if (status !== 'Survived' && status !== 'NoCoverage') continue;
      const { line } = location.start;
      const was = source.split('\n')[line - 1].trim();
      const what = `${path}:${line} ${status} ${mutatorName}: ${was}`;
      survivors.push(`${what}\n    -> ${replacement?.replaceAll(/\s+/g, ' ')}`);
    }
  }
  console.log(`${row('all', sum)}\n`);
  for (const survivor of survivors) console.log(survivor);
  return sum.valid > 0 && sum.killed / sum.valid >= WANTED;
}

function row(name, { killed, timedOut, valid }) {
  const score = valid === 0 ? '-' : `${((100 * killed) / valid).toFixed(1)} %`;
  return `${name.padEnd(20)} ${String(killed).padStart(6)} ${String(valid).padStart(4)} ${score.padStart(7)} ${timedOut}`;
}
