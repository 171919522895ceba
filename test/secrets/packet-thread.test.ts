/**
 * The packet threads of the Linux lane forget their keys as well: a process with a TUN interface is searched for the keys of its sessions, which
 * the process at the other end tells because it has the same, and for the ephemeral keys that the searched one drew itself.
 */
import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { type Host, Lab, missing, until } from '../support/lab.ts';
import { OUTER } from '../support/wireguard.ts';
import { findIn } from './memory.ts';

const ENDS = fileURLToPath(new URL('ends.mjs', import.meta.url));
const OBSERVE = fileURLToPath(new URL('observe.cjs', import.meta.url));
const HANDSHAKES = 4;
/** Seconds: after the last session, and those of attempts to make another. */
const NINE_MINUTES = 540;
const ATTEMPTS = 130;
/** Milliseconds for one step of ten seconds; the clock is read anew after 100. */
const STEP = 150;

interface Line {
  readonly what?: string;
  readonly masked?: string;
  readonly did?: string;
  readonly ready?: string;
  readonly lanes?: number;
  readonly publicKey?: string;
  readonly sessions?: number;
  readonly current?: boolean;
}

/** One end as a process: what it said, and which secrets it told. */
class End {
  readonly child: ChildProcessByStdio<Writable, Readable, null>;
  readonly said: Line[] = [];
  /** By masked secret; both ends share it. */
  readonly kinds: Map<string, string>;

  constructor(
    host: Host,
    kinds: Map<string, string>,
    args: readonly string[],
    env: Readonly<Record<string, string>> = {},
  ) {
    this.kinds = kinds;
    this.child = spawn('ip', ['netns', 'exec', host.name, process.execPath, ENDS, ...args], {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: { ...process.env, ...env },
    });
    createInterface({ input: this.child.stdout }).on('line', (text) => this.#take(JSON.parse(text) as Line));
  }

  async heard(matches: (line: Line) => boolean): Promise<Line> {
    let found: Line | undefined;
    await until('an end to answer', () => (found = this.said.find(matches)) !== undefined, 60_000);
    this.said.splice(this.said.indexOf(found!), 1);
    return found!;
  }

  async ask(word: string): Promise<Line> {
    this.child.stdin.write(`${word}\n`);
    return this.heard((line) => line.did === word);
  }

  async end(): Promise<void> {
    const ended = once(this.child, 'exit');
    this.child.stdin.end();
    await ended;
  }

  #take(line: Line): void {
    if (line.masked === undefined || line.what === undefined) {
      this.said.push(line);
      return;
    }
    // A session's key is told as what the derivation gives, too, and what is made of static keys as any shared secret.
    const kind = this.kinds.get(line.masked);
    if (kind !== undefined && line.what !== 'session' && !line.what.startsWith('static')) return;
    this.kinds.set(line.masked, line.what);
  }
}

describe.for([1, 3])('a tunnel on %i packet threads', (lanes) => {
  const reason = missing();

  it(
    'holds no key of a session that is over: replaced, expired, of a removed peer, after close',
    { timeout: 240_000 },
    async ({ skip }) => {
      if (reason !== undefined) skip(reason);
      await using lab = await Lab.open();
      const [a, b] = [await lab.host('a'), await lab.host('b')];
      await lab.join(a, 'va', [`${OUTER.a4}/24`], b, 'vb', [`${OUTER.b4}/24`]);
      const ahead = await lab.file('ahead', '0');
      const told = new Map<string, string>();
      const name = lab.interfaceName('t');
      const thread = new End(a, told, ['thread', name, String(lanes)], {
        NODE_OPTIONS: `--require ${OBSERVE}`,
        SEALANE_AHEAD: ahead,
      });
      const teller = new End(b, told, ['teller']);
      const pid = thread.child.pid!;
      const keys = [
        await thread.heard((line) => line.publicKey !== undefined),
        await teller.heard((line) => line.publicKey !== undefined),
      ];
      thread.child.stdin.write(`${JSON.stringify(keys[1])}\n`);
      teller.child.stdin.write(`${JSON.stringify(keys[0])}\n`);
      expect(await thread.heard((line) => line.ready !== undefined)).toEqual({ ready: 'linux', lanes });
      await teller.heard((line) => line.ready !== undefined);
      await a.must('ip', ['addr', 'add', '10.77.0.1/24', 'dev', name]);
      await a.must('ip', ['link', 'set', name, 'up']);

      /** The kinds of all that lies in the thread's process, each as often as there are secrets of it. */
      const search = (): string[] => {
        const secrets = new Map(
          Array.from(told.keys(), (masked) => [masked, Buffer.from(masked, 'hex').map((byte) => byte ^ 0xa5)]),
        );
        return [...findIn(pid, secrets).keys()].map((masked) => told.get(masked)!);
      };
      const ofSessions = (kinds: readonly string[]): string[] => kinds.filter((kind) => !kind.startsWith('static'));
      const sessions = async (count: number): Promise<void> => {
        await until(
          `session ${count}`,
          async () => {
            await teller.ask('send');
            return ((await thread.ask('status')).sessions ?? 0) >= count;
          },
          60_000,
        );
      };
      // By turns either end begins, so that the thread is initiator and responder.
      const handshakes = async (from: number): Promise<void> => {
        for (let i = 0; i < HANDSHAKES; i++) {
          await (i % 2 === 0 ? teller : thread).ask('rekey');
          await sessions(from + i + 1);
        }
      };
      await handshakes(0);
      for (const kind of ['session', 'ephemeral', 'shared', 'chaining']) {
        expect([...told.values()].filter((one) => one === kind).length, kind).toBeGreaterThan(3);
      }
      const live = ofSessions(search());
      // While a session lives its two keys are there: this is how we know that the search finds. Three sessions at most are in use.
      expect(live.filter((kind) => kind === 'session').length).toBeGreaterThanOrEqual(2);
      expect(live.filter((kind) => kind === 'session').length).toBeLessThanOrEqual(6);
      expect(live.filter((kind) => kind !== 'session')).toEqual([]);

      // The other end falls silent, and nine minutes and the vain attempts to reach it pass for the thread's clock.
      await teller.ask('remove');
      for (let seconds = 0; seconds <= NINE_MINUTES + ATTEMPTS; seconds += 10) {
        writeFileSync(ahead, String(seconds * 1_000));
        await sleep(STEP);
        await thread.ask('status');
      }
      await until('the keys of the session to be gone', () => ofSessions(search()).length === 0, 30_000);
      expect((await thread.ask('status')).current).toBe(false);

      await teller.ask('add');
      await handshakes(HANDSHAKES);
      expect(search()).toContain('session');
      await thread.ask('remove');
      expect(search().filter((kind) => kind !== 'static')).toEqual([]);
      await thread.ask('close');
      expect(search()).toEqual([]);
      await thread.end();
      await teller.end();
    },
  );
});
