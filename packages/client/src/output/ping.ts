import { formatBytes, formatEndpoint, formatMilliseconds, formatRate } from '@sealane/tunnel';
import type { PingPlan, PingResult } from '../ping/run.ts';
import type { Style } from './terminal.ts';

const NOT_HEDGED = "the server took no part; write 'PostQuantum = yes' there too";

/** The last lines of a ping for people. */
export function formatSummary(result: PingResult, plan: PingPlan, style: Style): string {
  const { sent, roundTripsMs, bulk, handshakeMs } = result;
  const lines: string[] = [];
  if (handshakeMs === undefined) return '';
  if (sent > 0) {
    const lost = sent - roundTripsMs.length;
    const loss = lost === 0 ? style.green('none lost') : style.red(`${lost} lost`);
    lines.push(`${sent} sent, ${roundTripsMs.length} answered, ${loss}${spread(roundTripsMs)}`);
  }
  if (bulk !== undefined) {
    const seconds = `${(bulk.elapsedMs / 1_000).toFixed(2)} s`;
    const rate = formatRate(bulk.bytes, bulk.elapsedMs);
    const content =
      bulk.lost + bulk.wrong === 0
        ? style.green('every byte came back as sent')
        : style.red(`${bulk.lost} lost, ${bulk.wrong} wrong`);
    lines.push(`${formatBytes(bulk.bytes)} there and back in ${seconds}, ${rate} each way: ${content}`);
  }
  if (plan.rekey) lines.push(`${result.sessions} sessions, ${Math.max(0, result.sessions - 1)} by rekey`);
  if (result.hedged === true) lines.push(`post-quantum: the session is ${style.green('hedged')}`);
  if (result.hedged === false) lines.push(`post-quantum: the session is ${style.yellow('not hedged')}: ${NOT_HEDGED}`);
  return lines.join('\n');
}

/** The result for programs: times in milliseconds, sizes in bytes. */
export function summaryObject(result: PingResult, plan: PingPlan): Readonly<Record<string, unknown>> {
  const { endpoint, roundTripsMs, handshakeMs, bulk, diagnosis, ...rest } = result;
  return {
    ok: diagnosis === undefined,
    ...rest,
    endpoint: formatEndpoint(endpoint),
    size: plan.size,
    ...(handshakeMs === undefined ? {} : { handshakeMs: microseconds(handshakeMs) }),
    received: roundTripsMs.length,
    roundTripsMs: roundTripsMs.map(microseconds),
    ...(bulk === undefined ? {} : { bulk: { ...bulk, elapsedMs: microseconds(bulk.elapsedMs) } }),
    ...(diagnosis === undefined
      ? {}
      : { failure: diagnosis.failure, message: diagnosis.summary, hints: diagnosis.hints }),
  };
}

/** Milliseconds to three places: what lies beyond is noise. */
function microseconds(milliseconds: number): number {
  return Math.round(milliseconds * 1_000) / 1_000;
}

function spread(roundTrips: readonly number[]): string {
  if (roundTrips.length === 0) return '';
  const mean = roundTrips.reduce((sum, value) => sum + value, 0) / roundTrips.length;
  const [least, most] = [Math.min(...roundTrips), Math.max(...roundTrips)];
  return `; round trip ${[least, mean, most].map(formatMilliseconds).join(' / ')} (least / mean / most)`;
}
