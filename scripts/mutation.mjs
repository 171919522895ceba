/**
 * Mutation tests of the protocol: Stryker changes one expression at a time and the tests must notice.
 * npm run mutation -- [replay noise ...]     without names: all files, which takes hours
 * npm run mutation -- --summary              only the table of what was run, and the survivors
 * Stryker is installed beside the workspace, in the folder SEALANE_STRYKER or ~/.cache/sealane-stryker. What was run is kept in
 * mutation/, and mutants whose code and tests stayed the same are not run again.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, symlinkSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const VERSION = '9.6.1';
const WANTED = 0.85;

const root = fileURLToPath(new URL('../', import.meta.url));
const results = join(root, 'mutation');
const home = process.env['SEALANE_STRYKER'] ?? join(homedir(), '.cache', 'sealane-stryker');

/** The quick tests whose subject a file is; the others run the whole protocol. */
const TESTS = {
  'allowed-ips': ['allowed-ips'],
  clock: ['time'],
  configure: ['configure'],
  control: ['device-api', 'device-handshake'],
  cookie: ['transcript'],
  crypto: ['crypto', 'noise'],
  'data-plane': ['data-plane'],
  'deadline-queue': ['parts'],
  'derived-keys': ['post-quantum-parts'],
  device: ['device-api', 'device-handshake', 'device-timers'],
  drops: ['parts'],
  endpoint: ['parts'],
  'exchange-messages': ['post-quantum-parts'],
  handshake: ['noise', 'transcript'],
  'handshake-queue': ['handshake-queue'],
  'index-table': ['parts'],
  initiator: ['device-api', 'device-handshake'],
  ip: ['parts'],
  jitter: ['time'],
  kem: ['kem'],
  keypair: ['parts'],
  keypairs: ['parts'],
  keys: ['parts'],
  'lane-publisher': ['lanes', 'shared-session'],
  'lane-replica': ['lanes', 'shared-session'],
  messages: ['parts', 'transcript'],
  noble: ['crypto', 'noise'],
  noise: ['noise', 'transcript'],
  peer: ['device-api', 'device-timers', 'device-handshake'],
  'post-quantum': ['post-quantum', 'post-quantum-wire'],
  ratelimiter: ['ratelimiter'],
  replay: ['replay'],
  seal: ['parts'],
  'shared-session': ['shared-session', 'lanes'],
  staging: ['parts'],
  status: ['status'],
  tai64n: ['tai64n'],
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
  mkdirSync(home, { recursive: true });
  if (!existsSync(join(home, 'node_modules/@stryker-mutator/vitest-runner'))) {
    const packages = ['core', 'vitest-runner'].map((name) => `@stryker-mutator/${name}@${VERSION}`);
    const flags = ['--prefix', home, '--ignore-scripts', '--legacy-peer-deps', '--no-audit', '--no-fund'];
    const { status } = spawnSync('npm', ['install', ...flags, ...packages], { stdio: 'inherit' });
    if (status !== 0) process.exit(1);
  }
  // The runner and the tests must share one vitest: the workspace's.
  const vitest = join(home, 'node_modules/vitest');
  rmSync(vitest, { recursive: true, force: true });
  symlinkSync(join(root, 'node_modules/vitest'), vitest);
}

function mutate(name) {
  mkdirSync(results, { recursive: true });
  const args = ['run', '--mutate', `packages/protocol/src/${name}.ts`, '--incrementalFile', `mutation/${name}.json`];
  const tests = TESTS[name]?.map((test) => `packages/protocol/test/${test}.test.ts`).join();
  spawnSync(process.execPath, [join(home, 'node_modules/@stryker-mutator/core/bin/stryker.js'), ...args], {
    cwd: root,
    stdio: 'inherit',
    env: { ...process.env, ...(tests !== undefined && { SEALANE_MUTATION_TESTS: tests }) },
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
