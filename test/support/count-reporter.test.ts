import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));
const folders: string[] = [];

afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});

/** Runs these test files in a vitest of their own and returns the last line printed and whether the run succeeded. */
function run(files: Readonly<Record<string, string>>): { readonly lastLine: string; readonly ok: boolean } {
  const cache = join(root, 'node_modules', '.cache');
  mkdirSync(cache, { recursive: true });
  const folder = mkdtempSync(join(cache, 'reporter-'));
  folders.push(folder);
  const reporter = join(root, 'test', 'support', 'count-reporter.ts');
  writeFileSync(
    join(folder, 'vitest.config.ts'),
    `import { CountReporter } from ${JSON.stringify(reporter)};
     export default { test: { include: ['*.test.ts'], reporters: ['default', new CountReporter()] } };`,
  );
  for (const [name, body] of Object.entries(files)) {
    writeFileSync(
      join(folder, name),
      `import { beforeAll, describe, expect, it } from 'vitest'; void [beforeAll, describe, expect, it];\n${body}`,
    );
  }
  const vitest = join(root, 'node_modules', 'vitest', 'vitest.mjs');
  const env = { ...process.env, NO_COLOR: '1' };
  const { status, stdout } = spawnSync(process.execPath, [vitest, 'run', '--root', folder], { encoding: 'utf8', env });
  return { lastLine: stdout.trimEnd().split('\n').at(-1) ?? '', ok: status === 0 };
}

describe('the last line of a test run', () => {
  it('counts what passed', () => {
    const files = { 'a.test.ts': "it('a', () => {}); describe('d', () => { it('b', () => {}); });" };
    expect(run(files)).toEqual({ lastLine: '2 passed, 0 failed', ok: true });
  });

  it('counts failures, skips and files that do not load', () => {
    const files = {
      'a.test.ts': "it('a', () => {}); it('b', () => { expect(1).toBe(2); }); it('c', (t) => { t.skip('no root'); });",
      'b.test.ts': "import './missing.ts'; it('d', () => {});",
      'c.test.ts': "throw new Error('while loading');",
    };
    expect(run(files)).toEqual({ lastLine: '1 passed, 3 failed, 1 skipped', ok: false });
  });

  it('counts an error that no test caught', () => {
    const files = {
      'a.test.ts':
        "it('a', async () => { void Promise.reject(new Error('lost')); await new Promise((r) => setTimeout(r, 50)); });",
    };
    expect(run(files)).toEqual({ lastLine: '1 passed, 1 failed', ok: false });
  });

  it('counts a hook that fails', () => {
    const files = {
      'a.test.ts': "describe('d', () => { beforeAll(() => { throw new Error('hook'); }); it('a', () => {}); });",
    };
    expect(run(files)).toMatchObject({ lastLine: expect.stringMatching(/^0 passed, 1 failed/) as string, ok: false });
  });
});
