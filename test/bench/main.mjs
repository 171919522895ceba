/**
 * `npm run bench`: the rows of the core, of the userspace stack and of the mode without root, then the whole tunnel beside wireguard-go
 * and very many peers, where this machine can. `--json FILE` writes all of them, a part each; `--only core,stack` measures some parts.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { coreRows } from './core.mjs';
import { readOptions, refuse } from '../../scripts/options.mjs';

/** What each further program measures; it writes its rows itself when it is given --json. */
const PROGRAMS = [
  {
    part: 'stack',
    title: 'Two userspace stacks back to back on one thread',
    args: ['--expose-gc', path('../../packages/netstack/bench/netstack.mjs')],
  },
  { part: 'userspace', title: 'The mode without root, whole, over loopback', args: [path('./userspace.mjs')] },
  { part: 'tunnel', title: 'Whole tunnel, TUN to TUN, beside wireguard-go', args: [path('./tunnel.mjs'), '--quick'] },
  {
    part: 'manyPeers',
    title: 'Very many peers and allowed IPs, by the stock wg',
    args: [path('./many-peers.mjs')],
    needsRoot: true,
  },
];
const PARTS = ['core', ...PROGRAMS.map(({ part }) => part)];

const usage = `npm run bench [-- [--only PARTS] [--json FILE]]
  --only  some of ${PARTS.join(',')}
  --json  writes all rows, a part each`;
const { values } = readOptions('bench', usage, { json: { type: 'string' }, only: { type: 'string' } });
const wanted = values.only?.split(',') ?? PARTS;
const unknown = wanted.filter((part) => !PARTS.includes(part));
if (unknown.length > 0) refuse('bench', `there is no part ${unknown.join(', ')}: --only takes ${PARTS.join(',')}`);
const machine = `${cpus()[0]?.model ?? 'unknown processor'} x ${cpus().length}, Node ${process.versions.node}`;
console.log(`${machine}, ${new Date().toISOString().slice(0, 10)}`);

/** @type {Record<string, unknown>} */
const parts = {};
let failed = 0;
if (wanted.includes('core')) {
  const rows = coreRows();
  parts['core'] = rows;
  const width = Math.max(...rows.map(({ row }) => row.length));
  console.log('\nThe protocol core on one thread:');
  for (const { row, value, unit } of rows) {
    console.log(`${row.padEnd(width)}  ${value.toPrecision(3).padStart(8)} ${unit}`);
  }
}
const folder = mkdtempSync(join(tmpdir(), 'sealane-bench-'));
try {
  for (const { part, title, args, needsRoot = false } of PROGRAMS) {
    if (!wanted.includes(part) || (needsRoot && process.getuid?.() !== 0)) continue;
    console.log(`\n${title}:`);
    const json = join(folder, part);
    const { status } = spawnSync(process.execPath, [...args, '--json', json], { stdio: 'inherit' });
    failed ||= status ?? 1;
    // A program that cannot measure here has said why.
    if (existsSync(json)) parts[part] = JSON.parse(readFileSync(json, 'utf8'));
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
if (values.json !== undefined) {
  writeFileSync(values.json, `${JSON.stringify({ machine, date: new Date().toISOString(), ...parts }, null, 2)}\n`);
}
process.exitCode = failed;

/** @param {string} file */
function path(file) {
  return fileURLToPath(new URL(file, import.meta.url));
}
