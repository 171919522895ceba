import { describe, expect, it } from 'vitest';
import { ErrorRates } from '../src/error-rates.ts';
import { IpAddress, type UdpFlow } from '../src/index.ts';
import { icmp, ip, tcp, udpPayload } from './support/packets.ts';
import { Probe, establish } from './support/probe.ts';
import { Dice } from './support/random.ts';
import { A4, A6, B4, B6, Drain, Sim, Source, address } from './support/sim.ts';

describe('floods', () => {
  it('of SYNs are bounded by backlog and by source, and forgotten', () => {
    const probe = new Probe({ limits: { maxHalfOpen: 100, maxHalfOpenPerSource: 30 } });
    probe.stack.listen({ port: 80 }, (incoming) => incoming.accept({}));
    for (let i = 0; i < 1000; i++) probe.tcp({ fromPort: 1000 + i, flags: 's', seq: i });
    expect(probe.stack.status().halfOpen).toBe(30);
    for (let i = 0; i < 1000; i++) {
      probe.tcp({ from: new IpAddress(0, 0, 0xffff, 0x7f010000 + i), flags: 's', seq: i });
    }
    expect(probe.stack.status().halfOpen).toBe(100);
    expect(probe.stack.drops['limit-source'] + probe.stack.drops['limit-half-open']).toBe(1900);
    probe.wait(80_000);
    const { connections, halfOpen, sources, timers } = probe.stack.status();
    expect({ connections, halfOpen, sources, timers }).toEqual({ connections: 0, halfOpen: 0, sources: 0, timers: 0 });
  });

  it('of fragments are bounded and forgotten', () => {
    const probe = new Probe();
    const piece = new Uint8Array(1024);
    for (let i = 0; i < 20_000; i++) {
      const from = new IpAddress(0, 0, 0xffff, 0x7f010000 + (i % 500));
      probe.say(ip(from, B4, 17, piece, { id: i, offset: 8, more: true }));
    }
    expect(probe.stack.status().reassemblies).toBeLessThanOrEqual(256);
    expect(probe.stack.drops['fragment-limit']).toBeGreaterThan(19_000);
    probe.wait(31_000);
    expect(probe.stack.status().reassemblies).toBe(0);
  });

  it.each([
    ['large', 48, 1_360],
    ['small', 1, 8],
  ])('of %s fragments from many sources leave room for the datagram of another', (_, pieces, length) => {
    const probe = new Probe();
    const got: number[] = [];
    probe.stack.bindUdp({ port: 9, onMessage: (data) => got.push(data.length) });
    const piece = new Uint8Array(length);
    for (let source = 0; source < 12; source++) {
      const from = new IpAddress(0, 0, 0xffff, 0x7f010000 + source);
      for (let id = 0; id < 64; id++)
        for (let i = 0; i < pieces; i++) probe.say(ip(from, B4, 17, piece, { id, offset: 8 + i * length, more: true }));
    }
    expect(probe.stack.drops['fragment-limit']).toBeGreaterThan(0);
    const data = new Uint8Array(65_000);
    const payload = udpPayload(A4, 5, B4, 9, data);
    for (let at = 0; at < payload.length; at += 1_360)
      probe.say(ip(A4, B4, 17, payload.slice(at, at + 1_360), { offset: at, more: at + 1_360 < payload.length }));
    expect(got).toEqual([65_000]);
    probe.wait(31_000);
    expect(probe.stack.status().reassemblies).toBe(0);
  });

  it('of early segments with gaps have at most 512 of them kept, and the stream is whole in the end', () => {
    const probe = new Probe();
    const { connection, theirs } = establish(probe);
    const say = (at: number): void => void probe.tcp({ seq: 1001 + at, ack: theirs, data: Uint8Array.of(at & 255) });
    for (let at = 1; at < 1400; at += 2) say(at);
    expect(probe.stack.drops).toMatchObject({ 'limit-gaps': 188, 'limit-memory': 0 });
    for (let at = 0; at < 1400; at++) say(at);
    expect(connection.read()).toEqual(Uint8Array.from({ length: 1400 }, (_, at) => at & 255));
  });

  it('of early segments with gaps keep to the window', () => {
    const probe = new Probe();
    const { connection, theirs } = establish(probe);
    for (let i = 0; i < 5000; i++) probe.tcp({ seq: 1001 + 2 + i * 3, ack: theirs, data: Uint8Array.of(1) });
    expect(connection.readableLength).toBe(0);
    expect(probe.stack.status().bufferBytes).toBeLessThanOrEqual(512 << 10);
  });
});

