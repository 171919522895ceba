/** A peer that shuts its window and goes on answering is there (RFC 9293 §3.8.6, RFC 1122 §4.2.2.17). */
import { describe, expect, it } from 'vitest';
import type { StackOptions } from '../src/index.ts';
import { Probe, establish } from './support/probe.ts';

const HOUR = 3_600_000;

/** Lets `ms` pass; each segment is answered by `answer` until then or until nothing comes. Returns how many were sent. */
function answered(probe: Probe, ms: number, answer: () => void): number {
  const end = probe.now + ms;
  let count = 0;
  while (probe.now < end && probe.stack.status().connections > 0) {
    for (const _ of probe.wait(Math.min(1000, end - probe.now))) {
      count++;
      answer();
    }
  }
  return count;
}

/** A connection whose peer shuts its window over 4,000 bytes in flight. */
function shutOverData(options: Partial<StackOptions> = {}): ReturnType<typeof establish> & { readonly probe: Probe } {
  const probe = new Probe(options);
  const ends = establish(probe, { window: 4000 });
  ends.connection.setNoDelay(true);
  ends.connection.write(new Uint8Array(4000));
  probe.answers();
  probe.tcp({ seq: 1001, ack: ends.theirs, window: 0 });
  return { ...ends, probe };
}

describe('a window that shuts over data in flight', () => {
  it('ends nothing while the peer answers, and once it opens sending goes on at once', () => {
    const { probe, connection, theirs, closed } = shutOverData();
    const count = answered(probe, HOUR, () => probe.tcp({ seq: 1001, ack: theirs, window: 0 }));
    expect([connection.state, closed()]).toEqual(['established', undefined]);
    // A segment a minute, not more.
    expect(count).toBeGreaterThan(50);
    expect(count).toBeLessThan(80);
    let acked = 0;
    let said = probe.tcp({ seq: 1001, ack: theirs, window: 4000 });
    while (said.length > 0) {
      for (const { seq, data } of said) if (((seq - theirs) | 0) === acked) acked += data.length;
      said = probe.tcp({ seq: 1001, ack: (theirs + acked) | 0, window: 4000 });
    }
    expect([acked, connection.pendingLength]).toEqual([4000, 0]);
  });

  it('ends when the peer falls silent', () => {
    const { probe, theirs, closed } = shutOverData();
    answered(probe, 400_000, () => probe.tcp({ seq: 1001, ack: theirs, window: 0 }));
    expect(closed()).toBeUndefined();
    probe.wait(300_000);
    expect(closed()).toEqual({ error: 'ETIMEDOUT' });
  });

  it('ends when it stays shut for longer than the owner allows', () => {
    const { probe, theirs, closed } = shutOverData({ tcp: { zeroWindowTimeoutMs: 1_800_000 } });
    answered(probe, 1_700_000, () => probe.tcp({ seq: 1001, ack: theirs, window: 0 }));
    expect(closed()).toBeUndefined();
    answered(probe, 200_000, () => probe.tcp({ seq: 1001, ack: theirs, window: 0 }));
    expect(closed()).toEqual({ error: 'ETIMEDOUT' });
  });

  it('does not hold a connection whose owner has let go', () => {
    const { probe, connection, theirs } = shutOverData();
    connection.close();
    answered(probe, 130_000, () => probe.tcp({ seq: 1001, ack: theirs, window: 0 }));
    expect(probe.stack.status()).toMatchObject({ connections: 0, bufferBytes: 0, timers: 0 });
  });
});

describe('a FIN into a shut window', () => {
  it('waits for as long as the peer answers, and is sent at once when the window opens', () => {
    const probe = new Probe();
    const { connection, theirs, closed } = establish(probe, { window: 1000 });
    connection.setNoDelay(true);
    connection.write(new Uint8Array(1000));
    probe.answers();
    const ack = (theirs + 1000) | 0;
    const shut = (): void => void probe.tcp({ seq: 1001, ack, window: 0 });
    shut();
    connection.end();
    answered(probe, HOUR, shut);
    expect([connection.state, closed()]).toEqual(['fin-wait-1', undefined]);
    const opened = probe.tcp({ seq: 1001, ack, window: 1000 });
    expect(opened.map(({ flags, seq }) => [flags, (seq - ack) | 0])).toEqual([['fa', 0]]);
    probe.tcp({ seq: 1001, ack: (ack + 1) | 0, window: 1000 });
    expect(connection.state).toBe('fin-wait-2');
  });
});
