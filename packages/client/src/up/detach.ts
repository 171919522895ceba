/** Leaves a tunnel or a device running in the background, once it is ready. */
import { spawn } from 'node:child_process';
import { closeSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { EXIT, type ExitCode } from '../errors.ts';
import { note } from '../output/terminal.ts';
import { boundLog, keepLog, openLog } from './background-log.ts';

const STANDARD_OUTPUT = 1;
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** Starts `sealane` with these arguments in a session of its own and waits until it tells that it is ready, or ends. */
export async function detach(name: string, args: readonly string[]): Promise<ExitCode> {
  const log = openLog(name);
  const [script] = process.argv.slice(1);
  const child = spawn(process.execPath, [...process.execArgv, script!, ...args, '--ready-on-stdout'], {
    detached: true,
    stdio: ['ignore', 'pipe', log.fd],
  });
  closeSync(log.fd);
  const interrupt = (): void => {
    child.kill('SIGINT');
  };
  for (const signal of SIGNALS) process.on(signal, interrupt);
  const end = await new Promise<'ready' | number>((resolve) => {
    child.stdout?.once('data', () => resolve('ready'));
    child.once('error', () => resolve(EXIT.failure));
    // A signal that we pass on may come before it has handlers for it.
    child.once('exit', (code, signal) => resolve(code ?? (signal === 'SIGINT' ? EXIT.interrupted : EXIT.failure)));
  });
  for (const signal of SIGNALS) process.off(signal, interrupt);
  const said = readFileSync(log.path, 'utf8').trim();
  if (said !== '') note(said);
  if (end !== 'ready') {
    rmSync(log.path);
    return end === EXIT.ok ? EXIT.interrupted : (end as ExitCode);
  }
  child.stdout?.destroy();
  child.unref();
  note(`sealane: ${name} runs in the background: process ${child.pid}, log ${keepLog(name, log.path)}`);
  return EXIT.ok;
}

/** Tells the process that waits in `detach` that this one is ready; nothing else is written to its standard output. */
export function goOnAlone(): void {
  boundLog();
  try {
    writeSync(STANDARD_OUTPUT, 'ready\n');
  } catch {
    // That process was killed: nobody has to be told.
  }
}
