import { until } from './lab.ts';
import type { Host } from './lab.ts';

export interface IperfReport {
  readonly end: {
    readonly streams: readonly unknown[];
    readonly sum_received: { readonly bytes: number };
    /** With `--bidir`: what the client received. */
    readonly sum_received_bidir_reverse?: { readonly bytes: number };
    readonly sum: { readonly packets: number; readonly lost_packets: number };
  };
}

/** Starts iperf3's server on every address of a host. */
export async function iperfServer(host: Host): Promise<void> {
  host.start('iperf3', ['-s']);
  await until('iperf3 to listen', async () =>
    (await host.must('ss', ['-Hltn', 'sport', '=', '5201'])).includes('5201'),
  );
}

/** What the client is told by a server that still is at its last run, or is just closing the sockets of that. */
const BUSY = /the server is busy|unable to connect to server: Connection reset by peer/;

/** One run of iperf3's client; an error when it fails. */
export async function iperf(host: Host, target: string, args: readonly string[]): Promise<IperfReport> {
  const words = ['-J', '-c', target, ...args];
  let outcome = await host.run('iperf3', words);
  // The server goes on with a run for a moment after its client has ended.
  await until(
    "iperf3's server to be free",
    async () => {
      if (!BUSY.test(outcome.stdout)) return true;
      outcome = await host.run('iperf3', words);
      return false;
    },
    30_000,
  );
  if (outcome.code !== 0) throw new Error(`iperf3 ${words.join(' ')}: ${outcome.stderr}${outcome.stdout}`);
  const report = JSON.parse(outcome.stdout) as IperfReport & { readonly error?: string };
  if (report.error !== undefined) throw new Error(`iperf3 ${args.join(' ')}: ${report.error}`);
  return report;
}
