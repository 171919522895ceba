import { spawn } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const guard = new URL('parent-guard.mjs', import.meta.url).href;
const BIN = {
  sealane: join(root, 'packages/client/bin/sealane.js'),
  sealaned: join(root, 'packages/server/bin/sealaned.js'),
};
const PATIENCE_MS = 5_000;

/** The processes of one demonstration: none outlives it. */
export class Processes {
  /** @readonly */
  #running = new Set();
  /** @readonly @type {string[]} */
  #lastWords = [];

  constructor() {
    process.on('exit', () => {
      for (const { child } of this.#running) child.kill('SIGKILL');
    });
  }

  /** Starts `sealane` or `sealaned`; `prefix` is a command to run it under, such as `ip netns exec NAME`. */
  program(name, args, prefix = []) {
    return this.command([...prefix, process.execPath, '--import', guard, BIN[name], ...args], name);
  }

  /** Starts any command. Resolves `done` to its exit code and output; `lines` calls back for each line of output. */
  command(/** @type {string[]} */ commandLine, name = commandLine[0]) {
    const [file = '', ...args] = commandLine;
    const child = spawn(file, args, { cwd: root, stdio: ['pipe', 'pipe', 'pipe'] });
    child.stdin.on('error', () => undefined);
    const listeners = new Set();
    const output = { stdout: '', stderr: '' };
    let rest = '';
    child.stdout.setEncoding('utf8').on('data', (text) => {
      output.stdout = (output.stdout + text).slice(-65_536);
      const lines = (rest + text).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) for (const listener of listeners) listener(line);
    });
    child.stderr.setEncoding('utf8').on('data', (text) => {
      output.stderr = (output.stderr + text).slice(-65_536);
    });
    const done = new Promise((resolve) => {
      const end = (/** @type {{ code: number, stdout: string, stderr: string }} */ result) => {
        this.#running.delete(running);
        if (result.code !== 0 && result.stderr.trim() !== '') this.#lastWords.push(`${name}: ${result.stderr.trim()}`);
        resolve(result);
      };
      child.once('error', (error) => end({ code: 127, stdout: '', stderr: error.message }));
      child.once('close', (code) => end({ code: code ?? 1, ...output }));
    });
    const running = { child, name, done, lines: (listener) => listeners.add(listener) };
    this.#running.add(running);
    return running;
  }

  /** Runs a command to its end; throws when it fails. */
  async run(running) {
    const { code, stdout, stderr } = await running.done;
    if (code !== 0)
      throw new Error(`${running.name} ended with exit code ${code}${stderr === '' ? '' : `: ${stderr.trim()}`}`);
    return stdout;
  }

  /** The first line that `match` turns into something. Throws when the process ends before. */
  line(running, match) {
    return new Promise((resolve, reject) => {
      running.lines((line) => {
        const found = match(line);
        if (found !== undefined) resolve(found);
      });
      void running.done.then(({ code, stderr }) =>
        reject(new Error(`${running.name} ended with exit code ${code}: ${stderr.trim()}`)),
      );
    });
  }

  /** Ends one process in good order, or by force when it does not listen. */
  async end(running, signal = 'SIGTERM') {
    running.child.kill(signal);
    const force = setTimeout(() => running.child.kill('SIGKILL'), PATIENCE_MS);
    const result = await running.done;
    clearTimeout(force);
    return result;
  }

  async endAll() {
    await Promise.all(Array.from(this.#running, (running) => this.end(running)));
  }

  /** What failed processes said on standard error. */
  lastWords() {
    return this.#lastWords;
  }
}
