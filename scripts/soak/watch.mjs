/** Keeps an eye on processes: an end that nobody asked for, and words that no good program says. */

/** A stack trace, a warning of Node's, an exception that nobody caught. */
const ALARMING = /^\s+at .+:\d+:\d+\)?$|Warning: |Uncaught|[Uu]nhandled|\bFATAL\b/;

export class Watch {
  /** @type {string[]} */
  problems = [];
  /** @readonly */
  #expected = new WeakSet();
  #over = false;

  /** From now on ends are no news. */
  finish() {
    this.#over = true;
  }

  /** @param {import('./rig.mjs').Running} running */
  follow(name, running) {
    for (const stream of [running.child.stdout, running.child.stderr]) {
      stream?.on('data', (text) => {
        for (const line of String(text).split('\n'))
          if (ALARMING.test(line)) this.report(`${name} said: ${line.trim()}`);
      });
    }
    void this.#awaitEnd(name, running);
    return running;
  }

  async #awaitEnd(name, running) {
    const { code, stderr } = await running.done;
    if (!this.#expected.has(running)) this.report(`${name} ended by itself with ${code}: ${stderr.trim().slice(-300)}`);
  }

  /** The process is about to be ended on purpose. */
  expect(running) {
    this.#expected.add(running);
  }

  report(problem) {
    if (!this.#over) this.problems.push(problem);
  }
}
