/**
 * Lines covered by tests, a package a row; fails when a pure package has less than it must have.
 * npm run coverage                       all tests, all packages: needs root for those in namespaces
 * npm run coverage -- protocol netstack  only these packages, by their unit tests alone
 */
import { spawn } from 'node:child_process';
import { existsSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { readOptions } from './options.mjs';

/** Percent of lines. */
const REQUIRED = { netstack: 95, protocol: 95 };

const root = fileURLToPath(new URL('../', import.meta.url));
const packages = readdirSync(join(root, 'packages'));
const usage = `npm run coverage [-- PACKAGE ...]     some of ${packages.join(', ')}`;
const { positionals } = readOptions('coverage', usage, {}, packages);
const measured = positionals.length > 0 ? positionals : packages;
const tests = positionals.map((name) => `packages/${name}/test`);
const include = measured.flatMap((name) => ['--coverage.include', `packages/${name}/src/**/*.ts`]);
const reporters = ['--coverage.reporter', 'json-summary', '--coverage.reporter', 'html'];
const summary = join(root, 'coverage/coverage-summary.json');

rmSync(summary, { force: true });
const args = ['vitest', 'run', '--coverage', ...include, ...reporters, ...tests];
const child = spawn('npx', args, { cwd: root, stdio: 'inherit' });
child.on('close', (code) => {
  if (!existsSync(summary)) {
    console.error('no coverage was written, because a test failed');
    process.exit(code || 1);
  }
  const files = Object.entries(JSON.parse(readFileSync(summary, 'utf8')));
  console.log('\npackage     lines   percent  required  least covered file');
  let isEnough = true;
  for (const name of measured) {
    const own = files.filter(([file]) => file.startsWith(join(root, 'packages', name, 'src/')));
    const covered = own.reduce((sum, [, { lines }]) => sum + lines.covered, 0);
    const total = own.reduce((sum, [, { lines }]) => sum + lines.total, 0);
    const percent = (100 * covered) / total;
    const required = REQUIRED[name];
    if (!(percent >= (required ?? 0))) isEnough = false;
    const [worst, { lines }] = own.toSorted(([, a], [, b]) => a.lines.pct - b.lines.pct)[0];
    const least = `${worst.slice(join(root, 'packages', name, 'src/').length)} ${lines.pct.toFixed(1)}`;
    const figures = [String(total).padStart(6), percent.toFixed(1).padStart(9), String(required ?? '').padStart(9)];
    console.log(`${name.padEnd(10)} ${figures.join(' ')}  ${least}`);
  }
  process.exit(code || (isEnough ? 0 : 1));
});
