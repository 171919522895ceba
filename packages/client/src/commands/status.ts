import { ControlError, listControls, readStatus, type StatusReport } from '@sealane/tunnel';
import { EXIT, type ExitCode } from '../errors.ts';
import { interfacePath } from '../hosting.ts';
import { RateHistory } from '../output/rates.ts';
import { formatStatus } from '../output/status.ts';
import { note, print, printJson, styleFor } from '../output/terminal.ts';
import { Stop } from '../system/stop.ts';
import { reach } from './control.ts';

export interface StatusOptions {
  readonly json?: boolean;
  readonly watch?: boolean;
}

const WATCH_INTERVAL = 1_000;
const HOME_AND_CLEAR = '\u001b[H\u001b[J';

/** Shows one tunnel, or all that run here; with `watch` once a second until interrupted. */
export async function status(name: string | undefined, options: StatusOptions): Promise<ExitCode> {
  if (name !== undefined) interfacePath(name);
  if (options.watch !== true) {
    await show(name, await collect(name), options);
    return EXIT.ok;
  }
  const stop = new Stop();
  const history = new RateHistory();
  try {
    while (stop.reason === undefined) {
      const reports = await collect(name);
      for (const report of reports) history.add(report, performance.now());
      if (options.json !== true && process.stdout.isTTY)
        await print(`${HOME_AND_CLEAR}${new Date().toLocaleTimeString()}`);
      await show(name, reports, options, history);
      await stop.sleep(WATCH_INTERVAL);
    }
  } finally {
    stop.dispose();
  }
  return EXIT.ok;
}

async function collect(name: string | undefined): Promise<readonly StatusReport[]> {
  if (name !== undefined) return [await reach(name, () => readStatus(interfacePath(name)))];
  const reports: StatusReport[] = [];
  for (const socket of await listControls()) {
    try {
      reports.push(await readStatus(socket.path));
    } catch (error) {
      if (!(error instanceof ControlError)) throw error;
      note(`sealane: ${socket.name} belongs to another program: 'wg show ${socket.name}' shows it`);
    }
  }
  return reports;
}

async function show(
  name: string | undefined,
  reports: readonly StatusReport[],
  options: StatusOptions,
  history?: RateHistory,
): Promise<void> {
  if (options.json === true) {
    await printJson(name === undefined ? reports : reports[0]);
    return;
  }
  if (reports.length === 0) note('sealane: no tunnel is running here');
  const style = styleFor(process.stdout);
  const now = Date.now();
  const blocks = reports.map((report) => formatStatus(report, style, now, history));
  if (blocks.length > 0) await print(blocks.join('\n\n'));
}
