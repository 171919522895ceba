/**
 * Two stacks back to back on one thread, over the built package: node packages/netstack/bench/netstack.mjs [name ...] [--json FILE]
 * Rates are by CPU time, as other work on the machine does not count; those with a delay are by the link's virtual clock.
 */
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { PacketBatch, Stack, parseAddress } from '../dist/index.js';
import { readOptions } from '../../../scripts/options.mjs';

const MTU = 1420;
const A = [parseAddress('127.0.0.1'), parseAddress('fd00::1')];
const B = [parseAddress('127.0.0.2'), parseAddress('fd00::2')];

class Link {
  constructor(options = {}) {
    this.loss = options.loss ?? 0;
    this.delay = options.delay ?? 0;
    this.flights = [];
    this.virtual = options.delay === undefined ? undefined : 1;
    this.ends = [A, B].map((addresses) => {
      const out = new PacketBatch(256, MTU);
      return { out, stack: new Stack({ output: out, random: randomBytes, mtu: MTU, addresses, ...options.stack }) };
    });
  }

  now() {
    return this.virtual ?? performance.now();
  }

  /** One turn: each side flushes and the other receives; false when nothing moved. */
  turn() {
    let moved = false;
    const [a, b] = this.ends;
    for (const [from, to] of [
      [a, b],
      [b, a],
    ]) {
      const now = this.now();
      if (from.stack.nextDeadline() <= now) from.stack.tick(now);
      else from.stack.flush(now);
      const { out } = from;
      for (let i = 0; i < out.count; i++) {
        if (this.loss > 0 && Math.random() < this.loss) continue;
        if (this.virtual === undefined) to.stack.receive(out.buffer, out.offsets[i], out.lengths[i], now);
        else {
          const packet = out.buffer.slice(out.offsets[i], out.offsets[i] + out.lengths[i]);
          this.flights.push({ at: now + this.delay, packet, to });
        }
      }
      moved ||= out.count > 0;
      out.clear();
    }
    return moved;
  }

  /** Turns until `done`; with a delay the clock jumps to what comes next. */
  run(done) {
    while (!done()) {
      if (this.turn() || this.virtual === undefined || done()) continue;
      const next = Math.min(this.flights[0]?.at ?? Infinity, ...this.ends.map(({ stack }) => stack.nextDeadline()));
      this.virtual = Math.max(this.virtual, next);
      let n = 0;
      for (; n < this.flights.length && this.flights[n].at <= this.virtual; n++) {
        const { packet, to } = this.flights[n];
        to.stack.receive(packet, 0, packet.length, this.virtual);
      }
      this.flights.splice(0, n);
    }
  }
}

