import { describe, expect, it } from 'vitest';
import type { IncomingConnection, TcpConnection } from '../src/index.ts';
import { parse } from './support/packets.ts';
import { Probe, establish } from './support/probe.ts';
import { A4, B4, B6, Drain, Sim, Source, address } from './support/sim.ts';

describe('closing', () => {
  it('close() right after write() delivers everything, then a FIN, no reset', () => {
    const sim = new Sim(1, { delay: 20, loss: 0.05 });
    const drain = new Drain(1);
    const flags = new Set<string>();
    sim.a.tap = (packet) => flags.add(parse(packet).flags);
    sim.b.stack.listen({ port: 80 }, (incoming) => incoming.accept(drain));
    sim.a.stack.connect({ address: B4, port: 80 }, new Source(1, 200_000, 'close'));
    expect(sim.run(60_000, () => drain.closed)).toBe(true);
    expect([drain.received, drain.wrongAt, drain.error]).toEqual([200_000, -1, undefined]);
    expect([...flags].some((letters) => letters.includes('r'))).toBe(false);
  });

  it('close() with unread data resets', () => {
    const sim = new Sim(1, { delay: 20 });
    let server: TcpConnection | undefined;
    sim.b.stack.listen({ port: 80 }, (incoming) => (server = incoming.accept({})));
    const source = new Source(1, 1000, 'stay');
    sim.a.stack.connect({ address: B4, port: 80 }, source);
    sim.run(200);
    expect(server!.readableLength).toBe(1000);
    server!.close();
    sim.run(200);
    expect(source.error).toBe('ECONNRESET');
    expect([sim.a.stack.status().connections, sim.b.stack.status().connections]).toEqual([0, 0]);
  });

  it('data that arrives after close() is answered with a reset', () => {
    const sim = new Sim(1, { delay: 20 });
    let server: TcpConnection | undefined;
    sim.b.stack.listen({ port: 80 }, (incoming) => (server = incoming.accept({})));
    const source = new Source(1, 0, 'stay');
    const client = sim.a.stack.connect({ address: B4, port: 80 }, source);
    sim.run(200);
    server!.close();
    sim.run(200);
    expect(client.hasEnded).toBe(true);
    client.write(new Uint8Array(10));
    sim.run(200);
    expect(source.error).toBe('ECONNRESET');
  });

  it('abort() resets at once', () => {
    const sim = new Sim(1, { delay: 20 });
    const drain = new Drain(1);
    sim.b.stack.listen({ port: 80 }, (incoming) => incoming.accept(drain));
    const client = sim.a.stack.connect({ address: B6, port: 80 }, new Source(1, 100, 'stay'));
    sim.run(200);
    client.abort();
    sim.run(200);
    expect(drain.error).toBe('ECONNRESET');
    expect([sim.a.stack.status().connections, sim.b.stack.status().connections]).toEqual([0, 0]);
  });

  it('end() closes one direction only', () => {
    const sim = new Sim(1, { delay: 20 });
    let server: TcpConnection | undefined;
    const reply = new Source(2, 100_000);
    sim.b.stack.listen({ port: 80 }, (incoming) => {
      server = incoming.accept({
        onReadable(c) {
          while (c.read() !== undefined);
          if (c.hasEnded) reply.pump(c);
        },
        onWritable: (c) => reply.pump(c),
      });
    });
    const drain = new Drain(2);
    const client = sim.a.stack.connect({ address: B4, port: 80 }, drain);
    client.end();
    sim.run(500_000, () => drain.closed);
    sim.run(100);
    expect([drain.received, drain.wrongAt, drain.ended]).toEqual([100_000, -1, true]);
    expect(server!.state).toBe('closed');
  });

  it('both at once, and a connect from both sides at once, work', () => {
    const sim = new Sim(1, { delay: 20 });
    const ends = [new Source(1, 10), new Source(1, 10)] as const;
    sim.a.stack.connect({ address: B4, port: 5000 }, ends[0], { localPort: 6000 });
    sim.b.stack.connect({ address: A4, port: 6000 }, ends[1], { localPort: 5000 });
    sim.run(10_000, () => ends[0].closed && ends[1].closed);
    expect(ends.map(({ connected, closed, error }) => [connected, closed, error])).toEqual([
      [true, true, undefined],
      [true, true, undefined],
    ]);
  });

  it('both at once ends although the acknowledgments of both FINs are lost (RFC 9293 §3.6)', () => {
    const probe = new Probe();
    const { connection, theirs, closed } = establish(probe);
    connection.end();
    expect(probe.answers().map(({ flags }) => flags)).toEqual(['fa']);
    // Theirs has crossed ours.
    probe.tcp({ seq: 1001, ack: theirs, flags: 'fa' });
    expect(connection.state).toBe('closing');
    // Our acknowledgment and theirs are lost: their FIN comes again, and acknowledges ours.
    const answers = probe.tcp({ seq: 1001, ack: theirs + 1, flags: 'fa' });
    expect(answers.map(({ flags, ack }) => [flags, ack])).toEqual([['a', 1002]]);
    expect([connection.state, closed()]).toEqual(['closed', { error: undefined }]);
    expect(probe.stack.status()).toMatchObject({ connections: 0, timeWaits: 1 });
    probe.wait(61_000);
    expect(probe.stack.status()).toMatchObject({ connections: 0, timeWaits: 0, timers: 0 });
  });

  it('both at once ends on both sides, whatever is lost', () => {
    for (let seed = 1; seed <= 40; seed++) {
      const sim = new Sim(seed, { delay: 20 });
      const ends = [new Source(1, 0, 'stay'), new Source(1, 0, 'stay')] as const;
      let server: TcpConnection | undefined;
      sim.b.stack.listen({ port: 80 }, (incoming) => (server = incoming.accept(ends[1])));
      const client = sim.a.stack.connect({ address: B4, port: 80 }, ends[0]);
      sim.run(1000, () => ends[0].connected && ends[1].connected);
      for (const { faults } of [sim.a, sim.b]) faults.loss = 0.3;
      client.end();
      server!.end();
      sim.run(3_600_000);
      expect([seed, client.state, server!.state]).toEqual([seed, 'closed', 'closed']);
    }
  });

  it('TIME_WAIT gives way to a new connection on the same ports', () => {
    const sim = new Sim(1, { delay: 5 });
    for (let round = 0; round < 5; round++) {
      const drain = new Drain(round);
      const listener = sim.b.stack.listen({ port: 80 }, (incoming) => incoming.accept(drain));
      const source = new Source(round, 5000);
      sim.a.stack.connect({ address: B4, port: 80 }, source, { localPort: 40_000 });
      expect(sim.run(1000, () => drain.closed && source.closed)).toBe(true);
      expect([drain.received, drain.wrongAt]).toEqual([5000, -1]);
      listener.close();
      sim.run(1500);
    }
    expect(sim.a.stack.status().timeWaits).toBe(1);
  });

  it('20,000 short connections leave the tables empty', () => {
    const sim = new Sim(1);
    let done = 0;
    let failed = 0;
    sim.b.stack.listen({ port: 80 }, (incoming) =>
      incoming.accept({
        onReadable(c) {
          const data = c.read();
          if (data !== undefined) c.write(data);
          if (c.hasEnded) c.end();
        },
      }),
    );
    const total = 20_000;
    for (let begun = 0; begun < total;) {
      for (let i = 0; i < 100; i++, begun++) {
        sim.a.stack.connect(
          { address: B4, port: 80 },
          {
            onConnect: (c) => c.write(Uint8Array.of(1, 2, 3)),
            onReadable: (c) => {
              if (c.read() !== undefined) c.end();
            },
            onClose(_c, error) {
              done++;
              if (error !== undefined) failed++;
            },
          },
        );
      }
      const target = begun;
      sim.run(2000, () => done === target);
    }
    expect([done, failed]).toEqual([total, 0]);
    sim.run(130_000);
    for (const { stack } of [sim.a, sim.b]) {
      expect(stack.status()).toMatchObject({ connections: 0, halfOpen: 0, timeWaits: 0, bufferBytes: 0, timers: 0 });
    }
  });
});

