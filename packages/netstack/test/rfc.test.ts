/** What the RFCs ask of TCP, one behaviour a test, seen from the other side: with packets made by hand. */
import { describe, expect, it } from 'vitest';
import type { TcpConnection } from '../src/index.ts';
import { type Parsed, SACK_PERMITTED } from './support/packets.ts';
import { Probe, establish } from './support/probe.ts';
import { A4, B4, Drain, Sim, Source } from './support/sim.ts';

const word = (value: number): number[] => [24, 16, 8, 0].map((shift) => (value >>> shift) & 255);
const timestamps = (value: number, echo = 0): number[] => [1, 1, 8, 10, ...word(value), ...word(echo)];

/** The value of our timestamps, or the blocks of a SACK option. */
function optionWords(options: Uint8Array, kind: number): number[] | undefined {
  const view = new DataView(options.buffer, options.byteOffset, options.byteLength);
  for (let at = 0; at < options.length;) {
    if (options[at]! <= 1) {
      at++;
      continue;
    }
    const length = options[at + 1]!;
    if (options[at] === kind) return Array.from({ length: (length - 2) / 4 }, (_, i) => view.getInt32(at + 2 + 4 * i));
    at += length;
  }
  return undefined;
}

/** Writes `segments` full segments and returns them as they were sent first. */
function sendSegments(
  probe: Probe,
  connection: ReturnType<typeof establish>['connection'],
  segments: number,
): Parsed[] {
  connection.setNoDelay(true);
  connection.write(new Uint8Array(segments * 536).fill(7));
  const sent = probe.answers();
  expect(sent.map(({ data }) => data.length)).toEqual(Array.from({ length: segments }, () => 536));
  return sent;
}

describe('timestamps (RFC 7323)', () => {
  it('are sent when the other side offers them, and echo the newest that came in order', () => {
    const probe = new Probe();
    const { theirs } = establish(probe, { options: timestamps(500) });
    const [answer] = probe
      .tcp({ seq: 1001, ack: theirs, data: Uint8Array.of(1), options: timestamps(900), flags: 'ap' })
      .concat(probe.wait(100));
    expect(optionWords(answer!.options, 8)?.[1]).toBe(900);
  });

  it('that are older than the last mean a segment of another life (PAWS, §5.3): it is dropped and answered', () => {
    const probe = new Probe();
    const { connection, theirs } = establish(probe, { options: timestamps(500) });
    probe.tcp({ seq: 1001, ack: theirs, data: Uint8Array.of(1), options: timestamps(900) });
    const answers = probe.tcp({ seq: 1002, ack: theirs, data: Uint8Array.of(2), options: timestamps(899) });
    expect(answers.map(({ flags, ack }) => [flags, ack])).toEqual([['a', 1002]]);
    probe.tcp({ seq: 1002, ack: theirs, data: Uint8Array.of(3), options: timestamps(901) });
    expect(connection.read()).toEqual(Uint8Array.of(1, 3));
    expect(probe.stack.drops['tcp-old-timestamp']).toBe(1);
  });

  it('that were negotiated and are missing make a segment void (§3.2)', () => {
    const probe = new Probe();
    const { connection, theirs } = establish(probe, { options: timestamps(500) });
    probe.tcp({ seq: 1001, ack: theirs, data: Uint8Array.of(1) });
    expect(connection.readableLength).toBe(0);
  });

  it('mean nothing any more after 24 days of silence (§5.5)', () => {
    const probe = new Probe();
    const { connection, theirs } = establish(probe, { options: timestamps(500) });
    probe.wait(25 * 86_400_000);
    probe.tcp({ seq: 1001, ack: theirs, data: Uint8Array.of(1), options: timestamps(400) });
    expect(connection.read()).toEqual(Uint8Array.of(1));
  });

  it('show no clock that connections share (§5.4)', () => {
    const probe = new Probe();
    probe.stack.listen({ port: 80 }, (incoming) => void incoming.accept({}));
    const values = [1, 2, 3].map((fromPort) => {
      const [answer] = probe.tcp({ fromPort, flags: 's', options: timestamps(1) });
      return optionWords(answer!.options, 8)![0]!;
    });
    for (const value of values.slice(1)) expect(Math.abs((value - values[0]!) | 0)).toBeGreaterThan(10_000);
  });
});

