/**
 * The stack opposite Linux's own TCP, UDP and ICMP, on a TUN interface in a namespace, over a relay that loses, delays,
 * reorders and repeats packets.
 */
import { fileURLToPath } from 'node:url';
import type { TcpConnection } from '@sealane/netstack';
import { describe, expect, it } from 'vitest';
import { tcp } from '../../packages/netstack/test/support/packets.ts';
import { Drain } from '../../packages/netstack/test/support/sim.ts';
import { type Host, Lab, missing, until } from '../support/lab.ts';
import { Both } from './both.ts';
import { type Faults, STACK, address } from './relay.ts';
import { KERNEL, Wire, type WireOptions } from './wire.ts';

const PEER = fileURLToPath(new URL('./peer.mjs', import.meta.url));
const MEBIBYTE = 2 ** 20;
const reason = missing('ss', 'ping', 'sysctl');

/** Runs `body` with a kernel and a stack opposite each other; afterwards the kernel must have nothing left of it. */
async function opposite(
  skip: (why: string) => void,
  options: WireOptions,
  body: (context: { readonly kernel: Host; readonly wire: Wire; readonly lab: Lab }) => Promise<void>,
): Promise<void> {
  if (reason !== undefined) skip(reason);
  await using lab = await Lab.open();
  const kernel = await lab.host('kernel');
  await using wire = await Wire.open(lab, kernel, options);
  await body({ kernel, wire, lab });
  wire.faults = {};
  await until('the kernel to have closed its sockets', async () => (await openSockets(kernel)).length === 0);
  await until('the stack to have closed its connections', () => wire.stack.status().connections === 0);
  expect(await badChecksums(kernel)).toBe(0);
  const { drops } = wire.stack;
  expect(drops['malformed-ip'] + drops['malformed-transport'] + drops['bad-checksum']).toBe(0);
}

/** TCP sockets of the kernel that are neither listening nor in TIME-WAIT. */
async function openSockets(kernel: Host): Promise<readonly string[]> {
  const lines = (await kernel.must('ss', ['-tanH'])).split('\n');
  return lines.filter((line) => line !== '' && !line.startsWith('LISTEN') && !line.startsWith('TIME-WAIT'));
}

/** What of ours the kernel found damaged. */
async function badChecksums(kernel: Host): Promise<number> {
  const text = await kernel.must('cat', ['/proc/net/snmp', '/proc/net/snmp6']);
  const [names, values] = text
    .split('\n')
    .filter((line) => line.startsWith('Tcp:'))
    .map((line) => line.split(' '));
  const tcp = Number(values?.[names?.indexOf('InCsumErrors') ?? -1]);
  const others = [...text.matchAll(/^(?:Udp6InCsumErrors|Icmp6InCsumErrors|Ip6InHdrErrors)\s+(\d+)$/gm)];
  expect(others).toHaveLength(3);
  return others.reduce((sum, [, value]) => sum + Number(value), tcp);
}

interface Talk {
  readonly received: number;
  readonly wrongAt: number;
  readonly ended: boolean;
  readonly error: string | null;
}

/** Runs the peer program to its end. */
async function peer(kernel: Host, plan: object): Promise<Talk> {
  return JSON.parse(await kernel.must(process.execPath, [PEER, JSON.stringify(plan)], { timeout: 50_000 })) as Talk;
}

/** Starts the peer program and waits until it listens; `result` is what it says at the end. */
async function listening(kernel: Host, plan: object): Promise<{ readonly result: () => Promise<Talk> }> {
  const running = kernel.start(process.execPath, [PEER, JSON.stringify(plan)]);
  await until('the peer to listen', () => running.stdout.startsWith('ready') || running.child.exitCode !== null);
  return {
    result: async () => {
      const code = await running.exit;
      if (code !== 0) throw new Error(`the peer exited ${code}: ${running.stderr}`);
      return JSON.parse(running.stdout.slice('ready\n'.length)) as Talk;
    },
  };
}

