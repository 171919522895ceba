/** Scripts and benchmarks tell what they take, and refuse what they do not know before they begin. */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));
const scripts = ['scripts', 'test/bench', 'packages/netstack/bench'].flatMap((folder) =>
  readdirSync(`${root}${folder}`)
    .filter((file) => file.endsWith('.mjs'))
    .map((file) => `${folder}/${file}`)
    .filter((file) => / readOptions\(/.test(readFileSync(`${root}${file}`, 'utf8')))
    .filter((file) => file !== 'scripts/options.mjs'),
);

function run(script: string, option: string): { status: number | null; stdout: string; stderr: string } {
  return spawnSync(process.execPath, [`${root}${script}`, option], { encoding: 'utf8' });
}

describe('scripts', () => {
  it('are these', () => {
    expect(scripts).toEqual(
      expect.arrayContaining(['scripts/soak.mjs', 'test/bench/main.mjs', 'test/bench/userspace.mjs']),
    );
  });

  it.each(scripts)('%s --help says how it is used', (script) => {
    const { status, stdout, stderr } = run(script, '--help');
    expect([status, stderr]).toEqual([0, '']);
    expect(stdout).toMatch(/^usage: (?:npm start|npm run|node) \S/);
  });

  it.each(scripts)('%s refuses an unknown option in one line', (script) => {
    const { status, stdout, stderr } = run(script, '--no-such-option');
    expect([status, stdout]).toEqual([2, '']);
    expect(stderr).toMatch(/^[\w:-]+: Unknown option '--no-such-option'[^\n]*\n$/);
  });
});
