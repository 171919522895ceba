/** A lane beside lane 0 in its real thread, told by this test what lane 0 would tell it. */
import { createSocket } from 'node:dgram';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { promisify } from 'node:util';
import { MessageChannel, Worker, type MessagePort } from 'node:worker_threads';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { dropVerdict } from '@sealane/protocol';
import { openTun, type TunDevice } from '../../src/devices/tun.ts';
import type { DataLaneInput } from '../../src/lane/data-lane.ts';
import { clockOrigin, GONE, type FromDataLane, type ToDataLane } from '../../src/lane/lane-messages.ts';
import { Bell } from '../../src/linux/bell.ts';
import { LinuxUdp } from '../../src/linux/udp.ts';

const root = process.platform === 'linux' && process.getuid!() === 0;
const suffix = process.pid.toString(36);
const NAMESPACE = `sealane-dl-${suffix}`;
const LANE = 1;
const WORKER = new URL('../../dist/lane/data-lane-worker.js', import.meta.url);

describe.runIf(root)('a lane beside lane 0', () => {
  let device: TunDevice;
  let socket: LinuxUdp;
  let worker: Worker;
  let port: MessagePort;
  let bells: readonly [lane: Bell, lane0: Bell];
  let answers: Int32Array<SharedArrayBuffer>;
  let heard: FromDataLane[];

  beforeEach(() => {
    execFileSync('ip', ['netns', 'add', NAMESPACE]);
    device = openTun({ name: `sld${suffix}`, queues: 2 });
    execFileSync('ip', ['link', 'set', device.name, 'netns', NAMESPACE]);
    socket = LinuxUdp.open({ family: 'ipv4', port: 0, mark: 0 })!;
    bells = [Bell.open(), Bell.open()];
    answers = new Int32Array(new SharedArrayBuffer(8));
    const { port1, port2 } = new MessageChannel();
    port = port1;
    heard = [];
    port.on('message', (message: FromDataLane) => heard.push(message));
    const workerData: DataLaneInput = {
      lane: LANE,
      queues: device.queues,
      udpOffload: false,
      crypto: 'noble',
      port: port2,
      bell: bells[0].fd,
      answerBell: bells[1].fd,
      answers: answers.buffer,
    };
    worker = new Worker(WORKER, { workerData, transferList: [port2], execArgv: [] });
  });

  afterEach(async () => {
    tell({ type: 'close' });
    bells[0].ring();
    if (worker.threadId > 0) await once(worker, 'exit');
    port.close();
    socket.close();
    for (const bell of bells) bell.close();
    await device.close();
    execFileSync('ip', ['netns', 'del', NAMESPACE]);
  });

  /** Without the bell, as what is on its way. */
  function tell(...messages: readonly ToDataLane[]): void {
    for (const message of messages) port.postMessage(message);
  }

  const answer = (turn: number): Promise<void> =>
    expect.poll(() => Atomics.load(answers, LANE), { timeout: 20_000 }).toBe(turn);

  it('does what it learnt of in the middle of a batch, and before what it is told later', async () => {
    const { fd, family, canSegment, canJoin } = socket;
    const udp4 = { fd, family, port: socket.port, canSegment, canJoin };
    tell(
      { type: 'clock', origin: clockOrigin() },
      { type: 'system', mtu: 1_420, mark: 0 },
      { type: 'changes', changes: [{ type: 'device', hasIdentity: true, mtu: 1_420 }] },
      { type: 'sockets', sockets: { port: socket.port, udp4, udp6: undefined } },
      { type: 'settle', turn: 1 },
    );
    bells[0].ring();
    await answer(1);

    // Unknown sessions make it look whether it was told of them: all that is here is taken then, and the rest deferred.
    tell({ type: 'settle', turn: 2 }, { type: 'changes', changes: [] }, { type: 'settle', turn: 3 });
    const before = heard.length;
    const sender = createSocket('udp4');
    const bytes = new Uint8Array(32);
    bytes.set([4, 0, 0, 0, LANE, 7]);
    await promisify((done: (error: Error | null) => void) => sender.send(bytes, socket.port, '127.0.0.1', done))();
    sender.close();
    const drops = (): unknown => heard.flatMap((one) => (one.type === 'report' ? (one.report?.drops ?? []) : []));
    await expect.poll(drops, { timeout: 20_000 }).toEqual([[dropVerdict('unknown-index'), 1]]);
    expect([Atomics.load(answers, LANE), heard.length - before]).toEqual([1, 1]);

    tell({ type: 'settle', turn: 4 });
    bells[0].ring();
    // Each is answered with a report: the last is the last that was told.
    await expect.poll(() => heard.length - before, { timeout: 20_000 }).toBe(4);
    await answer(4);
    tell({ type: 'close' });
    bells[0].ring();
    await answer(GONE);
  });
});
