/** Leaves a tunnel or a device running in the background, once it is up. */
import { spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { EXIT, type ExitCode } from '../errors.ts';
import { note } from '../output/terminal.ts';
import { readJournal, runtimeFolder } from '../system/journal.ts';
import { withName } from '../system/name-lock.ts';
import { Stop } from '../system/stop.ts';

const POLL_INTERVAL = 50;

/** Starts `sealane` with these arguments in a session of its own and waits until process `pid` has `name` up or fails. */
export async function detach(
  name: string,
  args: readonly string[],
  isUp: (pid: number | undefined) => boolean | Promise<boolean> = (pid) => isNotedAsUp(name, pid),
): Promise<ExitCode> {
  const logPath = join(runtimeFolder(), `${name}.log`);
  // Another one of this name may be about to come up and write to it.
  const log = await withName(name, () => Promise.resolve(openSync(logPath, 'w', 0o600)));
  const [script] = process.argv.slice(1);
  const child = spawn(process.execPath, [...process.execArgv, script!, ...args], {
    detached: true,
    stdio: ['ignore', log, log],
  });
  closeSync(log);
  let status: number | undefined;
  child.once('error', () => (status = EXIT.failure));
  child.once('exit', (code) => (status = code ?? EXIT.failure));
  const stop = new Stop();
  try {
    while (status === undefined) {
      if (await isUp(child.pid)) {
        child.unref();
        const lines = readFileSync(logPath, 'utf8').trim();
        if (lines !== '') note(lines);
        note(`sealane: ${name} runs in the background: process ${child.pid}, log ${logPath}`);
        return EXIT.ok;
      }
      await stop.sleep(POLL_INTERVAL);
      if (stop.reason !== undefined) child.kill('SIGINT');
    }
  } finally {
    stop.dispose();
  }
  const said = readFileSync(logPath, 'utf8').trim();
  if (said !== '') note(said);
  return status === EXIT.ok ? EXIT.interrupted : (status as ExitCode);
}

function isNotedAsUp(name: string, pid: number | undefined): boolean {
  const record = readJournal(name);
  return record?.ready === true && record.pid === pid;
}
