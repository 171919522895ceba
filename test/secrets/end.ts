/** One end of a tunnel as a process of its own, which tells secrets on its standard output, a line of JSON each. */
import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';
import { AHEAD } from '../support/clocks.ts';
import { type Host, until } from '../support/lab.ts';
import { findIn } from './memory.ts';

/** Before the words that it takes: `ends.mjs` says which. */
export const ENDS: string = fileURLToPath(new URL('ends.mjs', import.meta.url));
const OBSERVE = fileURLToPath(new URL('observe.cjs', import.meta.url));

/** Seconds: after the last session, and those of attempts to make another. */
const NINE_MINUTES = 540;
const ATTEMPTS = 130;
/** Milliseconds for one step of twenty seconds; the file is read anew after 20. */
const STEP = 150;

/** The environment of a process that tells the ephemeral keys that it draws, and whose monotonic clock is ahead by what the file says. */
export function observed(ahead: string): Readonly<Record<string, string>> {
  return { NODE_OPTIONS: `--require ${AHEAD} --require ${OBSERVE}`, SEALANE_AHEAD: ahead };
}

/** Nine minutes and the vain attempts to reach the other end pass for the clock of an observed process. */
export async function letSessionsEnd(ahead: string, afterEach?: () => Promise<unknown>): Promise<void> {
  for (let seconds = 0; seconds <= NINE_MINUTES + ATTEMPTS; seconds += 20) {
    writeFileSync(ahead, String(seconds * 1_000));
    await sleep(STEP);
    await afterEach?.();
  }
}

interface Line {
  readonly what?: string;
  readonly masked?: string;
  readonly did?: string;
  readonly ready?: string;
  readonly lanes?: number;
  readonly publicKey?: string;
  readonly sessions?: number;
  readonly current?: boolean;
  /** Of a log. */
  readonly event?: string;
}

/** Secrets that were told, by what they are when masked. */
export class Told {
  readonly #kinds = new Map<string, string>();

  add(what: string, masked: string): void {
    // A session's key is told as what the derivation gives, too, and what is made of static keys as any shared secret.
    const kind = this.#kinds.get(masked);
    if (kind === undefined || what === 'session' || what.startsWith('static')) this.#kinds.set(masked, what);
  }

  count(kind: string): number {
    return [...this.#kinds.values()].filter((one) => one === kind).length;
  }

  /** The kinds of all that lies in the memory of a process, each as often as there are secrets of it. */
  in(pid: number): string[] {
    const secrets = new Map(
      Array.from(this.#kinds.keys(), (masked) => [masked, Buffer.from(masked, 'hex').map((byte) => byte ^ 0xa5)]),
    );
    return [...findIn(pid, secrets).keys()].map((masked) => this.#kinds.get(masked)!);
  }

  /** The same, but for static keys and what is made of them alone, which stay for as long as there is a configuration. */
  ofSessions(pid: number): string[] {
    return this.in(pid).filter((kind) => !kind.startsWith('static'));
  }
}

/** Of each kind some were told, and of the sessions that live, three at most, the two keys lie there: this is how we know that the search finds. */
export function expectLive(told: Told, pid: number): void {
  for (const kind of ['session', 'ephemeral', 'own ephemeral', 'shared', 'chaining']) {
    expect(told.count(kind), kind).toBeGreaterThan(3);
  }
  const live = told.ofSessions(pid);
  expect(live.filter((kind) => kind === 'session').length).toBeGreaterThanOrEqual(2);
  expect(live.filter((kind) => kind === 'session').length).toBeLessThanOrEqual(6);
  expect(live.filter((kind) => kind !== 'session')).toEqual([]);
}

export class End {
  readonly child: ChildProcessByStdio<Writable, Readable, Readable>;
  readonly exit: Promise<number | null>;
  stderr = '';
  readonly #said: Line[] = [];

  constructor(host: Host, told: Told, command: readonly string[], env: Readonly<Record<string, string>> = {}) {
    this.child = spawn('ip', ['netns', 'exec', host.name, process.execPath, ...command], {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { ...process.env, ...env },
    });
    this.exit = once(this.child, 'exit').then(([code]) => code as number | null);
    this.child.stderr.setEncoding('utf8').on('data', (text: string) => (this.stderr += text));
    createInterface({ input: this.child.stdout }).on('line', (text) => {
      const line = JSON.parse(text) as Line;
      if (line.what !== undefined && line.masked !== undefined) told.add(line.what, line.masked);
      else this.#said.push(line);
    });
  }

  get pid(): number {
    return this.child.pid!;
  }

  async heard(matches: (line: Line) => boolean): Promise<Line> {
    let found: Line | undefined;
    const answered = (): boolean => (found = this.#said.find(matches)) !== undefined;
    await until('an end to answer', answered, 60_000).catch((cause: unknown) => {
      throw new Error(`an end does not answer: ${this.stderr}`, { cause });
    });
    this.#said.splice(this.#said.indexOf(found!), 1);
    return found!;
  }

  tell(line: Line): void {
    this.child.stdin.write(`${JSON.stringify(line)}\n`);
  }

  async ask(word: string): Promise<Line> {
    this.child.stdin.write(`${word}\n`);
    return this.heard((line) => line.did === word);
  }

  async end(): Promise<void> {
    this.child.stdin.end();
    await this.exit;
  }
}
