// The main job: a real sealaned and a real sealane, as processes of their own, joined by a tunnel that carries real packets.
//   npm start                      over loopback, no root, no configuration
//   npm start -- --keep            leaves the server running for a try of your own; Ctrl-C ends it
//   npm start -- --bulk 256M       transfers that much as echoes
//   npm start -- --file 1G         fetches a file of that size
//   npm start -- --tun             with TUN interfaces in two network namespaces (root, Linux)
import { mkdtempSync, rmSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { Processes } from './demo/processes.mjs';
import { Display } from './demo/display.mjs';
import { overLoopback } from './demo/loopback.mjs';
import { overTun } from './demo/tun.mjs';
import { readOptions, refuse } from './options.mjs';

const options = readWishes();
const display = new Display();
const processes = new Processes();
const directory = mkdtempSync(join(tmpdir(), 'sealane-'));
/** @type {(() => unknown)[]} */
const undo = [() => rmSync(directory, { recursive: true, force: true }), () => processes.endAll()];

/** @type {Promise<void> | undefined} */
let ending;
/** Ends every process and removes every trace, once. */
function cleanUp() {
  ending ??= (async () => {
    for (const step of undo.toReversed()) await Promise.resolve(step());
  })();
  return ending;
}

for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP'])) {
  // npm passes on the signal that the terminal has sent already: the second must not cut the clean-up short.
  process.on(signal, () => {
    if (ending !== undefined) return;
    display.interrupt();
    const code = options.keep && display.finished ? 0 : 128 + constants.signals[signal];
    void cleanUp().finally(() => process.exit(code));
  });
}

try {
  const job = options.tun ? overTun : overLoopback;
  await job({ ...options, directory, display, processes, undo });
  await cleanUp();
} catch (error) {
  // An interrupted job fails because its processes end; the signal decides what is said and the exit code.
  if (ending === undefined) {
    display.failed(error instanceof Error ? error.message : String(error), processes.lastWords());
    await cleanUp();
    process.exitCode = 1;
  }
}

function readWishes() {
  const { values } = readOptions('sealane', 'npm start [-- [--keep] [--bulk SIZE] [--file SIZE] [--tun]]', {
    keep: { type: 'boolean', default: false },
    tun: { type: 'boolean', default: false },
    bulk: { type: 'string', default: '64M' },
    file: { type: 'string', default: '200M' },
  });
  if (!/^[1-9]\d{0,6}[KMG]?$/.test(values.bulk))
    refuse('sealane', `--bulk '${values.bulk}': expected a size such as 64M`);
  const size = /^([1-9]\d{0,6})([KMG]?)$/.exec(values.file);
  if (size === null) refuse('sealane', `--file '${values.file}': expected a size such as 200M`);
  const power = ['', 'K', 'M', 'G'].indexOf(size[2] ?? '');
  return { ...values, file: Number(size[1]) * 1024 ** power };
}
