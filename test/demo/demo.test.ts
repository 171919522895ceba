import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

const script = fileURLToPath(new URL('../../scripts/demo.mjs', import.meta.url));

let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'sealane-demo-test-'));
});

afterEach(() => {
  rmSync(directory, { recursive: true, force: true });
});

/** Runs the demonstration; calls `onOutput` with all output so far. */
async function demo(
  args: readonly string[],
  onOutput: (text: string, kill: (signal: NodeJS.Signals) => void) => void = () => undefined,
): Promise<{ readonly code: number | null; readonly signal: string | null; readonly output: string }> {
  const child = spawn(process.execPath, [script, ...args], {
    env: { ...process.env, TMPDIR: directory },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
      onOutput(output, (signal) => child.kill(signal));
    });
  }
  const [code, signal] = (await once(child, 'close')) as [number | null, string | null];
  return { code, signal, output };
}

/** Processes of this system that were told of our folder. */
function leftovers(): readonly string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .map((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
      } catch {
        return '';
      }
    })
    .filter((line) => line.includes(directory));
}

describe.runIf(process.platform === 'linux')('npm start', () => {
  it('joins the two programs, moves the data, rekeys, and leaves nothing behind', async () => {
    const { code, output } = await demo(['--bulk', '4M', '--file', '9M']);
    expect(output).toContain('It works.');
    expect(output).toMatch(/handshake {4}[\d.]+ ms/);
    expect(output).toMatch(/round trip {3}[\d.]+ ms median of 10 ICMP echoes, 0 lost/);
    expect(output).toMatch(/4\.0 MiB there and back .* 0 lost, 0 wrong/);
    expect(output).toContain('2 sessions, 1 rekey');
    expect(output).toMatch(/web page {5}200, \d+ bytes through SOCKS5/);
    expect(output).toMatch(/file {9}9\.0 MiB at .* SHA-256 as served, \d+ rekeys? in the middle/);
    expect(code).toBe(0);
    expect(leftovers()).toEqual([]);
    expect(readdirSync(directory)).toEqual([]);
  });

  it('ends its processes when it is interrupted', async () => {
    const { code } = await demo(['--bulk', '2G'], (text, kill) => {
      if (text.includes('1 session')) kill('SIGINT');
    });
    expect(code).toBe(130);
    expect(leftovers()).toEqual([]);
    expect(readdirSync(directory)).toEqual([]);
  });

  it('takes its processes along when it is killed', async () => {
    const { signal } = await demo(['--bulk', '2G'], (text, kill) => {
      if (text.includes('1 session')) kill('SIGKILL');
    });
    expect(signal).toBe('SIGKILL');
    await expect.poll(leftovers, { timeout: 15_000 }).toEqual([]);
  });

  it('keeps the server running with --keep until it is interrupted', async () => {
    let alive: readonly string[] = [];
    const { code } = await demo(['--bulk', '1M', '--file', '1M', '--keep'], (text, kill) => {
      if (alive.length > 0 || !text.includes('peer list')) return;
      alive = leftovers();
      kill('SIGINT');
    });
    expect(alive.join('\n')).toContain('sealaned.js run');
    expect(code).toBe(0);
    expect(leftovers()).toEqual([]);
  });

  it('refuses arguments that it does not know', async () => {
    const wrong = await demo(['--bulk', 'lots']);
    expect(wrong).toMatchObject({ code: 2, output: "sealane: --bulk 'lots': expected a size such as 64M\n" });
    expect((await demo(['--fast'])).code).toBe(2);
  });
});
