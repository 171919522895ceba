/** Tries the tunnel from within this process, as `sealane ping` does, and looks for packets that are too large for it. */
import type { PingPlan, PingResult } from '../ping/run.ts';
import { runPing } from '../ping/run.ts';
import type { Stop } from '../system/stop.ts';
import { bad, good, type Finding } from './finding.ts';

/** IP and ICMP headers of an echo request. */
const HEADERS = { 4: 28, 16: 48 } as const;
const SILENT = { handshake: () => undefined, echo: () => undefined, rekeyed: () => undefined, bulk: () => undefined };
/** Closer than this the answer is good enough. */
const STEP = 8;

/** `mtu` is that of the tunnel. */
export async function examinePath(plan: PingPlan, mtu: number, stop: Stop): Promise<readonly Finding[]> {
  const headers = HEADERS[plan.target.address.length === 4 ? 4 : 16];
  const largest = mtu - headers;
  const ping = (size: number, count: number): Promise<PingResult> =>
    runPing({ ...plan, size, count, bulk: 0, rekey: false }, SILENT, stop);
  const small = await ping(Math.min(plan.size, largest), 3);
  if (small.handshakeMs === undefined || small.roundTripsMs.length === 0) {
    const { summary = 'no answer', hints = [] } = small.diagnosis ?? {};
    return [bad('tunnel', summary, hints[0] ?? 'ask whoever runs the server')];
  }
  const reached = good('tunnel', `${small.target} answers; the handshake took ${small.handshakeMs.toFixed(1)} ms`);
  if ((await ping(largest, 3)).roundTripsMs.length > 0) {
    return [reached, good('path MTU', `packets of ${mtu} bytes come through`)];
  }
  let [fits, fails] = [Math.min(plan.size, largest), largest];
  while (fails - fits > STEP && stop.reason === undefined) {
    const size = Math.floor((fits + fails) / 2);
    if ((await ping(size, 2)).roundTripsMs.length > 0) fits = size;
    else fails = size;
  }
  const best = fits + headers;
  const what = `packets of more than about ${best} bytes vanish on the way: large transfers hang`;
  return [reached, bad('path MTU', what, `write MTU = ${best}`)];
}