describe('initial sequence numbers (RFC 6528)', () => {
  it('of one four-tuple grow by 250,000 a second, so that an old connection does not come alive', () => {
    const probe = new Probe();
    probe.stack.listen({ port: 80 }, (incoming) => incoming.reject('drop'));
    const numbers: number[] = [];
    for (let i = 0; i < 3; i++) {
      const listener = probe.stack.listen({ port: 81 }, (incoming) => void incoming.accept({}));
      const [answer] = probe.tcp({ toPort: 81, flags: 's', seq: i * 1000 });
      numbers.push(answer!.seq);
      probe.tcp({ toPort: 81, flags: 'r', seq: i * 1000 + 1 });
      listener.close();
      probe.wait(1000);
    }
    expect([(numbers[1]! - numbers[0]!) | 0, (numbers[2]! - numbers[1]!) | 0]).toEqual([250_000, 250_000]);
  });
});

describe('selective acknowledgments', () => {
  it('name what came early, the newest block first (RFC 2018 §4), and a duplicate before all (RFC 2883)', () => {
    const probe = new Probe();
    const { theirs } = establish(probe, { options: SACK_PERMITTED });
    const piece = (seq: number): number[] | undefined => {
      const answers = probe.tcp({ seq, ack: theirs, data: new Uint8Array(100) });
      expect(answers.map(({ ack }) => ack)).toEqual([1001]);
      return optionWords(answers[0]!.options, 5);
    };
    expect(piece(1201)).toEqual([1201, 1301]);
    expect(piece(1401)).toEqual([1401, 1501, 1201, 1301]);
    expect(piece(1301)).toEqual([1201, 1501]);
    probe.tcp({ seq: 1001, ack: theirs, data: new Uint8Array(100) });
    const [repeated] = probe.tcp({ seq: 1001, ack: theirs, data: new Uint8Array(100) });
    expect([repeated!.ack, optionWords(repeated!.options, 5)]).toEqual([1101, [1001, 1101, 1201, 1501]]);
  });

  it('have only what was lost sent again (RFC 6675 §5), without waiting for a timeout', () => {
    const probe = new Probe();
    const { connection, theirs } = establish(probe, { options: SACK_PERMITTED, roundTrip: 20 });
    const sent = sendSegments(probe, connection, 8);
    probe.now += 20;
    // The second and the fifth are missing.
    const again: Parsed[] = [];
    const ack = (theirs + 536) | 0;
    const at = (n: number): number[] => word((theirs + n * 536) | 0);
    for (const blocks of [
      [...at(2), ...at(3)],
      [...at(2), ...at(4)],
      [...at(5), ...at(6), ...at(2), ...at(4)],
      [...at(5), ...at(8), ...at(2), ...at(4)],
    ]) {
      probe.now += 1;
      again.push(...probe.tcp({ seq: 1001, ack, options: [1, 1, 5, 2 + blocks.length, ...blocks] }));
    }
    again.push(...probe.wait(30));
    expect(again.map(({ seq }) => (seq - theirs) | 0).toSorted((x, y) => x - y)).toEqual([536, 4 * 536]);
    expect(again.map(({ data }) => data.length)).toEqual([536, 536]);
    expect(sent).toHaveLength(8);
  });
});