/** Two connections, each with `bytes` both ways at once; returns how many of them the stack has received. */
async function exchange(kernel: Host, wire: Wire, family: 4 | 6, bytes: number): Promise<number> {
  // The kernel dials, and is dialled, at the same time.
  const answering = new Both(bytes);
  const listener = wire.stack.listen({ port: 80 }, (incoming) => void incoming.accept(answering));
  const listeningPeer = await listening(kernel, { role: 'listen', host: KERNEL[family], port: 81, send: bytes });
  const dialling = new Both(bytes);
  wire.stack.connect({ address: address(KERNEL[family]), port: 81 }, dialling);
  const results = await Promise.all([
    peer(kernel, { role: 'connect', host: STACK[family], port: 80, send: bytes }),
    listeningPeer.result(),
  ]);
  await until('both connections to close', () => answering.closed && dialling.closed);
  listener.close();
  for (const result of results)
    expect(result).toMatchObject({ received: bytes, wrongAt: -1, ended: true, error: null });
  for (const { drain, error } of [answering, dialling]) {
    expect({ received: drain.received, wrongAt: drain.wrongAt, error }).toEqual({
      received: bytes,
      wrongAt: -1,
      error: undefined,
    });
  }
  return answering.drain.received + dialling.drain.received;
}

const LINKS: readonly [string, Faults, number][] = [
  ['a clean link', {}, 4 * MEBIBYTE],
  ['loss of 2 %', { loss: 0.02 }, 2 * MEBIBYTE],
  ['10 ms of delay, reordered by 5', { delay: 10, jitter: 5 }, 2 * MEBIBYTE],
  ['every tenth packet twice', { duplicate: 0.1, delay: 1 }, 2 * MEBIBYTE],
  ['all of that', { loss: 0.02, delay: 5, jitter: 5, duplicate: 0.05 }, MEBIBYTE],
];

describe('streams in both directions at once', () => {
  for (const [name, faults, bytes] of LINKS) {
    for (const family of [4, 6] as const) {
      it(`arrive whole over ${name}, IPv${family}`, ({ skip }) =>
        opposite(skip, { faults }, async ({ kernel, wire }) => {
          expect(await exchange(kernel, wire, family, bytes)).toBe(2 * bytes);
        }));
    }
  }

  for (const mtu of [576, 1280, 9000, 65_535]) {
    it(`arrive whole with an MTU of ${mtu}`, ({ skip }) =>
      opposite(skip, { mtu }, async ({ kernel, wire }) => {
        for (const family of mtu >= 1280 ? ([4, 6] as const) : ([4] as const)) {
          expect(await exchange(kernel, wire, family, 2 * MEBIBYTE)).toBe(4 * MEBIBYTE);
        }
      }));
  }

  for (const settings of [
    ['tcp_sack=0'],
    ['tcp_timestamps=0'],
    ['tcp_window_scaling=0'],
    ['tcp_sack=0', 'tcp_timestamps=0', 'tcp_window_scaling=0'],
    ['tcp_ecn=1'],
  ]) {
    it(`arrive whole with loss when the kernel has ${settings.join(', ')}`, ({ skip }) =>
      opposite(skip, { faults: { loss: 0.02, delay: 2 } }, async ({ kernel, wire }) => {
        for (const setting of settings) await kernel.must('sysctl', ['-w', `net.ipv4.${setting}`]);
        expect(await exchange(kernel, wire, 4, MEBIBYTE / 2)).toBe(MEBIBYTE);
      }));
  }

  it('are 200 at a time', ({ skip }) =>
    opposite(skip, {}, async ({ kernel, wire }) => {
      const handlers: Both[] = [];
      wire.stack.listen({ port: 80 }, (incoming) => {
        handlers.push(new Both(20_000));
        incoming.accept(handlers.at(-1)!);
      });
      const plan = { role: 'connect', host: STACK[4], port: 80, send: 20_000, count: 200 };
      const results = (await peer(kernel, plan)) as unknown as readonly Talk[];
      expect(results).toHaveLength(200);
      for (const result of results) expect(result).toMatchObject({ received: 20_000, wrongAt: -1, error: null });
      await until('all to close', () => handlers.every(({ closed }) => closed));
      for (const { drain } of handlers) expect([drain.received, drain.wrongAt]).toEqual([20_000, -1]);
    }));
});