/** CPU milliseconds of this process. */
function cpu() {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

const chunk = new Uint8Array(randomBytes(65_536));
const scratch = new Uint8Array(1 << 18);

function bulk(link, connections, bytesEach, family = 0) {
  const [a, b] = link.ends;
  let received = 0;
  let closed = 0;
  const drain = {
    onReadable(c) {
      for (let n = c.readInto(scratch); n > 0; n = c.readInto(scratch)) received += n;
      if (c.hasEnded) c.end();
    },
    onClose(_c, error) {
      if (error !== undefined) throw new Error(error);
      closed++;
    },
  };
  b.stack.listen({ port: 80 }, (incoming) => incoming.accept(drain));
  const startAt = link.now();
  const cpuStart = cpu();
  for (let i = 0; i < connections; i++) {
    let left = bytesEach;
    const pump = (c) => {
      while (left > 0) {
        const length = Math.min(left, chunk.length);
        const taken = c.write(chunk, 0, length);
        left -= taken;
        if (taken < length) return;
      }
      c.end();
    };
    a.stack.connect({ address: B[family], port: 80 }, { onConnect: pump, onWritable: pump });
  }
  link.run(() => closed === connections);
  const took = link.virtual === undefined ? cpu() - cpuStart : link.now() - startAt;
  return { rate: received / 1000 / took };
}

function short(link, count) {
  const [a, b] = link.ends;
  let closed = 0;
  let failed = 0;
  b.stack.listen({ port: 80 }, (incoming) =>
    incoming.accept({
      onReadable(c) {
        const bytes = c.read();
        if (bytes !== undefined) c.write(bytes);
        if (c.hasEnded) c.end();
      },
    }),
  );
  const start = cpu();
  let open = 0;
  let begun = 0;
  const dial = () => {
    for (; open < 50 && begun < count; begun++) {
      open++;
      a.stack.connect(
        { address: B[0], port: 80 },
        {
          onConnect(c) {
            c.write(chunk, 0, 100);
          },
          onReadable(c) {
            if (c.read() !== undefined) c.end();
          },
          onClose(_c, error) {
            closed++;
            open--;
            if (error !== undefined) failed++;
          },
        },
      );
    }
  };
  link.run(() => {
    dial();
    return closed === count;
  });
  return { perSecond: (count / (cpu() - start)) * 1000, failed };
}

function udp(link, count) {
  const [a, b] = link.ends;
  let received = 0;
  b.stack.bindUdp({ port: 53, onMessage: () => received++ });
  const socket = a.stack.bindUdp({ onMessage() {} });
  const remote = { address: B[0], port: 53 };
  const start = cpu();
  for (let sent = 0; sent < count; sent++) {
    socket.send(chunk.subarray(0, 1200), remote);
    if ((sent & 63) === 63) link.turn();
  }
  link.turn();
  return received / (cpu() - start);
}

/** Connections that have spoken once and then say nothing for an hour. */
function idle(link, count) {
  const [a, b] = link.ends;
  let greeted = 0;
  b.stack.listen({ port: 80 }, (incoming) => incoming.accept({ onReadable: (c) => c.read() && greeted++ }));
  globalThis.gc?.();
  const before = process.memoryUsage();
  for (let i = 0; i < count; i++) {
    a.stack.connect({ address: B[0], port: 80 }, { onConnect: (c) => c.write(chunk, 0, 100) });
  }
  link.run(() => greeted === count);
  const settled = link.now() + 10_000;
  link.run(() => link.now() >= settled || link.ends.every(({ stack }) => stack.nextDeadline() === Infinity));
  globalThis.gc?.();
  const after = process.memoryUsage();
  const bytes = after.heapUsed + after.arrayBuffers - before.heapUsed - before.arrayBuffers;
  return { kilobytes: bytes / count / 1000, timers: a.stack.status().timers + b.stack.status().timers };
}

const roomy = { stack: { limits: { maxHalfOpen: 1e5, maxHalfOpenPerSource: 1e5 } } };
const megabytes = (row, options, connections, bytesEach, family) => [
  { row, value: bulk(new Link(options), connections, bytesEach, family).rate, unit: 'MB/s' },
];
const benches = {
  bulk4: () => megabytes('bulk 200 MB IPv4', {}, 1, 200e6),
  bulk6: () => megabytes('bulk 200 MB IPv6', {}, 1, 200e6, 1),
  many1000: () => megabytes('1,000 connections x 200 KB', roomy, 1000, 200e3),
  many5000: () => megabytes('5,000 connections x 20 KB', roomy, 5000, 20e3),
  many5000x100: () => megabytes('5,000 connections x 100 KB', roomy, 5000, 100e3),
  loss0: () => megabytes('1 % loss, no delay', { loss: 0.01 }, 1, 50e6),
  loss20: () => megabytes('1 % loss, RTT 20 ms (virtual clock)', { loss: 0.01, delay: 10 }, 1, 30e6),
  rtt20: () => megabytes('RTT 20 ms (virtual clock)', { delay: 10 }, 1, 100e6),
  rtt100: () => megabytes('RTT 100 ms (virtual clock)', { delay: 50 }, 1, 100e6),
  idle: () => {
    const { kilobytes, timers } = idle(new Link({ ...roomy, delay: 0.1 }), 10_000);
    return [
      { row: '10,000 idle connections, both ends of each', value: kilobytes, unit: 'KB' },
      { row: '10,000 idle connections, timers pending', value: timers, unit: '' },
    ];
  },
  short: () => {
    const { perSecond, failed } = short(new Link(roomy), 20_000);
    return [
      { row: '20,000 short connections, 50 at a time', value: perSecond, unit: '/s' },
      { row: '20,000 short connections that failed', value: failed, unit: '' },
    ];
  },
  udp: () => [{ row: 'UDP 1,200 B', value: udp(new Link(), 500_000), unit: 'kpps' }],
};
// Compiled code is what counts.
bulk(new Link(), 1, 20e6);
bulk(new Link(roomy), 5000, 20e3);
const names = Object.keys(benches);
const usage = `node packages/netstack/bench/netstack.mjs [NAME ...] [--json FILE]\n  names: ${names.join(' ')}`;
const { values, positionals } = readOptions('netstack', usage, { json: { type: 'string' } }, names);
const rows = [];
for (const [name, bench] of Object.entries(benches)) {
  if (positionals.length > 0 && !positionals.includes(name)) continue;
  for (const row of bench()) {
    rows.push(row);
    console.log(`${row.row}: ${row.value.toPrecision(3)} ${row.unit}`.trimEnd());
  }
}
if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(rows, null, 2)}\n`);
