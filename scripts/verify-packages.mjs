/**
 * Installs the packages as their users do: packed, into an empty project, with plain npm, without any install script. Then both commands
 * make a tunnel there, and each package is imported. Ends with 3 when the dependencies cannot be had (no network, nothing cached).
 * npm run verify:packages
 */
import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { readOptions } from './options.mjs';

readOptions('verify:packages', 'npm run verify:packages', {});
const PNPM = 'pnpm@12.21.0';
const NOT_TO_BE_HAD = /E(NOTFOUND|CONNREFUSED|CONNRESET|TIMEDOUT|AI_AGAIN|NETUNREACH|NOTCACHED)/;
const IMPORTS = {
  '@sealane/protocol': 'Device',
  '@sealane/netstack': 'Stack',
  '@sealane/tunnel': 'openTunnel',
  sealane: undefined,
  sealaned: undefined,
};
const root = dirname(dirname(fileURLToPath(import.meta.url)));
const folder = mkdtempSync(join(tmpdir(), 'sealane-verify-'));
/** @type {import('node:child_process').ChildProcess | undefined} */
let server;
process.on('exit', () => {
  server?.kill('SIGKILL');
  rmSync(folder, { recursive: true, force: true });
});

const packs = join(folder, 'packs');
const project = join(folder, 'project');
for (const path of [packs, project]) mkdirSync(path);
run(root, 'npx', ['-y', PNPM, '-r', '--filter', './packages/*', 'pack', '--pack-destination', packs]);
const tarballs = readdirSync(packs).map((name) => join(packs, name));
check(tarballs.length === Object.keys(IMPORTS).length, `packed ${tarballs.length} packages`);
writeFileSync(join(project, 'package.json'), JSON.stringify({ name: 'empty', private: true, type: 'module' }));
install();
run(project, 'npm', ['ls', '--all']);
say(`${tarballs.length} packages installed by npm ${run(project, 'npm', ['--version']).trim()}`);

for (const [name, member] of Object.entries(IMPORTS)) {
  const script = `const it = await import('${name}'); if (${JSON.stringify(member ?? null)} !== null && it['${member}'] === undefined) process.exit(1);`;
  run(project, process.execPath, ['--input-type=module', '-e', script]);
}
say('each can be imported');

const bin = (name) => join(project, 'node_modules', '.bin', name);
for (const name of ['sealane', 'sealaned']) run(project, bin(name), ['--help']);
const config = join(project, 'laptop.conf');
const state = ['--state', join(project, 'state')];
run(project, bin('sealaned'), ['init', '--endpoint', '127.0.0.1:1', '--pool', '127.77.0.0/24', ...state]);
run(project, bin('sealaned'), ['peer', 'add', 'laptop', '--out', config, ...state]);
const port = await serve();
writeFileSync(config, readFileSync(config, 'utf8').replace(/^Endpoint = .*$/m, `Endpoint = 127.0.0.1:${port}`), {
  mode: 0o600,
});
const pinged = JSON.parse(
  run(project, bin('sealane'), ['ping', config, '--count', '3', '--json']).trim().split('\n').at(-1) ?? '',
);
check(pinged.ok === true, 'the tunnel carries nothing');
say(`both commands run: ${pinged.roundTripsMs.length} echoes through a tunnel (${pinged.crypto})`);
process.exit(0);

function install() {
  const args = [
    'install',
    '--ignore-scripts',
    '--no-audit',
    '--no-fund',
    '--prefer-offline',
    '--fetch-retries=1',
    ...tarballs,
  ];
  const { status, stderr, stdout } = spawnSync('npm', args, { cwd: project, encoding: 'utf8' });
  if (status === 0) return;
  if (NOT_TO_BE_HAD.test(stderr)) {
    console.error(`verify: the npm registry cannot be reached, and not all dependencies are cached:\n${stderr}`);
    process.exit(3);
  }
  fail(`npm install ended with ${status}:\n${stdout}${stderr}`);
}

/** Starts the server; resolves to its UDP port. */
async function serve() {
  const child = spawn(bin('sealaned'), ['run', '--userspace', '--json', '--listen', '0', ...state], {
    cwd: project,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  server = child;
  let text = '';
  for await (const chunk of child.stdout) {
    text += chunk;
    const ready = text.split('\n').find((line) => line.includes('"event":"ready"') && line.endsWith('}'));
    if (ready !== undefined) return JSON.parse(ready).port;
  }
  return fail('sealaned did not start');
}

function run(cwd, program, args) {
  const { error, status, stdout, stderr } = spawnSync(program, args, { cwd, encoding: 'utf8', maxBuffer: 64 << 20 });
  if (status !== 0)
    fail(`${program} ${args.join(' ')} ended with ${status}: ${error?.message ?? ''}${stdout}${stderr}`);
  return stdout;
}

function check(condition, problem) {
  if (!condition) fail(problem);
}

/** @returns {never} */
function fail(problem) {
  console.error(`verify: ${problem}`);
  process.exit(1);
}

function say(line) {
  console.log(`verify: ${line}`);
}