describe('refusals', () => {
  it('a closed port refuses', () => {
    const sim = new Sim(1, { delay: 5 });
    const source = new Source(1, 1);
    sim.a.stack.connect({ address: B4, port: 81 }, source);
    sim.run(100);
    expect([source.closed, source.error]).toEqual([true, 'ECONNREFUSED']);
  });

  it('nobody there times out', () => {
    const sim = new Sim(1, { blackHole: true });
    const source = new Source(1, 1);
    sim.a.stack.connect({ address: B4, port: 81 }, source);
    sim.run(100_000);
    expect([source.closed, source.error]).toEqual([true, 'ETIMEDOUT']);
  });
});

describe('the transparent mode', () => {
  const anywhere = address('127.9.8.7');

  function intercept(faults = { delay: 5 }): { sim: Sim; requests: IncomingConnection[] } {
    const requests: IncomingConnection[] = [];
    const sim = new Sim(1, faults, {}, { anyDestination: true, onIncoming: (incoming) => requests.push(incoming) });
    return { sim, requests };
  }

  it('accepts for any destination, when it pleases', () => {
    const { sim, requests } = intercept();
    const source = new Source(1, 50_000);
    const drain = new Drain(1);
    sim.a.stack.connect({ address: anywhere, port: 443 }, source);
    sim.run(8000);
    expect(requests).toHaveLength(1);
    expect([String(requests[0]!.local), requests[0]!.localPort, source.connected]).toEqual(['127.9.8.7', 443, false]);
    requests[0]!.accept(drain);
    sim.run(60_000, () => drain.closed);
    expect([drain.received, drain.wrongAt]).toEqual([50_000, -1]);
  });

  it.each([
    ['reset', 'ECONNREFUSED'],
    ['host-unreachable', 'EHOSTUNREACH'],
    ['network-unreachable', 'ENETUNREACH'],
    ['prohibited', 'EACCES'],
  ] as const)('turns down with %s', (reason, error) => {
    for (const to of [anywhere, address('fd99::1')]) {
      const { sim, requests } = intercept();
      const source = new Source(1, 1);
      sim.a.stack.connect({ address: to, port: 443 }, source);
      sim.run(50);
      requests[0]!.reject(reason);
      sim.run(50);
      expect(source.error).toBe(error);
      expect(sim.b.stack.status()).toMatchObject({ connections: 0, halfOpen: 0, timers: 0, sources: 0 });
    }
  });

  it('tells when the caller gave up, and forgets requests without an answer', () => {
    const { sim, requests } = intercept();
    let aborted = 0;
    sim.a.stack.connect({ address: anywhere, port: 1 }, {}).close();
    sim.a.stack.connect({ address: anywhere, port: 2 }, {});
    sim.run(50);
    for (const request of requests) request.onAbort = () => aborted++;
    sim.run(100_000);
    expect(aborted).toBe(requests.length);
    expect(sim.b.stack.status()).toMatchObject({ connections: 0, halfOpen: 0, timers: 0 });
  });

  it('carries UDP flows to any destination, until idle', () => {
    const got: string[] = [];
    const sim = new Sim(
      1,
      { delay: 5 },
      {},
      {
        anyDestination: true,
        onUdp: (request) => {
          request.accept({ onMessage: (data, flow) => flow.send(data), onClose: () => got.push('closed') });
        },
      },
    );
    const socket = sim.a.stack.bindUdp({
      onMessage: (data, remote) => got.push(`${data.join()} from ${String(remote.address)}:${remote.port}`),
    });
    socket.send(Uint8Array.of(1), { address: anywhere, port: 53 });
    sim.run(100);
    socket.send(Uint8Array.of(2), { address: anywhere, port: 53 });
    sim.run(100);
    expect(got).toEqual(['1 from 127.9.8.7:53', '2 from 127.9.8.7:53']);
    expect(sim.b.stack.status().udpFlows).toBe(1);
    sim.run(200_000);
    expect([got.at(-1), sim.b.stack.status().udpFlows]).toEqual(['closed', 0]);
  });
});