describe('the end of a connection', () => {
  it('is half-closed by the stack first, and the kernel goes on', ({ skip }) =>
    opposite(skip, {}, async ({ kernel, wire }) => {
      const far = await listening(kernel, { role: 'listen', host: KERNEL[4], port: 81, send: MEBIBYTE, pauseMs: 300 });
      const near = new Both(1000);
      wire.stack.connect({ address: address(KERNEL[4]), port: 81 }, near);
      expect(await far.result()).toMatchObject({ received: 1000, wrongAt: -1, ended: true, error: null });
      await until('the connection to close', () => near.closed);
      expect([near.drain.received, near.drain.wrongAt, near.error]).toEqual([MEBIBYTE, -1, undefined]);
    }));

  it('is half-closed by the kernel first, and the stack goes on', ({ skip }) =>
    opposite(skip, {}, async ({ kernel, wire }) => {
      const waiting = new Both(MEBIBYTE);
      let connection: TcpConnection | undefined;
      wire.stack.listen({ port: 80 }, (incoming) => {
        connection = incoming.accept({
          onReadable(c) {
            waiting.drain.onReadable(c);
          },
        });
      });
      const result = peer(kernel, { role: 'connect', host: STACK[4], port: 80, send: 1000 });
      await until('the kernel to have ended', () => connection?.hasEnded === true);
      expect(connection!.state).toBe('close-wait');
      connection!.handler = waiting;
      waiting.source.pump(connection!);
      wire.turnSoon();
      expect(await result).toMatchObject({ received: MEBIBYTE, wrongAt: -1, ended: true, error: null });
      await until('the connection to close', () => waiting.closed);
      expect(waiting.error).toBeUndefined();
    }));

  it('is a reset by the kernel', ({ skip }) =>
    opposite(skip, {}, async ({ kernel, wire }) => {
      const near = new Drain(1);
      wire.stack.listen({ port: 80 }, (incoming) => void incoming.accept(near));
      await peer(kernel, { role: 'connect', host: STACK[4], port: 80, send: 1000, finish: 'reset' });
      await until('the connection to close', () => near.closed);
      expect(near.error).toBe('ECONNRESET');
    }));

  it('is a reset by the stack', ({ skip }) =>
    opposite(skip, {}, async ({ kernel, wire }) => {
      wire.stack.listen({ port: 80 }, (incoming) => {
        incoming.accept({ onReadable: (connection) => connection.abort() });
      });
      const result = await peer(kernel, {
        role: 'connect',
        host: STACK[4],
        port: 80,
        send: 1000,
        finish: 'after-peer',
      });
      expect(result.error).toBe('ECONNRESET');
    }));

  it('leaves the port free for the next connection from it', ({ skip }) =>
    opposite(skip, {}, async ({ kernel, wire }) => {
      wire.stack.listen({ port: 80 }, (incoming) => void incoming.accept(new Both(100)));
      for (let round = 0; round < 3; round++) {
        // The stack ends first, and so has the TIME_WAIT that the next SYN meets.
        const plan = { role: 'connect', host: STACK[4], port: 80, localPort: 40_000, send: 100, finish: 'after-peer' };
        expect(await peer(kernel, plan)).toMatchObject({ received: 100, wrongAt: -1, error: null });
        await until('TIME_WAIT', () => wire.stack.status().timeWaits === 1);
      }
    }));
});

describe('a reader that pauses', () => {
  it('shuts the window of the stack, which sends all once it opens', ({ skip }) =>
    opposite(skip, {}, async ({ kernel, wire }) => {
      const total = 12 * MEBIBYTE;
      const far = await listening(kernel, {
        role: 'listen',
        host: KERNEL[4],
        port: 81,
        pauseMs: 3000,
        finish: 'after-peer',
      });
      const near = new Both(total);
      const connection = wire.stack.connect({ address: address(KERNEL[4]), port: 81 }, near);
      await until('the window to shut', async () => {
        const before = near.source.sent;
        await new Promise((resolve) => setTimeout(resolve, 300));
        return near.source.sent === before && before > 0;
      });
      expect(near.source.sent).toBeLessThan(total);
      expect(connection.pendingLength).toBeGreaterThan(0);
      expect(await far.result()).toMatchObject({ received: total, wrongAt: -1, ended: true, error: null });
      await until('the connection to close', () => near.closed);
      expect(near.error).toBeUndefined();
    }));

  it('shuts the window of the kernel, which sends all once it opens', ({ skip }) =>
    opposite(skip, {}, async ({ kernel, wire }) => {
      const near = new Drain(1);
      near.paused = true;
      let connection: TcpConnection | undefined;
      wire.stack.listen({ port: 80 }, (incoming) => {
        connection = incoming.accept(near);
      });
      const total = 8 * MEBIBYTE;
      const result = peer(kernel, { role: 'connect', host: STACK[4], port: 80, send: total });
      let before = -1;
      await until('the window to shut', async () => {
        await new Promise((resolve) => setTimeout(resolve, 1000));
        const isStuck = connection?.readableLength === before;
        before = connection?.readableLength ?? -1;
        return isStuck;
      });
      expect(before).toBeGreaterThan(100_000);
      expect(before).toBeLessThan(total);
      near.paused = false;
      near.onReadable(connection!);
      expect(await result).toMatchObject({ received: 0, ended: true, error: null });
      await until('the connection to close', () => near.closed);
      expect([near.received, near.wrongAt, near.error]).toEqual([total, -1, undefined]);
    }));
});

