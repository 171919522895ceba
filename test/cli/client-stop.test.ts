/** How signals end a command that leaves nothing behind; one that does never is cut short. */
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';

const STOP = new URL('../../packages/client/dist/system/stop.js', import.meta.url).href;

let folder: string | undefined;
let child: ChildProcess | undefined;
afterEach(() => {
  child?.kill('SIGKILL');
  if (folder !== undefined) rmSync(folder, { recursive: true });
  folder = undefined;
});

/** A program that hangs on a thread of Node's pool, and that says which signals it has heard of. */
async function hanging(options: string): Promise<ChildProcess> {
  folder = mkdtempSync(join(tmpdir(), 'sealane-stop-'));
  const pipe = join(folder, 'pipe');
  execFileSync('mkfifo', [pipe]);
  const script = `
    import { open } from 'node:fs';
    import { Stop } from '${STOP}';
    const stop = new Stop(${options});
    stop.signal.addEventListener('abort', () => console.log(stop.reason.signal));
    open('${pipe}', 'r', () => undefined);
    console.log('ready');
  `;
  child = spawn(process.execPath, ['--input-type=module', '--eval', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  await said(child, 'ready');
  return child;
}

async function said(process: ChildProcess, word: string): Promise<void> {
  const [text] = (await once(process.stdout!, 'data')) as [Buffer];
  expect(text.toString().trim()).toBe(word);
}

describe('a signal', () => {
  it('has its ordinary effect when the good end takes too long', async () => {
    const process = await hanging('{ graceMs: 100 }');
    process.kill('SIGTERM');
    expect(await once(process, 'exit')).toEqual([null, 'SIGTERM']);
  });

  it('has it at once when it is the second', async () => {
    const process = await hanging('{ graceMs: 2 ** 30 }');
    process.kill('SIGTERM');
    await said(process, 'SIGTERM');
    process.kill('SIGINT');
    expect(await once(process, 'exit')).toEqual([null, 'SIGINT']);
  });

  it('does not cut short what has to be undone', async () => {
    const process = await hanging('{}');
    process.kill('SIGTERM');
    await said(process, 'SIGTERM');
    process.kill('SIGTERM');
    process.kill('SIGINT');
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect([process.exitCode, process.signalCode]).toEqual([null, null]);
  });
});