describe('UDP and ICMP', () => {
  it('carries datagrams of every size, in fragments if need be', () => {
    for (const to of [B4, B6]) {
      const sim = new Sim(1, { delay: 5, jitter: 3 });
      const got: number[] = [];
      sim.b.stack.bindUdp({
        port: 9,
        onMessage: (data) => got.push(data.every((byte, i) => byte === (i & 255)) ? data.length : -1),
      });
      const socket = sim.a.stack.bindUdp({ onMessage() {} });
      const sizes = [0, 1, 1372, 1392, 1393, 5000, 65_507];
      for (const size of sizes)
        socket.send(
          Uint8Array.from({ length: size }, (_, i) => i & 255),
          { address: to, port: 9 },
        );
      sim.run(1000);
      expect(got.toSorted((x, y) => x - y)).toEqual(sizes);
    }
  });

  it('reports an unreachable port to the socket, and answers pings', () => {
    for (const to of [B4, B6]) {
      const sim = new Sim(1, { delay: 5 });
      const reports: string[] = [];
      const socket = sim.a.stack.bindUdp({
        onMessage() {},
        onUnreachable: (remote, reason) => reports.push(`${String(remote.address)} ${reason}`),
      });
      socket.send(Uint8Array.of(1), { address: to, port: 99 });
      sim.a.stack.onEchoReply = (reply) =>
        reports.push(`${String(reply.remote)} ${reply.id} ${reply.sequence} ${reply.data.join()}`);
      sim.a.stack.ping(to, 7, 8, Uint8Array.of(1, 2, 3));
      sim.run(100);
      expect(reports).toEqual([`${String(to)} port-unreachable`, `${String(to)} 7 8 1,2,3`]);
    }
  });
});