describe('datagrams that provoke errors', () => {
  const provoke = (probe: Probe, host: number, times: number): number => {
    const from = address(`127.1.${host >> 8}.${host & 255}`);
    const datagram = ip(from, B4, 17, udpPayload(from, 4000, B4, 9, new Uint8Array(1)));
    return probe.say(...Array.from({ length: times }, () => datagram)).filter(({ protocol }) => protocol === 1).length;
  };

  it('do not cost other hosts theirs', () => {
    const probe = new Probe();
    expect(provoke(probe, 1, 10_000)).toBe(100);
    expect(provoke(probe, 2, 10)).toBe(10);
    expect(probe.stack.drops['icmp-rate-limited']).toBe(9900);
    probe.now += 500;
    expect(provoke(probe, 1, 10_000)).toBe(50);
  });

  it('are answered at a bounded rate, however many hosts send them, and those are not remembered for ever', () => {
    const probe = new Probe();
    let answers = 0;
    for (let host = 1; host <= 3000; host++) answers += provoke(probe, host, 10);
    expect(answers).toBe(1000);
    const rates = new ErrorRates();
    for (let host = 0; host < 3000; host++) rates.take(host, 0);
    expect(rates.size).toBe(1024);
  });
});

describe('vanished peers', () => {
  it('time out while data is under way', () => {
    const sim = new Sim(1, { delay: 10, rate: 1000 });
    const source = new Source(1, 10_000_000);
    sim.b.stack.listen({ port: 80 }, (incoming) => incoming.accept({}));
    sim.a.stack.connect({ address: B4, port: 80 }, source);
    sim.run(200);
    sim.a.faults.blackHole = true;
    sim.b.faults.blackHole = true;
    sim.run(400_000, () => source.closed);
    expect(source.error).toBe('ETIMEDOUT');
    expect(sim.a.stack.status()).toMatchObject({ connections: 0, bufferBytes: 0, timers: 0 });
  });

  it('are found by keepalive when idle, and live ones are not hurt', () => {
    const sim = new Sim(1, { delay: 10 });
    const source = new Source(1, 10, 'stay');
    sim.b.stack.listen({ port: 80 }, (incoming) => incoming.accept(new Drain(1)));
    const connection = sim.a.stack.connect({ address: B4, port: 80 }, source);
    connection.setKeepAlive(10_000, 1000, 3);
    sim.run(300_000);
    expect(connection.state).toBe('established');
    sim.b.faults.blackHole = true;
    sim.run(20_000);
    expect(source.error).toBe('ETIMEDOUT');
  });

  it('leave no orphan behind: window shut for ever', () => {
    const probe = new Probe();
    const { connection, theirs } = establish(probe, { window: 0 });
    connection.write(new Uint8Array(1000));
    connection.close();
    // It answers every probe, and never opens its window.
    for (let i = 0; i < 200 && probe.stack.status().connections > 0; i++) {
      for (const answer of probe.wait(1000)) if (answer.flags === 'a') probe.tcp({ seq: 1001, ack: theirs, window: 0 });
    }
    expect(probe.stack.status()).toMatchObject({ connections: 0, bufferBytes: 0, timers: 0 });
    expect(probe.now).toBeLessThan(130_000);
  });

  it('leave no orphan behind: never ends its direction', () => {
    const probe = new Probe();
    const { connection, theirs } = establish(probe);
    connection.close();
    const [fin] = probe.answers();
    expect(fin!.flags).toBe('fa');
    probe.tcp({ seq: 1001, ack: theirs + 1 });
    expect(connection.state).toBe('fin-wait-2');
    probe.wait(61_000);
    expect(probe.stack.status()).toMatchObject({ connections: 0, timers: 0 });
  });
});

