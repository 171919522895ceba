/** How large segments are: never more than the other side, the path and its window take, options included. */
import { describe, expect, it } from 'vitest';
import { icmp, type Parsed, SACK_PERMITTED, tcp } from './support/packets.ts';
import { Probe, establish } from './support/probe.ts';
import { A4, B4 } from './support/sim.ts';

const mssOption = (mss: number): number[] => [2, 4, mss >> 8, mss & 255];
const TIMESTAMPS = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0];

/** Takes segments as a receiver does, and returns how far the stream is whole from `from` on. */
function reach(segments: readonly Parsed[], from: number): number {
  let end = from;
  for (let before = -1; before !== end;) {
    before = end;
    for (const { seq, data } of segments) {
      const start = (seq - from) | 0;
      if (start <= end - from && start + data.length > end - from) end = from + start + data.length;
    }
  }
  return end - from;
}

describe('the MSS of the other side (RFC 9293 §3.7.1, RFC 6691)', () => {
  for (const mss of [1, 63, 64, 100, 535, 536, 1000, 1380, 65_535]) {
    it(`of ${mss} bounds data and options together`, () => {
      const probe = new Probe();
      const options = [...mssOption(mss), ...SACK_PERMITTED, ...TIMESTAMPS];
      const { connection, theirs } = establish(probe, { options });
      const most = Math.min(Math.max(mss, 64), 1380);
      // What they sent has gaps, so that there is something to report beside the data.
      for (const at of [10, 20, 30, 40]) {
        probe.tcp({ seq: 1001 + at, ack: theirs, options: TIMESTAMPS, data: new Uint8Array(1) });
      }
      connection.setNoDelay(true);
      connection.write(new Uint8Array(5000));
      connection.end();
      const sent: Parsed[] = [];
      for (let rounds = 0; rounds < 200 && reach(sent, theirs) < 5000; rounds++) {
        sent.push(...probe.tcp({ seq: 1001, ack: (theirs + reach(sent, theirs)) | 0, options: TIMESTAMPS }));
        sent.push(...probe.wait(1));
      }
      expect(reach(sent, theirs)).toBe(5000);
      for (const { options: own, data } of sent.filter((segment) => segment.data.length > 0)) {
        expect(own.length + data.length).toBeLessThanOrEqual(most);
      }
    });
  }

  it.each([
    ['absent', []],
    ['behind the end of the list', [0, 0, 0, 0, ...mssOption(1000)]],
    ['of a wrong length', [2, 3, 200, 1]],
    ['cut off', [1, 1, 2, 4]],
    ['behind an option of length 0', [254, 0, 1, 1, ...mssOption(1000)]],
    ['behind an option of length 1', [254, 1, 1, 1, ...mssOption(1000)]],
    ['behind an option that is longer than the header', [254, 9, 1, 1, ...mssOption(1000)]],
    ['zero', mssOption(0)],
  ])('is 536 when it is %s', (_name, options) => {
    const probe = new Probe();
    const { connection } = establish(probe, { options });
    connection.write(new Uint8Array(2000));
    expect(probe.answers().map(({ data }) => data.length)).toEqual([536, 536, 536]);
  });

  it('counts behind options of odd lengths that nobody knows', () => {
    const probe = new Probe();
    const { connection } = establish(probe, { options: [253, 3, 7, 254, 5, 7, 7, 7, ...mssOption(1000)] });
    connection.write(new Uint8Array(2000));
    expect(probe.answers().map(({ data }) => data.length)).toEqual([1000, 1000]);
  });
});

describe('a path that becomes narrower under data in flight (RFC 1191 §6.4)', () => {
  it('gets what is in flight again in smaller segments, the FIN too, and the window stays as it is', () => {
    const probe = new Probe();
    const { connection, theirs } = establish(probe, { options: [...mssOption(1380), ...SACK_PERMITTED] });
    connection.write(new Uint8Array(5 * 1380));
    connection.end();
    const before = probe.answers();
    expect(before.map(({ data }) => data.length)).toEqual(Array.from({ length: 5 }, () => 1380));
    expect(before.at(-1)!.flags).toContain('f');
    const window = connection.congestionWindow;
    const quote = tcp({
      from: B4,
      fromPort: 80,
      to: A4,
      toPort: 4000,
      seq: theirs,
      flags: 'a',
      data: new Uint8Array(1380),
    });
    const after = probe.say(icmp(A4, B4, 3, 4, 1000, quote.subarray(0, 28)));
    expect(reach(after, theirs)).toBe(5 * 1380);
    expect(Math.max(...after.map(({ data }) => data.length))).toBe(960);
    expect(after.at(-1)!.flags).toContain('f');
    probe.tcp({ seq: 1001, ack: theirs + 5 * 1380 + 1 });
    expect(connection.congestionWindow).toBeGreaterThanOrEqual(window);
    expect(connection.state).toBe('fin-wait-2');
  });
});

describe('a window that is taken back (RFC 9293 §3.8.6)', () => {
  it('stops new data, has what still fits sent again, and ends nothing while it lets something through', () => {
    const probe = new Probe();
    const { connection, theirs, closed } = establish(probe, { window: 5360 });
    connection.write(new Uint8Array(20 * 536));
    expect(probe.answers()).toHaveLength(10);
    // Two have come; the other eight were dropped, and only a thousand bytes fit from here on.
    let acked = 2 * 536;
    for (let rounds = 0; rounds < 40 && acked < 20 * 536; rounds++) {
      const sent = [...probe.tcp({ seq: 1001, ack: theirs + acked, window: 1000 }), ...probe.wait(5000)];
      const news = sent.filter(
        ({ seq, data }) => ((seq - theirs) | 0) <= acked && ((seq - theirs) | 0) + data.length > acked,
      );
      expect(news.length).toBeGreaterThan(0);
      for (const { seq, data } of sent) {
        // Nothing new beyond the edge; old data may come again.
        expect(((seq - theirs) | 0) + data.length).toBeLessThanOrEqual(Math.max(10 * 536, acked + 1000));
      }
      acked = Math.min(acked + 1000, Math.max(...news.map(({ seq, data }) => ((seq - theirs) | 0) + data.length)));
    }
    expect(acked).toBe(20 * 536);
    expect(closed()).toBeUndefined();
  });
});
