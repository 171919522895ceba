/** Leaves a tunnel or a device running in the background, once it is ready. */
import { spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { EXIT, type ExitCode } from '../errors.ts';
import { note } from '../output/terminal.ts';
import { runtimeFolder } from '../system/journal.ts';
import { withName } from '../system/name-lock.ts';

const STANDARD_OUTPUT = 1;
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** Starts `sealane` with these arguments in a session of its own and waits until it tells that it is ready, or ends. */
export async function detach(name: string, args: readonly string[]): Promise<ExitCode> {
  const logPath = join(runtimeFolder(), `${name}.log`);
  // Another one of this name may be about to come up and write to it.
  const log = await withName(name, () => Promise.resolve(openSync(logPath, 'w', 0o600)));
  const [script] = process.argv.slice(1);
  const child = spawn(process.execPath, [...process.execArgv, script!, ...args, '--ready-on-stdout'], {
    detached: true,
    stdio: ['ignore', 'pipe', log],
  });
  closeSync(log);
  const interrupt = (): void => {
    child.kill('SIGINT');
  };
  for (const signal of SIGNALS) process.on(signal, interrupt);
  const end = await new Promise<'ready' | number>((resolve) => {
    child.stdout?.once('data', () => resolve('ready'));
    child.once('error', () => resolve(EXIT.failure));
    child.once('exit', (code) => resolve(code ?? EXIT.failure));
  });
  for (const signal of SIGNALS) process.off(signal, interrupt);
  const said = readFileSync(logPath, 'utf8').trim();
  if (said !== '') note(said);
  if (end !== 'ready') return end === EXIT.ok ? EXIT.interrupted : (end as ExitCode);
  child.stdout?.destroy();
  child.unref();
  note(`sealane: ${name} runs in the background: process ${child.pid}, log ${logPath}`);
  return EXIT.ok;
}

/** For the process that waits in `detach`; when that was killed, nobody has to be told. Nothing else is written there. */
export function tellReady(): void {
  try {
    writeSync(STANDARD_OUTPUT, 'ready\n');
  } catch {
    // The tunnel is up all the same.
  }
}
