/**
 * Each command with all that it imports in a few files: loading two hundred modules takes several times as long as running them.
 * koffi has native code and stays outside.
 */
const WORKERS = ['linux-worker', 'data-lane-worker'].map((name) => `packages/tunnel/src/lane/${name}.ts`);

/** @param {string} directory */
const program = (directory) => ({
  cwd: import.meta.dirname,
  input: [`packages/${directory}/src/cli.ts`, ...WORKERS],
  external: ['koffi'],
  logLevel: /** @type {const} */ ('warn'),
  platform: /** @type {const} */ ('node'),
  resolve: { conditionNames: ['@sealane/source', 'import', 'node', 'default'] },
  output: { dir: `packages/${directory}/bundle`, cleanDir: true },
});

// oxlint-disable-next-line import/no-default-export -- what rolldown reads
export default [program('client'), program('server')];
