/**
 * The long run of the fuzzers, with another seed each time.
 * npm run fuzz -- [--datagrams 10000000] [--lines 1000000] [--seed 4711]
 */
import { spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { readOptions, refuse } from './options.mjs';

const { values } = readOptions('fuzz', 'npm run fuzz [-- [--datagrams N] [--lines N] [--seed N]]', {
  datagrams: { type: 'string', default: '10000000' },
  lines: { type: 'string', default: '1000000' },
  seed: { type: 'string', default: String(randomInt(1, 2 ** 31)) },
});
for (const name of /** @type {const} */ (['datagrams', 'lines', 'seed'])) {
  if (!/^[0-9]{1,10}$/.test(values[name]) || Number(values[name]) < 1) {
    refuse('fuzz', `--${name} ${values[name]}: must be a number above 0`);
  }
}
console.log(`seed ${values.seed}: --seed ${values.seed} runs this again`);
const env = {
  ...process.env,
  SEALANE_FUZZ: values.datagrams,
  SEALANE_SEED: values.seed,
  FUZZ_LINES: values.lines,
};
const files = [
  'test/fuzz',
  'packages/tunnel/test/uapi/fuzz.test.ts',
  'packages/tunnel/test/lane/offload.test.ts',
  'packages/tunnel/test/lane/split-fuzz.test.ts',
  'packages/client/test/proxy/garbage.test.ts',
  'packages/client/test/proxy/udp-garbage.test.ts',
];
const child = spawn('npx', ['vitest', 'run', ...files], { env, stdio: ['ignore', 'inherit', 'inherit'] });
child.on('close', (code) => process.exit(code ?? 1));
