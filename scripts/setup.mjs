// Brings a fresh checkout to a runnable state with nothing but node and npm: installs what the lockfile pins, then builds.
// Does nothing when nothing changed. Progress goes to stderr.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const PNPM = 'pnpm@12.21.0';
const OLDEST_NODE = /** @type {const} */ ([20, 19]);

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const stampFile = join(root, 'node_modules', '.sealane-setup');

checkNode();
install();
build();

function checkNode() {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  const [oldestMajor, oldestMinor] = OLDEST_NODE;
  if (major > oldestMajor || (major === oldestMajor && minor >= oldestMinor)) return;
  fail(
    `Node.js ${OLDEST_NODE.join('.')} or newer is needed, this is ${process.versions.node}: install a newer one and try again`,
  );
}

function install() {
  const stamp = installStamp();
  if (existsSync(stampFile) && readFileSync(stampFile, 'utf8') === stamp) return;
  const started = Date.now();
  say(`installing dependencies with ${PNPM} ...`);
  rmSync(stampFile, { force: true });
  const npx = process.platform === 'win32' ? 'npx.cmd' : 'npx';
  const args = ['-y', PNPM, 'install', '--frozen-lockfile', '--reporter=append-only'];
  const { error, status, stdout, stderr } = spawnSync(npx, args, {
    cwd: root,
    encoding: 'utf8',
    maxBuffer: 64 << 20,
    shell: process.platform === 'win32',
    env: { ...process.env, CI: 'true' },
  });
  if (error !== undefined) fail(`could not start npx: ${error.message}: is npm installed?`);
  if (status !== 0) fail(`installing failed: is the npm registry reachable? What ${PNPM} said:\n${stdout}${stderr}`);
  writeFileSync(stampFile, stamp);
  say(`installed in ${seconds(started)}`);
}

function build() {
  const started = Date.now();
  const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  for (const [program, ...args] of scripts.build.split(' && ').map((step) => step.split(' '))) {
    if (program === 'rolldown' && isBundled()) continue;
    const script = join(root, 'node_modules', program === 'tsc' ? 'typescript/bin/tsc' : 'rolldown/bin/cli.mjs');
    const command = [script, ...args];
    const { error, status, stdout, stderr } = spawnSync(process.execPath, command, { cwd: root, encoding: 'utf8' });
    if (error !== undefined) fail(`could not start ${program}: ${error.message}`);
    if (status !== 0) fail(`the build failed: fix the errors and try again. What ${program} said:\n${stdout}${stderr}`);
  }
  if (Date.now() - started > 1000) say(`built in ${seconds(started)}`);
}

/** Whether nothing was compiled since the bundles were made. */
function isBundled() {
  const bundles = [
    ...['client', 'server'].map((name) => join(root, 'packages', name, 'bundle', 'cli.js')),
    ...['protocol', 'netstack', 'tunnel'].map((name) => join(root, 'packages', name, 'bundle', 'index.js')),
  ];
  if (!bundles.every((file) => existsSync(file))) return false;
  const made = Math.min(...bundles.map((file) => statSync(file).mtimeMs));
  const compiled = readdirSync(join(root, 'packages')).flatMap((name) => {
    const dist = join(root, 'packages', name, 'dist');
    return readdirSync(dist, { recursive: true }).map((file) => join(dist, String(file)));
  });
  return [...compiled, join(root, 'rolldown.config.mjs')].every((file) => statSync(file).mtimeMs <= made);
}

/** A digest of everything that decides what an install leaves in node_modules. */
function installStamp() {
  const hash = createHash('sha256').update(`${PNPM} ${process.platform} ${process.arch} ${process.versions.modules}\n`);
  const packages = readdirSync(join(root, 'packages')).toSorted();
  const manifests = packages.map((name) => join('packages', name, 'package.json'));
  for (const file of ['package.json', 'pnpm-lock.yaml', 'pnpm-workspace.yaml', ...manifests]) {
    if (existsSync(join(root, file))) hash.update(`${file}\n`).update(readFileSync(join(root, file)));
  }
  return hash.digest('hex');
}

function seconds(started) {
  return `${((Date.now() - started) / 1000).toFixed(1)} s`;
}

function say(line) {
  process.stderr.write(`sealane: ${line}\n`);
}

function fail(line) {
  say(line);
  process.exit(1);
}
