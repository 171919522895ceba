/**
 * Each command with all that it imports, and each library by itself, in a few files: loading two hundred modules takes several times
 * as long as running them. koffi has native code and stays outside.
 */
const WORKERS = ['linux-worker', 'data-lane-worker'].map((name) => `packages/tunnel/src/lane/${name}.ts`);

/** @param {string} directory @param {readonly string[]} input @param {(string | RegExp)[]} external */
const bundle = (directory, input, external) => ({
  cwd: import.meta.dirname,
  input: [...input],
  external,
  logLevel: /** @type {const} */ ('warn'),
  platform: /** @type {const} */ ('node'),
  resolve: { conditionNames: ['@sealane/source', 'import', 'node', 'default'] },
  output: { dir: `packages/${directory}/bundle`, cleanDir: true },
});

/** @param {string} directory */
const program = (directory) => bundle(directory, [`packages/${directory}/src/cli.ts`, ...WORKERS], ['koffi']);

/** Libraries stay apart from each other, so that a program has each once. @param {string} directory @param {readonly string[]} workers */
const library = (directory, workers = []) =>
  bundle(directory, [`packages/${directory}/src/index.ts`, ...workers], ['koffi', /^@sealane\//]);

// oxlint-disable-next-line import/no-default-export -- what rolldown reads
export default [
  library('protocol'),
  library('netstack'),
  library('tunnel', WORKERS),
  program('client'),
  program('server'),
];
