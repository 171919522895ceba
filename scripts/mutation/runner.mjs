/**
 * A test runner for Stryker that runs vitest's tests in the process that it is in, by vitest's own runner and `expect`. A file of
 * tests with all sources becomes one script, compiled once; each mutant evaluates it again, so it meets fresh modules, and takes
 * no start of vitest. Stryker ends the process when a mutant never ends.
 */
import { createHash } from 'node:crypto';
import { appendFileSync, existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename, relative, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { Script } from 'node:vm';
import { rolldown } from 'rolldown';

const require = createRequire(import.meta.url);
const vitest = createRequire(require.resolve('vitest/package.json'));
const load = (name) => import(pathToFileURL(vitest.resolve(name)).href);
const api = await load('@vitest/runner');
const expect = await createExpect();

const VERDICTS = fileURLToPath(new URL('../../mutation/verdicts.jsonl', import.meta.url));
/** Stryker stops a mutant that is reached a hundred times as often as without it. Ten times are enough where that is more than this. */
const MANY_HITS = 100_000;
/** Of the curve, by the question. */
const products = new Map();

// By their numbers in Stryker's interface.
const [SUCCESS, FAILED, SKIPPED] = [0, 1, 2];

export const strykerPlugins = [{ kind: 'TestRunner', name: 'sealane', factory: Object.assign(create, { inject: [] }) }];

function create() {
  /** What the mutated sources look at. */
  const stryker = (globalThis.__stryker__ ??= {});
  /** The tests whose subject each source is. */
  const { which, tests: wanted } = JSON.parse(process.env['SEALANE_MUTATION_TESTS'] ?? '{ "tests": {} }');
  const testsBySource = new Map(
    Object.entries(wanted).map(([source, tests]) => [
      source,
      tests.map((test) => `packages/protocol/test/${test}.test.ts`),
    ]),
  );
  /** By the path of the file of tests. */
  const scripts = new Map();
  /** Milliseconds by the test's id. */
  const times = new Map();
  /** What was found out before a run was interrupted, by tests, sources and mutant; the dry run without a mutant. */
  const verdicts = new Map(existsSync(VERDICTS) ? linesOf(VERDICTS).map((line) => JSON.parse(line)) : []);
  let strayError;

  return {
    capabilities: () => ({ reloadEnvironment: true }),

    async init() {
      process.env['SEALANE_LOOKUPS'] = '20000';
      process.on('unhandledRejection', (error) => (strayError ??= error));
      for (const path of new Set([...testsBySource.values()].flat())) scripts.set(path, await compile(path));
      // Also in a process that takes the place of one that was stopped.
      for (const { id, timeSpentMs } of verdicts.get(digestOfAll())?.tests ?? []) times.set(id, timeSpentMs);
    },

    async dryRun() {
      const known = verdicts.get(digestOfAll());
      if (known !== undefined) return inThisFolder(known);
      stryker.activeMutant = undefined;
      stryker.mutantCoverage = undefined;
      const tests = [];
      for (const path of scripts.keys()) tests.push(...(await run(path)));
      const unfit = tests.find(({ status }) => status === FAILED);
      if (unfit !== undefined) return { status: 'error', errorMessage: `${unfit.id}: ${unfit.failureMessage}` };
      const quick = which === 'quickest' ? quickest(tests) : tests;
      const { mutantCoverage = { static: {}, perTest: {} } } = stryker;
      const perTest = Object.fromEntries(quick.map(({ id }) => [id, mutantCoverage.perTest[id] ?? {}]));
      const result = { status: 'complete', tests: quick, mutantCoverage: { ...mutantCoverage, perTest } };
      appendFileSync(VERDICTS, `${JSON.stringify([digestOfAll(), result])}\n`);
      for (const { id, timeSpentMs } of quick) times.set(id, timeSpentMs);
      return inThisFolder(result);
    },

    async mutantRun({ activeMutant, sandboxFileName, testFilter, hitLimit: hundredfold }) {
      const hitLimit = Math.min(hundredfold, Math.max(hundredfold / 10, MANY_HITS));
      Object.assign(stryker, { hitCount: 0, hitLimit, mutantCoverage: undefined });
      const own = testsBySource.get(basename(sandboxFileName, '.ts'));
      const key = `${own.map((path) => scripts.get(path).digest).join()} ${activeMutant.id}`;
      const covering = testFilter.filter((id) => own.includes(fileOf(id)));
      const known = verdicts.get(key);
      if (known !== undefined && (known.status !== 'survived' || known.nrOfTests === covering.length)) return known;
      const verdict = await judge(activeMutant.id, covering, hitLimit);
      appendFileSync(VERDICTS, `${JSON.stringify([key, verdict])}\n`);
      return verdict;
    },
  };

  async function judge(mutant, covering, hitLimit) {
    let nrOfTests = 0;
    for (const [path, ids] of quickestFirst(covering)) {
      const tests = await run(path, ids, mutant);
      nrOfTests += tests.length;
      if (stryker.hitCount > hitLimit) return { status: 'timeout', reason: `${stryker.hitCount} hits` };
      const failed = tests.find(({ status }) => status === FAILED);
      if (failed !== undefined) {
        return { status: 'killed', killedBy: [failed.id], failureMessage: failed.failureMessage, nrOfTests };
      }
    }
    return { status: 'survived', nrOfTests };
  }

  /**
   * The tests of a file, or those with the ids, until the first that fails.
   * @param {string} path @param {ReadonlySet<string>} [ids] @param {string} [mutant]
   */
  async function run(path, ids, mutant) {
    let failed = false;
    strayError = undefined;
    const runner = {
      config: {
        root: process.cwd(),
        setupFiles: [],
        allowOnly: false,
        passWithNoTests: false,
        maxConcurrency: 1,
        sequence: { hooks: 'stack', setupFiles: 'list' },
        retry: 0,
        testTimeout: 60_000,
        hookTimeout: 60_000,
        tags: [],
      },
      importFile: () => evaluate(scripts.get(path).script),
      onBeforeRunFiles: () => (stryker.activeMutant = mutant),
      onBeforeRunTask(task) {
        if (failed || (ids !== undefined && !ids.has(idOf(task)))) task.mode = 'skip';
        else if (mutant === undefined) stryker.currentTestId = idOf(task);
      },
      onAfterRunTask(task) {
        stryker.currentTestId = undefined;
        failed ||= task.result?.state === 'fail';
      },
    };
    const [file] = await api.startTests([resolve(path)], runner);
    stryker.activeMutant = undefined;
    // One turn, so that a rejection that nobody awaited is known.
    await new Promise((done) => setImmediate(done));
    const tests = [...testsOf(file)].map((test) => resultOf(test));
    const outside = file.result?.errors?.[0] ?? strayError;
    if (outside !== undefined && !tests.some(({ status }) => status === FAILED)) {
      tests.push({
        id: path,
        name: path,
        fileName: path,
        timeSpentMs: 0,
        status: FAILED,
        failureMessage: String(outside.message),
      });
    }
    return tests.filter(({ status }) => status !== SKIPPED);
  }

  function digestOfAll() {
    return [which, ...[...scripts.values()].map(({ digest }) => digest)].join();
  }

  function quickestFirst(ids) {
    const files = groupBy(ids, fileOf);
    const time = (list) => list.reduce((sum, id) => sum + (times.get(id) ?? 0), 0);
    return [...files].toSorted(([, a], [, b]) => time(a) - time(b)).map(([path, list]) => [path, new Set(list)]);
  }
}

/** Without any that takes a fifth of all the time: each survivor would cost it. */
function quickest(tests) {
  const all = tests.reduce((sum, { timeSpentMs }) => sum + timeSpentMs, 0);
  return tests.filter(({ timeSpentMs }) => timeSpentMs < all / 5);
}

/** One script of a file of tests and all that it imports but packages. */
async function compile(path) {
  const bundle = await rolldown({
    input: path,
    platform: 'node',
    resolve: { alias: { '@sealane/protocol': resolve('packages/protocol/src/index.ts') } },
    plugins: [
      {
        name: 'packages-stay-outside',
        resolveId: {
          order: 'pre',
          async handler(id, importer) {
            if (id === 'vitest' || id.startsWith('node:')) return { id, external: true };
            if (/^[./]/.test(id) || id === '@sealane/protocol' || importer === undefined) return null;
            const found = await this.resolve(id, importer, { skipSelf: true });
            return found === null ? null : { id: found.id, external: 'absolute' };
          },
        },
        // By the folder of the day: the same sources give the same script.
        transform: (code, id) => code.replaceAll('import.meta.url', `urlOf(${JSON.stringify(relative('.', id))})`),
      },
    ],
  });
  const { output } = await bundle.generate({ format: 'cjs', codeSplitting: false });
  await bundle.close();
  const { code } = output[0];
  const digest = createHash('sha1').update(code).digest('base64');
  return { digest, script: new Script(`(function (require, module, exports, urlOf) {${code}\n})`, { filename: path }) };
}

function evaluate(script) {
  const module = { exports: {} };
  script.runInThisContext()(packageOf, module, module.exports, (path) => pathToFileURL(path).href);
}

function packageOf(id) {
  if (id === 'vitest') return { ...api, expect };
  const found = require(id);
  return found.x25519 === undefined ? found : { ...found, x25519: remembering(found.x25519) };
}

/** Each mutant asks for the same products, which take most of the time. */
function remembering(x25519) {
  const recall =
    (name) =>
    (...keys) => {
      const question = [name, ...keys.map((key) => Buffer.from(key).toString('base64'))].join(' ');
      let answer = products.get(question);
      if (answer === undefined) products.set(question, (answer = x25519[name](...keys)));
      return answer.slice();
    };
  return { ...x25519, getPublicKey: recall('getPublicKey'), getSharedSecret: recall('getSharedSecret') };
}

/** As vitest makes its own, without what needs its worker. */
async function createExpect() {
  const { chai, JestExtend, JestChaiExpect, JestAsymmetricMatchers, ASYMMETRIC_MATCHERS_OBJECT, setState } =
    await load('@vitest/expect');
  for (const plugin of [JestExtend, JestChaiExpect, JestAsymmetricMatchers]) chai.use(plugin);
  const made = (value, message) => chai.expect(value, message);
  Object.assign(made, chai.expect, globalThis[ASYMMETRIC_MATCHERS_OBJECT]);
  setState({ assertionCalls: 0 }, made);
  return made;
}

/** Stryker wants whole paths. */
function inThisFolder({ tests, ...rest }) {
  return { ...rest, tests: tests.map((test) => ({ ...test, fileName: resolve(test.fileName) })) };
}

function* testsOf(task) {
  if (task.type === 'test') yield task;
  for (const child of task.tasks ?? []) yield* testsOf(child);
}

function resultOf(task) {
  const id = idOf(task);
  const failure = task.result?.errors?.[0];
  const status = task.result?.state === 'pass' ? SUCCESS : task.result?.state === 'fail' ? FAILED : SKIPPED;
  const shared = {
    id,
    name: id.slice(id.indexOf('#') + 1),
    fileName: fileOf(id),
    timeSpentMs: task.result?.duration ?? 0,
  };
  return { ...shared, status, ...(status === FAILED && { failureMessage: String(failure?.message) }) };
}

function idOf(task) {
  const names = [];
  for (let at = task; at !== undefined && at !== task.file; at = at.suite) names.unshift(at.name);
  return `${relative('.', task.file.filepath)}#${names.join(' ')}`;
}

function linesOf(path) {
  return readFileSync(path, 'utf8')
    .split('\n')
    .filter((line) => line !== '');
}

function fileOf(id) {
  return id.slice(0, id.indexOf('#'));
}

function groupBy(items, keyOf) {
  const groups = new Map();
  for (const item of items) groups.set(keyOf(item), [...(groups.get(keyOf(item)) ?? []), item]);
  return groups;
}