describe('what cannot be reached', () => {
  for (const family of [4, 6] as const) {
    it(`is refused both ways, IPv${family}`, ({ skip }) =>
      opposite(skip, {}, async ({ kernel, wire }) => {
        const result = await peer(kernel, { role: 'connect', host: STACK[family], port: 80 });
        expect(result.error).toBe('ECONNREFUSED');
        const near = new Both(0);
        wire.stack.connect({ address: address(KERNEL[family]), port: 81 }, near);
        await until('the answer', () => near.closed);
        expect(near.error).toBe('ECONNREFUSED');
      }));

    it(`is told by ICMP as the error it is, IPv${family}`, ({ skip }) =>
      opposite(
        skip,
        {
          anyDestination: true,
          onIncoming: (incoming) => incoming.reject(incoming.localPort === 80 ? 'host-unreachable' : 'prohibited'),
        },
        async ({ kernel, wire }) => {
          const beyond = family === 4 ? '198.51.100.9' : '2001:db8::9';
          await kernel.must('ip', [`-${family}`, 'route', 'add', 'default', 'via', STACK[family], 'dev', wire.name]);
          const unreachable = await peer(kernel, { role: 'connect', host: beyond, port: 80 });
          const prohibited = await peer(kernel, { role: 'connect', host: beyond, port: 81 });
          expect(unreachable.error).toBe('EHOSTUNREACH');
          expect(prohibited.error).toBe(family === 4 ? 'EHOSTUNREACH' : 'EACCES');
        },
      ));
  }
});

describe('datagrams', () => {
  const sizes = [0, 1, 1400, 1473, 4000, 9000];

  for (const family of [4, 6] as const) {
    it(`come back to the kernel, in fragments too, IPv${family}`, ({ skip }) =>
      opposite(skip, {}, async ({ kernel, wire }) => {
        const socket = wire.stack.bindUdp({ port: 53, onMessage: (data, remote) => void socket.send(data, remote) });
        const plan = { role: 'udpAsk', host: STACK[family], port: 53, sizes };
        expect(await peer(kernel, plan)).toEqual({ echoed: sizes, error: null });
        socket.close();
        const refused = await peer(kernel, { ...plan, sizes: [10] });
        expect(refused).toEqual({ echoed: [], error: 'ECONNREFUSED' });
      }));

    it(`come back to the stack, in fragments too, IPv${family}`, ({ skip }) =>
      opposite(skip, {}, async ({ kernel, wire }) => {
        await listening(kernel, { role: 'udpEcho', host: KERNEL[family], port: 53 });
        const echoed: number[] = [];
        const refused: string[] = [];
        const socket = wire.stack.bindUdp({
          onMessage: (data) => void echoed.push(data.length),
          onUnreachable: (_remote, why) => void refused.push(why),
        });
        for (const size of sizes) {
          socket.send(new Uint8Array(size).fill(7), { address: address(KERNEL[family]), port: 53 });
          await until(`the echo of ${size} bytes`, () => echoed.at(-1) === size);
        }
        socket.send(new Uint8Array(10), { address: address(KERNEL[family]), port: 54 });
        await until('the refusal', () => refused.length > 0);
        expect(refused).toEqual(['port-unreachable']);
      }));

    it(`of echo are answered both ways, IPv${family}`, ({ skip }) =>
      opposite(skip, {}, async ({ kernel, wire }) => {
        for (const size of [0, 56, 1400, 4000]) {
          const args = ['-n', '-c', '3', '-i', '0.1', '-W', '5', '-s', String(size), STACK[family]];
          expect(await kernel.must('ping', args)).toContain(' 0% packet loss');
        }
        const replies: number[] = [];
        wire.stack.onEchoReply = ({ id, sequence, data }) => {
          expect(id).toBe(77);
          expect(data).toEqual(new Uint8Array(sequence).fill(9));
          replies.push(sequence);
        };
        for (const size of [0, 56, 1400]) {
          wire.stack.ping(address(KERNEL[family]), 77, size, new Uint8Array(size).fill(9));
          await until(`the reply of ${size} bytes`, () => replies.at(-1) === size);
        }
      }));
  }
});