describe('blind attacks (RFC 5961)', () => {
  it('a reset counts only at the exact sequence number; within the window it is challenged', () => {
    const probe = new Probe();
    const { connection, theirs, closed } = establish(probe);
    expect(probe.tcp({ seq: 2000, flags: 'r' }).map(({ flags }) => flags)).toEqual(['a']);
    expect(probe.tcp({ seq: 900_000_000, flags: 'r' })).toEqual([]);
    expect(connection.state).toBe('established');
    expect(probe.tcp({ seq: 1001, ack: theirs, flags: 'ra' })).toEqual([]);
    expect(closed()).toEqual({ error: 'ECONNRESET' });
  });

  it('a SYN in a connection is challenged, wherever it lies', () => {
    const probe = new Probe();
    const { connection } = establish(probe);
    expect(probe.tcp({ seq: 5000, flags: 's' }).map(({ flags }) => flags)).toEqual(['a']);
    expect(probe.tcp({ seq: 1001, flags: 's' }).map(({ flags }) => flags)).toEqual(['a']);
    expect(connection.state).toBe('established');
  });

  it('data with an acknowledgment out of range is not taken', () => {
    const probe = new Probe();
    const { connection, theirs } = establish(probe);
    probe.tcp({ seq: 1001, ack: theirs + 100_000, data: Uint8Array.of(1, 2, 3) });
    probe.tcp({ seq: 1001, ack: theirs - 1_000_000, data: Uint8Array.of(1, 2, 3) });
    expect(connection.readableLength).toBe(0);
    probe.tcp({ seq: 1001, ack: theirs, data: Uint8Array.of(1, 2, 3) });
    expect(connection.read()).toEqual(Uint8Array.of(1, 2, 3));
  });

  it('what lies far beside the window says nothing: not that data has arrived, not that the peer lives, and gets few answers', () => {
    const probe = new Probe();
    const { connection, theirs, closed } = establish(probe);
    connection.setKeepAlive(10_000, 1000, 3);
    connection.write(new Uint8Array(100));
    probe.answers();
    let answers = 0;
    for (let i = 0; i < 50; i++) {
      const seq = 1001 + (i % 2 === 0 ? -50_000_000 : 50_000_000);
      answers += probe.tcp({ seq, ack: theirs + 100, data: new Uint8Array(10) }).length;
    }
    expect([connection.pendingLength, answers]).toEqual([100, 10]);
    probe.tcp({ seq: 1001, ack: theirs + 100 });
    expect(connection.pendingLength).toBe(0);
    for (let second = 0; second < 20 && closed() === undefined; second++) {
      probe.tcp({ seq: 1001 - 50_000_000, ack: theirs + 100 });
      probe.wait(1000);
    }
    expect(closed()).toEqual({ error: 'ETIMEDOUT' });
  });

  it('a reset with text counts although the window is shut (RFC 9293 §3.10.7.4)', () => {
    const probe = new Probe({ tcp: { receiveBuffer: 1000, maxReceiveBuffer: 1000 } });
    const { theirs, closed } = establish(probe);
    expect(probe.tcp({ seq: 1001, ack: theirs, data: new Uint8Array(1000) }).at(-1)!.window).toBe(0);
    probe.tcp({ seq: 2001, ack: theirs, flags: 'ra', data: Uint8Array.of(1) });
    expect(closed()).toEqual({ error: 'ECONNRESET' });
  });

  it('challenges are rationed', () => {
    const probe = new Probe();
    establish(probe);
    let answers = 0;
    for (let i = 0; i < 1000; i++) answers += probe.tcp({ seq: 3000, flags: 'r' }).length;
    expect(answers).toBe(10);
  });

  it('initial sequence numbers differ by four-tuple and move with time (RFC 6528)', () => {
    const probe = new Probe();
    probe.stack.listen({ port: 80 }, (incoming) => incoming.accept({}));
    const first = probe.tcp({ fromPort: 1, flags: 's' })[0]!.seq;
    const second = probe.tcp({ fromPort: 2, flags: 's' })[0]!.seq;
    expect(Math.abs((first - second) | 0)).toBeGreaterThan(10_000);
  });
});

describe('fragments', () => {
  for (const [from, to] of [
    [A4, B4],
    [A6, B6],
  ] as const) {
    it(`of a datagram come together in any order; overlaps drop it whole: ${String(from)}`, () => {
      const probe = new Probe();
      const got: Uint8Array[] = [];
      probe.stack.bindUdp({ port: 9, onMessage: (data) => got.push(data.slice()) });
      const dice = new Dice(3);
      const data = dice.bytes(4000);
      const payload = udpPayload(from, 5, to, 9, data);
      const piece = (id: number, start: number, end: number): Uint8Array =>
        ip(from, to, 17, payload.slice(start, end), { id, offset: start, more: end < payload.length });
      probe.say(piece(1, 2400, 4008), piece(1, 0, 1200), piece(1, 0, 1200), piece(1, 1200, 2400));
      expect(got).toEqual([data]);
      probe.say(piece(2, 0, 1200), piece(2, 800, 2400), piece(2, 1200, 2400), piece(2, 2400, 4008));
      expect(got).toHaveLength(1);
      expect(probe.stack.drops['fragment-overlap']).toBe(3);
    });
  }
});