describe('lost packets', () => {
  it('at the end are probed for after two round trips, before the timeout (RFC 8985 §7.2)', () => {
    const probe = new Probe();
    const { connection, theirs } = establish(probe, { options: SACK_PERMITTED, roundTrip: 20 });
    const start = probe.now;
    sendSegments(probe, connection, 3);
    const [first] = firstAnswer(probe, 1000);
    expect((first!.seq - theirs) | 0).toBe(2 * 536);
    expect(probe.now - start).toBeLessThan(200);
    expect(probe.now - start).toBeGreaterThanOrEqual(40);
  });

  it('are sent again after ever longer timeouts, doubled each time (RFC 6298 §5.5)', () => {
    const probe = new Probe();
    const { connection } = establish(probe);
    sendSegments(probe, connection, 1);
    const times = [probe.now];
    for (let i = 0; i < 6; i++) {
      const answers = firstAnswer(probe, 100_000);
      expect(answers[0]!.data).toHaveLength(536);
      times.push(probe.now);
    }
    // The first may be a probe for the tail, with a time of its own.
    const gaps = times.slice(1).map((time, i) => time - times[i]!);
    for (let i = 2; i < gaps.length; i++) expect(gaps[i]! / gaps[i - 1]!).toBeCloseTo(2, 1);
  });

  it('of a handshake make the first data wait for 3 s (RFC 6298 §5.7), where no timestamp tells the round trip', () => {
    const probe = new Probe();
    let connection: TcpConnection | undefined;
    probe.stack.listen({ port: 80 }, (incoming) => (connection = incoming.accept({})));
    const [synAck] = probe.tcp({ seq: 1000, flags: 's' });
    expect(probe.wait(1500).map(({ flags }) => flags)).toEqual(['sa']);
    probe.tcp({ seq: 1001, ack: (synAck!.seq + 1) | 0 });
    connection!.write(new Uint8Array(100));
    const start = probe.now;
    expect(probe.answers().map(({ data }) => data.length)).toEqual([100]);
    expect(firstAnswer(probe, 10_000).map(({ data }) => data.length)).toEqual([100]);
    expect(probe.now - start).toBe(3000);
  });

  it('take three tenths of the window and no more (RFC 9438 §4.6)', () => {
    const sim = new Sim(4, { delay: 10 });
    const drain = new Drain(4);
    sim.b.stack.listen({ port: 80 }, (incoming) => void incoming.accept(drain));
    const connection = sim.a.stack.connect({ address: B4, port: 80 }, new Source(4, 60_000_000));
    sim.run(60_000, () => connection.congestionWindow > 200_000);
    let left = 1;
    let high = 0;
    let low = Infinity;
    let repairedAt = Infinity;
    sim.a.faults.drop = (packet) => packet.length > 1000 && left-- > 0;
    sim.run(200, () => {
      if (sim.a.stack.status().retransmissions === 0) high = connection.congestionWindow;
      else repairedAt = Math.min(repairedAt, sim.now);
      // Once the recovery is over, a round trip later.
      if (sim.now > repairedAt + 30) low = Math.min(low, connection.congestionWindow);
      return false;
    });
    expect(low / high).toBeGreaterThan(0.65);
    expect(low / high).toBeLessThan(0.75);
    expect(sim.a.stack.status().retransmissions).toBe(1);
  });
});

describe('acknowledgments (RFC 9293 §3.8.6.3, RFC 1122 §4.2.3.2)', () => {
  it('wait a little for a lone segment, never for every second full one', () => {
    const probe = new Probe();
    const { connection, theirs } = establish(probe);
    // Past the acknowledgments that a beginning gets at once.
    let seq = 1001;
    const full = (): Parsed[] => {
      const answers = probe.tcp({ seq, ack: theirs, data: new Uint8Array(536) });
      seq += 536;
      while (connection.read() !== undefined);
      return answers;
    };
    for (let i = 0; i < 40; i++) full();
    probe.wait(100);
    expect(full()).toEqual([]);
    expect(full().map(({ ack }) => ack)).toEqual([seq]);
    expect(full()).toEqual([]);
    expect(probe.wait(100).map(({ ack }) => ack)).toEqual([seq]);
  });
});

describe('a shut window (RFC 9293 §3.8.6.1)', () => {
  it('is probed again and again, each time later, up to a minute', () => {
    const probe = new Probe();
    const { connection, theirs } = establish(probe, { window: 0 });
    connection.write(new Uint8Array(100));
    probe.answers();
    const times: number[] = [];
    for (let i = 0; i < 12; i++) {
      const [asked] = firstAnswer(probe, 100_000);
      times.push(probe.now);
      probe.tcp({ seq: 1001, ack: theirs, window: 0 });
      expect((asked!.seq - theirs) | 0).toBeLessThanOrEqual(0);
    }
    const gaps = times.slice(1).map((time, i) => time - times[i]!);
    expect(gaps.every((gap, i) => i === 0 || gap >= gaps[i - 1]!)).toBe(true);
    expect(gaps.at(-1)).toBe(60_000);
    const opened = probe.tcp({ seq: 1001, ack: theirs, window: 1000 });
    expect(opened.map(({ data }) => data.length)).toEqual([100]);
  });
});

