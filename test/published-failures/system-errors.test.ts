/** Published failures when the system refuses for a while, each named by where it happened: real programs whose system calls fail. */
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { connect, Scratch, startServer } from '../cli/server-support.ts';
import { Arrivals } from '../support/arrivals.ts';
import { type ErrorName, FailingCalls } from '../support/fail-calls.ts';
import { Lab, until } from '../support/lab.ts';
import {
  control,
  type Implementation,
  INNER,
  missingFor,
  ping,
  type WireguardDevice,
  wireguardPair,
} from '../support/wireguard.ts';

const FULL = process.env['SEALANE_FULL'] !== undefined;
const TIMES = FULL ? 1_000 : 30;
const STALLED_SECONDS = FULL ? 60 : 4;
/** How long a flood goes on before and after that. */
const [LEAD, TAIL] = FULL ? [5, 15] : [2, 3];
const MOST_GROWTH = 64 * 1_024;
/** Milliseconds that a failure is looked at, and failures a second that are no spinning: a rest is 10 ms, at each address family. */
const LASTING = 2_000;
const MOST_FAILURES = 250;
const ERRORS: readonly ErrorName[] = [
  'EACCES',
  'EADDRNOTAVAIL',
  'ECONNREFUSED',
  'EHOSTUNREACH',
  'EINVAL',
  'EIO',
  'ENETDOWN',
  'ENETUNREACH',
  'ENOBUFS',
  'ENOMEM',
  'EPERM',
];

async function faultsOf(device: WireguardDevice): Promise<Readonly<Record<string, number>>> {
  const answer = await control(device.socketPath, ['status=1\n\n']);
  return (JSON.parse(/^json=(.*)$/m.exec(answer)![1]!) as { faults: Readonly<Record<string, number>> }).faults;
}

/** A failure that does not end keeps no core busy. `disturb` brings a datagram that cannot be received. */
async function rests(calls: FailingCalls, disturb: () => Promise<unknown>): Promise<void> {
  calls.fail('receive', 'ENOMEM', 2 ** 31 - 1);
  const disturbed = disturb();
  await until('the first failure', () => calls.left('receive') < 2 ** 31 - 1);
  const [failed, began] = [calls.failed('receive'), performance.now()];
  await sleep(LASTING);
  const rate = (calls.failed('receive') - failed) / ((performance.now() - began) / 1_000);
  expect(rate).toBeGreaterThan(0);
  expect(rate).toBeLessThan(MOST_FAILURES);
  calls.fail('receive', 'ENOMEM', 0);
  await disturbed;
}

/** Packets a second of a flood that has begun. */
async function usualRate(arrivals: Arrivals): Promise<number> {
  await until('the flood to come through', () => arrivals.count > 1_000);
  const began = Date.now();
  await sleep(LEAD * 1_000);
  return arrivals.rate(began, Date.now());
}

/** Prints when nine tenths of the usual rate came through again: a figure for docs/reliability.md. */
function tell(what: string, arrivals: Arrivals, usual: number, since: number): void {
  if (!FULL) return;
  const back = arrivals.until(0.9 * usual, since);
  process.stdout.write(
    `${what} for ${STALLED_SECONDS} s: ${Math.round(usual)} packets a second before, as many again after ` +
      `${back === undefined ? `more than ${TAIL} s` : `${back} ms`}\n`,
  );
}

