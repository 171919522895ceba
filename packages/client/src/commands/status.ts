import { ControlError, listControls, readStatus, type StatusReport } from '@sealane/tunnel';
import { EXIT, type ExitCode } from '../errors.ts';
import { interfacePath } from '../hosting.ts';
import { RateHistory } from '../output/rates.ts';
import { isScreen, Screen } from '../output/screen.ts';
import { formatStatus } from '../output/status.ts';
import { note, print, printJson, styleFor } from '../output/terminal.ts';
import { Stop } from '../system/stop.ts';
import { type Killed, killedTunnels } from '../up/killed.ts';
import { killedText, reach } from './control.ts';

export interface StatusOptions {
  readonly json?: boolean;
  readonly watch?: boolean;
}

const WATCH_INTERVAL = 1_000;

interface Look {
  readonly reports: readonly StatusReport[];
  readonly killed: readonly Killed[];
  /** What else there is to say. */
  readonly remarks: readonly string[];
}

/** Shows one tunnel, or all that run here; with `watch` once a second until interrupted. */
export async function status(name: string | undefined, options: StatusOptions): Promise<ExitCode> {
  if (name !== undefined) interfacePath(name);
  if (options.watch === true) {
    await watch(name, options);
    return EXIT.ok;
  }
  const seen = await look(name);
  for (const remark of seen.remarks) note(`sealane: ${remark}`);
  if (options.json === true) await printLook(name, seen);
  else if (seen.reports.length > 0) await print(blocksOf(seen.reports).join('\n\n'));
  return EXIT.ok;
}

async function watch(name: string | undefined, options: StatusOptions): Promise<void> {
  const stop = new Stop();
  const history = new RateHistory();
  let screen: Screen | undefined;
  try {
    while (stop.reason === undefined) {
      const seen = await look(name);
      const { reports, remarks } = seen;
      for (const report of reports) history.add(report, performance.now());
      const time = new Date().toTimeString().slice(0, 'hh:mm:ss'.length);
      if (options.json === true) await printLook(name, seen);
      else if (isScreen(process.stdout)) {
        screen ??= new Screen();
        screen.draw([time, ...blocksOf(reports, history), ...remarks].join('\n\n'));
      } else await print(`${[time, ...blocksOf(reports, history), ...remarks].join('\n\n')}\n`);
      await stop.sleep(WATCH_INTERVAL);
    }
  } finally {
    screen?.close();
    stop.dispose();
  }
}

async function look(name: string | undefined): Promise<Look> {
  if (name !== undefined) {
    const report = await reach(name, () => readStatus(interfacePath(name)));
    return { reports: [report], killed: [], remarks: [] };
  }
  const reports: StatusReport[] = [];
  const remarks: string[] = [];
  for (const socket of await listControls()) {
    try {
      reports.push(await readStatus(socket.path));
    } catch (error) {
      if (!(error instanceof ControlError)) throw error;
      remarks.push(`${socket.name} belongs to another program: 'wg show ${socket.name}' shows it`);
    }
  }
  const { killed, unknown } = killedTunnels();
  remarks.push(...killed.map(killedText), ...unknown);
  if (reports.length + killed.length + unknown.length === 0) remarks.push('no tunnel is running here');
  return { reports, killed, remarks };
}

function printLook(name: string | undefined, { reports, killed }: Look): Promise<void> {
  if (name !== undefined) return printJson(reports[0]);
  // A script that goes through the peers of all finds none here.
  return printJson([...reports, ...killed.map((tunnel) => ({ ...tunnel, peers: [] }))]);
}

function blocksOf(reports: readonly StatusReport[], history?: RateHistory): readonly string[] {
  const style = styleFor(process.stdout);
  const now = Date.now();
  return reports.map((report) => formatStatus(report, style, now, history));
}