describe('path MTU (RFC 1191, RFC 8201)', () => {
  const links = [
    { name: 'IPv4', to: B4, from: A4, mtu: 1000, type: 3, code: 4 },
    { name: 'IPv6', to: B6, from: A6, mtu: 1300, type: 2, code: 0 },
  ] as const;
  for (const { name, to, from, mtu, type, code } of links) {
    it(`is learnt from the router, and the transfer goes on: ${name}`, () => {
      const sim = new Sim(1, { delay: 5 });
      const drain = new Drain(1);
      const source = new Source(1, 200_000);
      sim.a.faults.drop = (packet) => {
        if (packet.length <= mtu) return false;
        const error = icmp(to, from, type, code, mtu, packet.slice(0, 100));
        sim.a.stack.receive(error, 0, error.length, sim.now);
        return true;
      };
      sim.b.stack.listen({ port: 80 }, (incoming) => incoming.accept(drain));
      sim.a.stack.connect({ address: to, port: 80 }, source);
      expect(sim.run(5000, () => drain.closed)).toBe(true);
      expect([drain.received, drain.wrongAt]).toEqual([200_000, -1]);
    });
  }

  for (const { name, to, from, mtu } of links) {
    it(`is told about datagrams of a flow that must not be cut up, and believed: ${name}`, () => {
      const seen: string[] = [];
      const onMessage = (data: Uint8Array, flow: UdpFlow): void => {
        seen.push(`${data.length} ${flow.dontFragment ? 'whole' : 'in pieces'}`);
        if (flow.dontFragment && data.length > mtu) flow.packetTooBig(data.length, mtu);
        else flow.send(data);
      };
      const sim = new Sim(
        1,
        { delay: 5 },
        {},
        { anyDestination: true, onUdp: (request) => request.accept({ onMessage }) },
      );
      const lengths: number[] = [];
      sim.a.tap = (packet) => lengths.push(packet.length);
      const echoed: number[] = [];
      const socket = sim.a.stack.bindUdp({ onMessage: (data) => echoed.push(data.length) });
      // One that fits comes first: what is told about a later one must not quote it.
      for (const size of [200, 1360, 1360]) {
        socket.send(new Uint8Array(size), { address: to, port: 53 });
        sim.run(100);
      }
      expect(seen).toEqual(['200 whole', '1360 whole', '1360 in pieces']);
      expect(echoed).toEqual([200, 1360]);
      expect(Math.max(...lengths.slice(2))).toBeLessThanOrEqual(mtu);
      expect(sim.a.stack.drops['icmp-ignored']).toBe(0);

      // The client's side says the same of what comes back.
      const answers: number[] = [];
      sim.b.tap = (packet) => answers.push(packet.length);
      sim.b.faults.drop = (packet) => {
        if (packet.length <= mtu) return false;
        const error = icmp(from, to, name === 'IPv4' ? 3 : 2, name === 'IPv4' ? 4 : 0, mtu, packet.slice(0, 100));
        sim.b.stack.receive(error, 0, error.length, sim.now);
        return true;
      };
      for (let i = 0; i < 2; i++) {
        socket.send(new Uint8Array(1360), { address: to, port: 53 });
        sim.run(100);
      }
      expect(echoed).toEqual([200, 1360, 1360]);
      expect(Math.max(...answers.slice(1))).toBeLessThanOrEqual(mtu);
    });
  }

  it('claims that quote nothing in flight are ignored', () => {
    const probe = new Probe();
    const { connection, theirs } = establish(probe);
    connection.write(new Uint8Array(3000));
    const sent = probe.answers();
    expect(sent[0]!.data.length).toBe(536);
    const quote = tcp({ from: B4, fromPort: 80, to: A4, toPort: 4000, seq: theirs - 5_000_000, flags: 'a' });
    probe.say(icmp(A4, B4, 3, 4, 600, quote));
    expect(probe.stack.drops['icmp-ignored']).toBe(1);
  });
});
