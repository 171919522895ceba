import { createLog, type Log, type LogLevel } from '@sealane/tunnel';
import type { DropReason } from '@sealane/protocol';
import { describe, expect, it } from 'vitest';
import { logEvent } from '../src/running/events.ts';

const PEER = new Uint8Array(32).fill(5);
const ENDPOINT = { address: Uint8Array.of(127, 0, 0, 9), port: 4_000, scopeId: 0 };

function recorder(
  json: boolean,
  level: LogLevel = 'info',
): { readonly lines: string[]; readonly clock: { now: number }; readonly log: Log } {
  const lines: string[] = [];
  const clock = { now: Date.UTC(2026, 0, 31) };
  return {
    lines,
    clock,
    log: createLog({ format: json ? 'json' : 'text', level, write: (line) => lines.push(line), now: () => clock.now }),
  };
}

function refuse(log: Log, reason: DropReason, count: number): void {
  for (let i = 0; i < count; i++) {
    logEvent(log, { type: 'handshake-refused', publicKey: PEER, endpoint: ENDPOINT, reason }, () => 'stranger');
  }
}

describe('the log', () => {
  it('names time, peer and cause', () => {
    const { lines, log } = recorder(false);
    logEvent(log, { type: 'session', publicKey: PEER, role: 'responder', number: 1 }, () => 'alice');
    logEvent(log, { type: 'roamed', publicKey: PEER, endpoint: ENDPOINT }, () => 'alice');
    refuse(log, 'unknown-peer', 1);
    expect(lines).toEqual([
      '2026-01-31T00:00:00.000Z session 1 with alice (responder)',
      '2026-01-31T00:00:00.000Z alice is at 127.0.0.9:4000',
      '2026-01-31T00:00:00.000Z refused a handshake of stranger from 127.0.0.9:4000: its key is none of the peers',
    ]);
  });

  it('says what to do about a handshake with another cipher', () => {
    const { lines, log } = recorder(false);
    refuse(log, 'cipher-mismatch', 1);
    expect(lines.join()).toContain("it uses another cipher than its peer entry: both ends need the same 'Cipher'");
  });

  it('writes JSON with the same facts', () => {
    const { lines, log } = recorder(true);
    const event = {
      type: 'handshake-refused',
      publicKey: PEER,
      endpoint: ENDPOINT,
      reason: 'handshake-failed',
    } as const;
    logEvent(log, event, () => 'alice');
    expect(lines.map((line) => JSON.parse(line) as unknown)).toEqual([
      {
        time: '2026-01-31T00:00:00.000Z',
        level: 'warn',
        event: 'handshake-refused',
        message: 'refused a handshake of alice from 127.0.0.9:4000: wrong key or wrong preshared key',
        reason: 'handshake-failed',
        peer: 'alice',
        endpoint: '127.0.0.9:4000',
      },
    ]);
  });

  it('leaves out what matters less than asked for', () => {
    const { lines, log } = recorder(true, 'warn');
    logEvent(log, { type: 'session', publicKey: PEER, role: 'responder', number: 1 }, () => 'alice');
    refuse(log, 'unknown-peer', 1);
    log.entry('stopped', 'stopped');
    log.entry('reload-failed', 'not reloaded');
    expect(lines.map((line) => (JSON.parse(line) as { level: string }).level)).toEqual(['warn', 'error']);
  });

  it('is not filled by a flood, and says afterwards how much was left out', () => {
    const { lines, clock, log } = recorder(true);
    for (let second = 0; second < 600; second++) {
      clock.now += 1_000;
      refuse(log, 'unknown-peer', 1_000);
    }
    const left = lines.reduce((sum, line) => sum + ((JSON.parse(line) as { leftOut?: number }).leftOut ?? 0), 0);
    expect(lines.length).toBeLessThanOrEqual(10 + 100);
    log.close();
    const last = JSON.parse(lines.at(-1)!) as { event: string; leftOut: number };
    expect(last.event).toBe('left-out');
    expect(left + last.leftOut + lines.length - 1).toBe(600_000);
  });

  it('has room for one cause while another one floods', () => {
    const { lines, log } = recorder(false);
    refuse(log, 'unknown-peer', 10_000);
    refuse(log, 'stale-timestamp', 1);
    expect(lines.at(-1)).toContain("the peer's clock was set back");
  });

  it('takes a clock that goes back', () => {
    const { lines, clock, log } = recorder(false);
    refuse(log, 'unknown-peer', 20);
    clock.now -= 3_600_000;
    refuse(log, 'unknown-peer', 20);
    expect(lines).toHaveLength(10);
  });
});