/** Resident memory in KiB. */
function residentOf(device: WireguardDevice): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${device.process.child.pid!}/status`, 'utf8'))![1]);
}

describe('a program whose system refuses', () => {
  const reason = missingFor(['sealane'], 'ping', 'iperf3', 'cc');
  let lab: Lab;
  let calls: FailingCalls;

  beforeEach(async ({ skip }) => {
    if (reason !== undefined) skip(reason);
    lab = await Lab.open();
    calls = await FailingCalls.build(lab.folder);
  });

  afterEach(async () => {
    if (reason !== undefined) return;
    calls.close();
    await lab[Symbol.asyncDispose]();
  });

  it.for(['sealane', 'sealane portable'] satisfies readonly Implementation[])(
    `wireguard-go ea6c1cd, 6228659: a passing error ended the receive loop (each ${TIMES} times, %s)`,
    { timeout: FULL ? 3_600_000 : 180_000 },
    async (implementation, { skip }) => {
      const { a, b } = await wireguardPair(lab, ['sealane', implementation], { bEnv: calls.env });
      if (implementation === 'sealane' && b.lane !== 'linux') skip('needs the Linux lane');
      expect((await ping(a.host, INNER.b4)).received).toBe(5);
      for (const [kind, fault] of [
        ['receive', 'receive-failed'],
        ['send', 'send-failed'],
      ] as const) {
        for (const error of ERRORS) {
          calls.fail(kind, error, TIMES);
          const traffic = a.host.start('ping', ['-n', '-q', '-i', '0.01', INNER.b4]);
          await until(`${TIMES} times ${error}`, () => calls.left(kind) === 0, FULL ? 120_000 : 30_000);
          await traffic.stop('SIGINT');
          const counted = (await faultsOf(b))[`${fault} ${error}`];
          if (kind === 'receive') expect(counted, error).toBe(TIMES);
          // libuv tries again by itself when there is no room.
          else if (implementation === 'sealane' || error !== 'ENOBUFS') expect(counted, error).toBeGreaterThan(0);
          await until(`pings after ${error}`, async () => (await ping(a.host, INNER.b4, { count: 2 })).received === 2);
        }
      }
      expect(calls.failed('receive')).toBe(TIMES * ERRORS.length);
      await rests(calls, () => ping(a.host, INNER.b4, { count: 1 }));
      await until('pings to pass', async () => (await ping(a.host, INNER.b4, { count: 2 })).received === 2);
      expect(b.process.child.exitCode).toBeNull();
    },
  );

  it(
    `wireguard-go ea6c1cd, 6228659: a passing error ended the receive loop (each ${TIMES} times, userspace server)`,
    { timeout: FULL ? 3_600_000 : 180_000 },
    async () => {
      const scratch = new Scratch();
      await scratch.init();
      const config = await scratch.must('peer', 'add', 'laptop');
      const { server, ready } = await startServer(scratch.state, ['--userspace'], { env: calls.env });
      const client = await connect(config, ready.port);
      expect(await client.reaches()).toBe(true);
      for (const error of ERRORS) {
        calls.fail('receive', error, TIMES);
        await until(
          `${TIMES} times ${error}`,
          async () => ((await client.reaches()) ? calls.left('receive') === 0 : false),
          FULL ? 120_000 : 30_000,
        );
        const status = JSON.parse(await scratch.must('status', '--json')) as {
          live: { faults: Record<string, number> };
        };
        expect(status.live.faults[`receive-failed ${error}`], error).toBe(TIMES);
      }
      await rests(calls, () => client.reaches());
      expect(await client.reaches()).toBe(true);
      expect(server.child.exitCode).toBeNull();
      await client.close();
      await server.stop();
      scratch.remove();
    },
  );

  it(
    `wireguard-go 867a4c4, 113c8f1; tailscale #11382: an interface that takes nothing for ${STALLED_SECONDS} s at full rate`,
    { timeout: FULL ? 400_000 : 120_000 },
    async () => {
      const { a, b } = await wireguardPair(lab, ['sealane', 'sealane'], { bEnv: calls.env });
      const arrivals = new Arrivals(b.host, b);
      // What is sent asks for no answer.
      const flooding = a.host.start('node', ['-e', FLOOD, INNER.b4]);
      const usual = await usualRate(arrivals);
      const before = residentOf(b);
      calls.fail('write', 'EAGAIN', 2 ** 31 - 1);
      let most = 0;
      const stalledUntil = performance.now() + STALLED_SECONDS * 1_000;
      await until(
        'the end of the stall',
        () => {
          most = Math.max(most, residentOf(b));
          return performance.now() > stalledUntil;
        },
        (STALLED_SECONDS + 60) * 1_000,
      );
      expect(calls.failed('write')).toBeGreaterThan(100 * STALLED_SECONDS);
      calls.fail('write', 'EAGAIN', 0);
      const released = Date.now();
      await sleep(TAIL * 1_000);
      expect(await flooding.stop()).toBe(0);
      tell('an interface that took nothing', arrivals, usual, released);
      await arrivals.stop();
      expect(Number(flooding.stdout)).toBeGreaterThan(1_000 * STALLED_SECONDS);
      expect(most - before).toBeLessThan(MOST_GROWTH);
      const fault = b.lane === 'linux' ? 'device-write-failed EAGAIN' : 'device-write-failed';
      expect((await faultsOf(b))[fault]).toBeGreaterThan(100 * STALLED_SECONDS);
      await until('pings to pass', async () => (await ping(a.host, INNER.b4)).received === 5);
      expect(b.process.child.exitCode).toBeNull();
    },
  );

  it(
    `wireguard-go 867a4c4, 113c8f1; tailscale #11382: a program stopped for ${STALLED_SECONDS} s at full rate`,
    { timeout: FULL ? 400_000 : 120_000 },
    async () => {
      const { a, b } = await wireguardPair(lab, ['sealane', 'sealane']);
      expect((await ping(a.host, INNER.b4)).received).toBe(5);
      const arrivals = new Arrivals(b.host, b);
      const flooding = a.host.start('node', ['-e', FLOOD, INNER.b4]);
      const usual = await usualRate(arrivals);
      const before = residentOf(b);
      b.process.child.kill('SIGSTOP');
      await sleep(STALLED_SECONDS * 1_000);
      b.process.child.kill('SIGCONT');
      const released = Date.now();
      await sleep(TAIL * 1_000);
      expect(await flooding.stop()).toBe(0);
      tell('a program that stood still', arrivals, usual, released);
      await arrivals.stop();
      expect(Number(flooding.stdout)).toBeGreaterThan(1_000 * STALLED_SECONDS);
      await until('pings to pass', async () => (await ping(a.host, INNER.b4)).received === 5);
      for (const device of [a, b]) expect(device.process.child.exitCode).toBeNull();
      expect(residentOf(b) - before).toBeLessThan(MOST_GROWTH);
    },
  );
});

/** Sends datagrams to an address as fast as it may until it is told to end, and prints how many. */
const FLOOD = `
const socket = require('node:dgram').createSocket('udp4');
const message = Buffer.alloc(1372);
let sent = 0;
let ended = false;
process.on('SIGTERM', () => (ended = true));
socket.on('error', () => undefined);
socket.connect(9, process.argv[1], function burst() {
  for (let i = 0; i < 64; i++) socket.send(message, () => undefined);
  sent += 64;
  if (!ended) setImmediate(burst);
  else socket.close(() => console.log(sent));
});
`;
