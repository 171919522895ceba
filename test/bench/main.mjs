/** `npm run bench`: the rows of the core, of the userspace stack and of the mode without root, then the whole tunnel beside wireguard-go where this machine can. `--json FILE` writes them. */
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { coreRows } from './core.mjs';

const { values } = parseArgs({ options: { json: { type: 'string' } } });
const machine = `${cpus()[0]?.model ?? 'unknown processor'} x ${cpus().length}, Node ${process.versions.node}`;
console.log(`${machine}, ${new Date().toISOString().slice(0, 10)}\n`);

const rows = coreRows();
const width = Math.max(...rows.map(({ row }) => row.length));
for (const { row, value, unit } of rows) {
  console.log(`${row.padEnd(width)}  ${value.toPrecision(3).padStart(8)} ${unit}`);
}
if (values.json !== undefined) {
  writeFileSync(values.json, `${JSON.stringify({ machine, date: new Date().toISOString(), rows }, null, 2)}\n`);
}

console.log('\nTwo userspace stacks back to back on one thread:');
const netstack = fileURLToPath(new URL('../../packages/netstack/bench/netstack.mjs', import.meta.url));
const stacks = spawnSync(process.execPath, ['--expose-gc', netstack], { stdio: 'inherit' });

console.log('\nThe mode without root, whole, over loopback:');
const userspace = fileURLToPath(new URL('./userspace.mjs', import.meta.url));
const rootless = spawnSync(process.execPath, [userspace], { stdio: 'inherit' });

console.log('\nWhole tunnel, TUN to TUN, beside wireguard-go:');
const tunnel = fileURLToPath(new URL('./tunnel.mjs', import.meta.url));
const { status } = spawnSync(process.execPath, [tunnel, '--quick'], { stdio: 'inherit' });

console.log('\nVery many peers and allowed IPs, by the stock wg:');
const manyPeers = fileURLToPath(new URL('./many-peers.mjs', import.meta.url));
const many = process.getuid?.() === 0 ? spawnSync(process.execPath, [manyPeers], { stdio: 'inherit' }) : { status: 0 };
process.exitCode = (stacks.status ?? 1) || (many.status ?? 1) || (rootless.status ?? 1) || (status ?? 1);
