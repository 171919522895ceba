import { readFileSync, readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';
import { CountReporter } from './test/support/count-reporter.ts';

const conditions = ['@sealane/source', 'module', 'node', 'development|production'];
const shared = { resolve: { conditions }, ssr: { resolve: { conditions, externalConditions: ['node'] } } };

/** The test that pings for four minutes goes first, so that all others run beside it. */
class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const isLong = (file: TestSpecification): number => Number(file.moduleId.endsWith('interop/rekey.test.ts'));
    // oxlint-disable-next-line unicorn/no-array-sort -- the method of the sequencer, not of an array
    return (await super.sort(files)).toSorted((a, b) => isLong(b) - isLong(a));
  }
}

/** Whole machines in namespaces, with timers of their own; what looks for secrets or drives a stack gets no second try there either. */
const machines = readdirSync(fileURLToPath(new URL('test', import.meta.url)), { recursive: true, encoding: 'utf8' })
  .filter((file) => /^(?:netns|interop|cli|proxy|published-failures)\/.*\.test\.ts$/.test(file))
  .map((file) => `test/${file}`)
  .filter((file) => /\bLab\b|\bstartServerIn\b/.test(readFileSync(new URL(file, import.meta.url), 'utf8')));

const e2e = {
  environment: 'node',
  testTimeout: 60_000,
  hookTimeout: 60_000,
  maxWorkers: 3,
  sequence: { groupOrder: 1 },
} as const;

export default defineConfig({
  test: {
    reporters: [process.env['CI'] === undefined ? 'default' : 'dot', new CountReporter()],
    sequence: { sequencer: LongestFirst },
    coverage: { provider: 'v8', include: ['packages/*/src/**/*.ts'], reportOnFailure: true },
    projects: [
      {
        ...shared,
        test: {
          name: 'unit',
          environment: 'node',
          include: ['packages/*/test/**/*.test.ts'],
          testTimeout: 60_000,
          maxWorkers: 2,
          sequence: { groupOrder: 0 },
        },
      },
      { ...shared, test: { ...e2e, name: 'e2e', include: ['test/**/*.test.ts'], exclude: machines } },
      // One more try, which the reporter names.
      { ...shared, test: { ...e2e, name: 'machines', include: machines, retry: 1 } },
    ],
  },
});
