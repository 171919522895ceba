/** The quick tests of the protocol alone, for `npm run mutation`: its copy of the sources is the one that the tests must see. */
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  resolve: {
    alias: { '@sealane/protocol': fileURLToPath(new URL('packages/protocol/src/index.ts', import.meta.url)) },
  },
  test: {
    include: process.env['SEALANE_MUTATION_TESTS']?.split(',') ?? ['packages/protocol/test/**/*.test.ts'],
    env: { SEALANE_SEEDS: '2', SEALANE_COLLISIONS: '40', SEALANE_REPLACED: '200' },
    testTimeout: 60_000,
    // One load of the modules for all test files of a mutant.
    isolate: false,
  },
});