const FAR = { 4: '198.51.100.2', 6: 'fd00:fa::2' } as const;

/** A host beyond the kernel's, over a link that takes 1300 bytes in its direction. */
async function narrowPath(lab: Lab, kernel: Host): Promise<Host> {
  const far = await lab.host('far');
  const ours = ['198.51.100.1/24', 'fd00:fa::1/64'];
  await lab.join(kernel, 'veth0', ours, far, 'veth1', [`${FAR[4]}/24`, `${FAR[6]}/64`]);
  await kernel.must('ip', ['link', 'set', 'veth0', 'mtu', '1300']);
  await far.must('ip', ['route', 'add', 'default', 'via', '198.51.100.1']);
  await far.must('ip', ['-6', 'route', 'add', 'default', 'via', 'fd00:fa::1']);
  await kernel.must('sysctl', ['-w', 'net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1']);
  return far;
}

describe('a narrow path behind the first hop', () => {
  for (const family of [4, 6] as const) {
    it(`is found by what the kernel says is too big, IPv${family}`, ({ skip }) =>
      opposite(skip, {}, async ({ kernel, wire, lab }) => {
        const far = await narrowPath(lab, kernel);
        const host = FAR[family];
        const total = 2 * MEBIBYTE;

        const server = await listening(far, { role: 'listen', host, port: 81, send: total });
        const near = new Both(total);
        wire.stack.connect({ address: address(host), port: 81 }, near);
        expect(await server.result()).toMatchObject({ received: total, wrongAt: -1, ended: true, error: null });
        await until('the connection to close', () => near.closed);
        expect([near.drain.received, near.drain.wrongAt, near.error]).toEqual([total, -1, undefined]);
        // The kernel said it, and we believed it: hardly anything was sent twice.
        expect(wire.stack.status().retransmissions).toBeGreaterThan(0);
        expect(wire.stack.status().retransmissions).toBeLessThan(200);
      }));

    it(`is found for datagrams, IPv${family}`, ({ skip }) =>
      opposite(skip, {}, async ({ kernel, wire, lab }) => {
        const far = await narrowPath(lab, kernel);
        await far.must('ip', ['link', 'set', 'veth1', 'mtu', '1300']);
        const host = FAR[family];
        await listening(far, { role: 'udpEcho', host, port: 53 });
        const echoed: number[] = [];
        const socket = wire.stack.bindUdp({ onMessage: (data) => void echoed.push(data.length) });
        for (const size of [1400, 5000]) {
          await until(`the echo of ${size} bytes`, () => {
            socket.send(new Uint8Array(size).fill(7), { address: address(host), port: 53 });
            return echoed.includes(size);
          });
        }
        expect(new Set(echoed)).toEqual(new Set([1400, 5000]));
      }));
  }
});

describe('a flood of SYNs', () => {
  it('is bounded and forgotten, and a real connection gets through meanwhile', ({ skip }) =>
    opposite(
      skip,
      { limits: { maxHalfOpen: 512, maxHalfOpenPerSource: 16 }, tcp: { connectTimeoutMs: 5000 } },
      async ({ kernel, wire }) => {
        const near = new Both(1000);
        wire.stack.listen({ port: 80 }, (incoming) => {
          const isReal = incoming.remote.equals(address(KERNEL[4]));
          incoming.accept(isReal ? near : {});
        });
        const sources = Array.from({ length: 16 }, (_, i) => address(`198.51.100.${i + 1}`));
        const to = address(STACK[4]);
        for (let i = 0; i < 20_000; i++) {
          const packet = tcp({ from: sources[i % 16]!, fromPort: 1024 + i, to, toPort: 80, seq: i * 7919, flags: 's' });
          wire.stack.receive(packet, 0, packet.length, performance.now());
        }
        wire.turnSoon();
        expect(wire.stack.status().halfOpen).toBe(256);
        expect(wire.stack.drops['limit-source']).toBe(20_000 - 256);
        const result = await peer(kernel, { role: 'connect', host: STACK[4], port: 80, send: 1000 });
        expect(result).toMatchObject({ received: 1000, wrongAt: -1, error: null });
        await until('the flood to be forgotten', () => wire.stack.status().halfOpen === 0);
      },
    ));
});
