/**
 * The simulator's long run: every suite with many seeds, and a table at the end.
 * npm run sim -- [--seeds 1000] [--first 501] [--suite R5] [--seed 4711]
 */
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readOptions, refuse } from './options.mjs';

const { values } = readOptions('sim', 'npm run sim [-- [--seeds N] [--first N] [--suite NAME] [--seed N]]', {
  seeds: { type: 'string', default: '100' },
  first: { type: 'string', default: '1' },
  suite: { type: 'string' },
  seed: { type: 'string' },
});
for (const [name, value] of Object.entries({ seeds: values.seeds, first: values.first, seed: values.seed ?? '1' })) {
  if (!/^[0-9]{1,10}$/.test(value) || (name === 'seeds' && Number(value) < 1)) {
    refuse('sim', `--${name} ${value}: must be a number`);
  }
}

const folder = mkdtempSync(join(tmpdir(), 'sealane-sim-'));
const report = join(folder, 'report.jsonl');
const env = {
  ...process.env,
  SEALANE_SEEDS: values.seeds,
  SEALANE_FIRST: values.first,
  SEALANE_FULL: '1',
  SEALANE_SIM_REPORT: report,
  ...(values.suite !== undefined && { SEALANE_SUITE: values.suite }),
  ...(values.seed !== undefined && { SEALANE_SEED: values.seed }),
};
const vitest = ['vitest', 'run', '--testTimeout=0', '--passWithNoTests', 'test/sim/suites'];
const child = spawn('npx', vitest, { env, stdio: ['ignore', 'inherit', 'inherit'] });
child.on('close', (code) => {
  const lines = existsSync(report) ? readFileSync(report, 'utf8').trim().split('\n') : [];
  rmSync(folder, { recursive: true });
  const results = lines.map((line) => JSON.parse(line));
  results.sort((a, b) => a.goal.localeCompare(b.goal, 'en', { numeric: true }));
  console.log('\ngoal   passed        seconds   worst seed   median    worst  measured');
  for (const { goal, passed, seeds, ms, worstSeed, median, worst, figure, title, failures } of results) {
    const cells = [
      goal.padEnd(5),
      `${passed}/${seeds}`.padStart(9),
      (ms / 1_000).toFixed(1).padStart(12),
      String(worstSeed).padStart(12),
      round(median).padStart(9),
      round(worst).padStart(9),
      ` ${figure}: ${title}`,
    ];
    console.log(cells.join(''));
    for (const failure of failures) console.log(`      failed: ${failure}`);
  }
  if (results.length === 0) console.error('no suite ran');
  process.exit(results.length === 0 ? 1 : (code ?? 1));
});

function round(value) {
  return value >= 100 ? value.toFixed(0) : String(Number(value.toPrecision(3)));
}
