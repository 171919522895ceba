/**
 * A device with very many peers and one with very many allowed IPs, configured and shown by the stock `wg`, in a namespace of its own.
 * Ends with 1 when a goal is missed.
 * node test/bench/many-peers.mjs [--peers 10000] [--runs 3] [--json FILE]     needs root and wg
 */
import { execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { readOptions } from '../../scripts/options.mjs';

const usage = `node test/bench/many-peers.mjs [--peers N] [--runs N] [--json FILE]     needs root and wg
  --peers  of the device (default 10000)
  --runs   of each measurement (default 3)`;
const { values } = readOptions('many-peers', usage, {
  peers: { type: 'string', default: '10000' },
  runs: { type: 'string', default: '3' },
  json: { type: 'string' },
});
const [peers, runs] = [Number(values.peers), Number(values.runs)];
const SEALANE = fileURLToPath(new URL('../../packages/client/bin/sealane.js', import.meta.url));
const tag = process.pid.toString(36);
const namespace = `slb-many-${tag}`;
const name = `slmp${tag}`;
const folder = mkdtempSync(join(tmpdir(), 'sealane-many-'));

/** @param {string[]} words */
const wg = (...words) =>
  execFileSync('ip', ['netns', 'exec', namespace, 'wg', ...words], { encoding: 'utf8', maxBuffer: 1 << 28 });
/** @type {(work: () => unknown) => number} */
const timed = (work) => {
  const at = performance.now();
  work();
  return performance.now() - at;
};
/** @param {number[]} list */
const median = (list) => list.toSorted((a, b) => a - b)[list.length >> 1] ?? NaN;
const key = () => randomBytes(32).toString('base64');

const many = ['[Interface]', `PrivateKey = ${key()}`, 'ListenPort = 51900'];
for (let i = 0; i < peers; i++) {
  many.push('[Peer]', `PublicKey = ${key()}`, `AllowedIPs = 10.${(i >> 16) + 1}.${(i >> 8) & 255}.${i & 255}/32`);
}
const wide = ['[Interface]', `PrivateKey = ${key()}`, '[Peer]', `PublicKey = ${key()}`];
for (let i = 1; i < 256; i++) {
  const prefixes = Array.from({ length: 256 }, (_, j) => [
    `10.${i}.${j}.0/24`,
    `fd00:${i.toString(16)}:1${j.toString(16)}::/48`,
  ]);
  wide.push(`AllowedIPs = ${prefixes.flat().join(', ')}`);
}
writeFileSync(join(folder, 'many'), `${many.join('\n')}\n`, { mode: 0o600 });
writeFileSync(join(folder, 'wide'), `${wide.join('\n')}\n`, { mode: 0o600 });

/** @type {Record<'setconf' | 'dump' | 'rss' | 'allowedIps', number[]>} */
const samples = { setconf: [], dump: [], rss: [], allowedIps: [] };
try {
  execFileSync('ip', ['netns', 'add', namespace]);
  for (let run = 0; run < runs; run++) {
    const device = spawn('ip', ['netns', 'exec', namespace, process.execPath, SEALANE, 'device', name], {
      env: { ...process.env, STATE_DIRECTORY: folder },
      stdio: 'ignore',
    });
    const exit = once(device, 'exit');
    while (!existsSync(`/var/run/wireguard/${name}.sock`)) await sleep(10);
    samples.setconf.push(timed(() => wg('setconf', name, join(folder, 'many'))));
    samples.dump.push(timed(() => wg('show', name, 'dump')));
    const shown = wg('show', name, 'peers').trim().split('\n').length;
    if (shown !== peers) throw new Error(`${shown} of ${peers} peers are there`);
    samples.rss.push(Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${device.pid}/status`, 'utf8'))?.[1]) / 1024);
    samples.allowedIps.push(timed(() => wg('setconf', name, join(folder, 'wide'))));
    device.kill('SIGTERM');
    await exit;
  }
  const rows = [
    { row: `${peers} peers: wg setconf`, value: median(samples.setconf) / 1000, unit: 's', goal: 3 },
    { row: `${peers} peers: wg show dump`, value: median(samples.dump) / 1000, unit: 's', goal: 0.5 },
    { row: `${peers} peers: resident memory`, value: median(samples.rss), unit: 'MiB', goal: 256 },
    { row: '130560 allowed IPs: wg setconf', value: median(samples.allowedIps) / 1000, unit: 's', goal: 3 },
  ];
  for (const { row, value, unit, goal } of rows) {
    const met = value <= goal;
    console.log(`${row.padEnd(31)} ${value.toPrecision(3)} ${unit}   (goal ${goal}${met ? '' : ', missed'})`);
    if (!met) process.exitCode = 1;
  }
  if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(rows, null, 2)}\n`);
} finally {
  execFileSync('ip', ['netns', 'del', namespace]);
  rmSync(folder, { recursive: true, force: true });
}
