/** What a running tunnel costs while something lasts, and what it says of itself. */
import { readFileSync } from 'node:fs';
import { control } from './wireguard.ts';
import type { WireguardDevice } from './wireguard.ts';

export interface DeviceStatus {
  readonly notes: readonly string[];
  readonly faults: Readonly<Record<string, number>>;
  readonly drops: Readonly<Record<string, number>>;
}

export async function statusOf(device: WireguardDevice): Promise<DeviceStatus> {
  const answer = await control(device.socketPath, ['status=1\n\n']);
  return JSON.parse(/^json=(.*)$/m.exec(answer)![1]!) as DeviceStatus;
}

/** The share of one processor that a process uses while `work` goes on. */
export async function processorShare(pid: number, work: () => Promise<unknown>): Promise<number> {
  const before = { cpu: cpuSeconds(pid), at: performance.now() };
  await work();
  return (cpuSeconds(pid) - before.cpu) / ((performance.now() - before.at) / 1000);
}

/** Processor time that a process has used, in seconds. */
function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /, '')
    .split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}
