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
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const VERSION = '9.6.1';
const WANTED = 0.85;

const root = fileURLToPath(new URL('../', import.meta.url));
const results = join(root, 'mutation');
const home = process.env['SEALANE_STRYKER'] ?? join(homedir(), '.cache', 'sealane-stryker');
const stryker = join(home, 'node_modules/@stryker-mutator/core/bin/stryker.js');

/** What runs whole devices, but not the long simulations. */
const DEVICE = [
  'configure',
  'control',
  'device-api',
  'device-crossing',
  'device-data',
  'device-handshake',
  'device-keys',
  'device-timers',
  'post-quantum',
  'post-quantum-wire',
  'status',
];

/** The tests whose subject a file is, where they do not have its name. */
const TESTS = {
  batch: ['data-plane', ...DEVICE],
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
  endpoint: ['parts', 'device-api'],
  'exchange-messages': ['post-quantum-parts'],
  handshake: ['noise', 'transcript'],
  'index-table': ['parts', 'device-keys'],
  initiator: DEVICE,
  ip: ['parts', 'device-data'],
  jitter: ['time'],
  keypair: ['parts'],
  keypairs: ['parts', 'device-crossing'],
  keys: ['parts'],
  'lane-model': ['lanes'],
  'lane-publisher': ['lanes', 'shared-session'],
  'lane-replica': ['lanes', 'shared-session'],
  messages: ['parts', 'transcript'],
  noble: ['crypto', 'noise'],
  noise: ['noise', 'transcript'],
  peer: DEVICE,
  'post-quantum': ['post-quantum', 'post-quantum-wire', 'post-quantum-parts'],
  seal: ['parts', 'device-data', 'data-plane'],
  'shared-session': ['shared-session', 'lanes'],
  staging: ['parts', 'device-data'],
  timers: ['time'],
};

const { values, positionals } = parseArgs({ options: { summary: { type: 'boolean' } }, allowPositionals: true });
const sources = readdirSync(join(root, 'packages/protocol/src')).map((file) => file.replace(/\.ts$/, ''));
const unknown = positionals.find((name) => !sources.includes(name));
if (unknown !== undefined) {
  console.error(`${unknown}: packages/protocol/src/${unknown}.ts does not exist`);
  process.exit(2);
}
if (values.summary !== true) {
  install();
  for (const name of positionals.length > 0 ? positionals : sources) mutate(name);
}
process.exit(summarize() ? 0 : 1);

function install() {
  if (existsSync(stryker)) return;
  mkdirSync(home, { recursive: true });
  const flags = ['--prefix', home, '--ignore-scripts', '--no-audit', '--no-fund'];
  const { status } = spawnSync('npm', ['install', ...flags, `@stryker-mutator/core@${VERSION}`], { stdio: 'inherit' });
  if (status !== 0) process.exit(1);
}

function mutate(name) {
  mkdirSync(results, { recursive: true });
  const args = ['run', '--mutate', `packages/protocol/src/${name}.ts`, '--incrementalFile', `mutation/${name}.json`];
  const tests = (TESTS[name] ?? [name]).map((test) => `packages/protocol/test/${test}.test.ts`);
  if (!tests.every((test) => existsSync(join(root, test)))) return;
  spawnSync(process.execPath, [stryker, ...args], {
    cwd: root,
    stdio: 'inherit',
    env: { ...process.env, SEALANE_MUTATION_TESTS: tests.join() },
  });
}

/** True when enough mutants of all files that were run are dead. */
function summarize() {
  const files = existsSync(results) ? readdirSync(results).filter((file) => file.endsWith('.json')) : [];
  const survivors = [];
  let [allKilled, allValid] = [0, 0];
  console.log(`\n${'file'.padEnd(20)} killed  of  score`);
  for (const file of files.toSorted()) {
    for (const [path, { mutants, source }] of Object.entries(
      JSON.parse(readFileSync(join(results, file), 'utf8')).files,
    )) {
      const killed = mutants.filter(({ status }) => status === 'Killed' || status === 'Timeout').length;
      const alive = mutants.filter(({ status }) => status === 'Survived' || status === 'NoCoverage');
      const valid = killed + alive.length;
      console.log(`${file.replace('.json', '').padEnd(20)} ${row(killed, valid)}`);
      allKilled += killed;
      allValid += valid;
      for (const { location, mutatorName, replacement, status } of alive) {
        const { line } = location.start;
        const was = source.split('\n')[line - 1].trim();
        survivors.push(
          `${path}:${line} ${status} ${mutatorName}: ${was}\n    -> ${replacement?.replaceAll(/\s+/g, ' ')}`,
        );
      }
    }
  }
  console.log(`${'all'.padEnd(20)} ${row(allKilled, allValid)}\n`);
  for (const survivor of survivors) console.log(survivor);
  return allValid > 0 && allKilled / allValid >= WANTED;
}

function row(killed, valid) {
  const score = valid === 0 ? '-' : `${((100 * killed) / valid).toFixed(1)} %`;
  return `${String(killed).padStart(6)} ${String(valid).padStart(4)} ${score.padStart(7)}`;
}