describe('TIME_WAIT', () => {
  /** A connection that the stack has ended first, both ways. */
  function ended(options: readonly number[] = []): Probe {
    const probe = new Probe();
    const { connection, theirs } = establish(probe, { options });
    const rest = options.length > 0 ? { options: timestamps(600) } : {};
    connection.end();
    expect(probe.answers().map(({ flags }) => flags)).toEqual(['fa']);
    probe.tcp({ seq: 1001, ack: theirs + 1, flags: 'fa', ...rest });
    expect(probe.stack.status()).toMatchObject({ connections: 0, timeWaits: 1 });
    probe.stack.listen({ port: 80 }, (incoming) => void incoming.accept({}));
    return probe;
  }

  it('acknowledges a FIN that comes again, and is not ended by a reset (RFC 1337)', () => {
    const probe = ended();
    expect(probe.tcp({ seq: 1001, flags: 'fa' }).map(({ flags, ack }) => [flags, ack])).toEqual([['a', 1002]]);
    probe.tcp({ seq: 1002, flags: 'r' });
    expect(probe.stack.status().timeWaits).toBe(1);
    probe.wait(61_000);
    expect(probe.stack.status().timeWaits).toBe(0);
  });

  it('gives way to a SYN with a later number (RFC 9293 §3.6.1) and to no other', () => {
    const probe = ended();
    expect(probe.tcp({ seq: 900, flags: 's' }).map(({ flags }) => flags)).toEqual(['a']);
    expect(probe.stack.status().connections).toBe(0);
    expect(probe.tcp({ seq: 5000, flags: 's' }).map(({ flags }) => flags)).toEqual(['sa']);
    expect(probe.stack.status()).toMatchObject({ connections: 1, timeWaits: 0 });
  });

  it('gives way to a connection of ours or of theirs that begins beyond where the last one ended, however fast that was', () => {
    for (const isOurs of [false, true]) {
      const probe = new Probe();
      const { connection, theirs } = establish(probe, { options: timestamps(500) });
      connection.setNoDelay(true);
      // 300,000 bytes within a millisecond: the clock for initial numbers makes 250 of it.
      let end = theirs;
      const acknowledge = (said: readonly Parsed[], flags: string): Parsed[] => {
        for (const { seq, data, flags: their } of said) {
          const next = (seq + data.length + (their.includes('f') ? 1 : 0)) | 0;
          if (((next - end) | 0) > 0) end = next;
        }
        return probe.tcp({ seq: 1001, ack: end, flags, options: timestamps(600) });
      };
      for (let round = 0; round < 10 && connection.bytesWritten < 300_001; round++) {
        connection.write(new Uint8Array(60_000));
        for (let said = probe.answers(); said.length > 0;) said = acknowledge(said, 'a');
      }
      connection.end();
      acknowledge(probe.answers(), 'fa');
      expect(probe.stack.status().timeWaits).toBe(1);
      expect((end - theirs) | 0).toBeGreaterThan(300_000);
      probe.wait(1000);
      let opened: Parsed | undefined;
      if (isOurs) {
        probe.stack.connect({ address: A4, port: 4000 }, {}, { local: B4, localPort: 80 });
        [opened] = probe.answers();
      } else {
        probe.stack.listen({ port: 80 }, (incoming) => void incoming.accept({}));
        [opened] = probe.tcp({ seq: 5000, flags: 's', options: timestamps(700) });
      }
      expect([isOurs, opened!.flags]).toEqual([isOurs, isOurs ? 's' : 'sa']);
      expect((opened!.seq - end) | 0).toBeGreaterThan(0);
    }
  });

  it('gives way to a SYN with a later timestamp, whatever its number (RFC 6191 §2)', () => {
    const probe = ended(timestamps(500));
    expect(probe.tcp({ seq: 900, flags: 's', options: timestamps(599) }).map(({ flags }) => flags)).toEqual(['a']);
    expect(probe.tcp({ seq: 900, flags: 's', options: timestamps(601) }).map(({ flags }) => flags)).toEqual(['sa']);
  });
});

/** The first thing said within `limit` milliseconds; the probe's clock stands where it was said. */
function firstAnswer(probe: Probe, limit: number): Parsed[] {
  const end = probe.now + limit;
  while (probe.now < end) {
    probe.now = Math.min(end, Math.max(probe.now, probe.stack.nextDeadline()));
    const answers = probe.answers();
    if (answers.length > 0) return answers;
  }
  return [];
}
