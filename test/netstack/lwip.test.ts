/** The stack opposite lwIP, over a relay that loses, delays, reorders and repeats packets. */
import type { TcpConnection } from '@sealane/netstack';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Drain } from '../../packages/netstack/test/support/sim.ts';
import { until } from '../support/lab.ts';
import { Both } from './both.ts';
import { buildLwip, LWIP, LWIP_ECHO_PORT, LwipPeer, missingLwip } from './lwip.ts';
import { address, type Faults, type RelayOptions, STACK } from './relay.ts';

const lacking = missingLwip();
const KIBIBYTE = 2 ** 10;

let built: ReturnType<typeof buildLwip> | undefined;
beforeAll(() => {
  if (lacking === undefined) built = buildLwip();
});
afterAll(() => built?.remove());

/** Runs `body` with lwIP opposite a stack; afterwards the stack must have nothing left, and nothing was damaged. */
async function opposite(options: RelayOptions, body: (peer: LwipPeer) => Promise<void>): Promise<void> {
  await using peer = await LwipPeer.open(built!.program, options);
  await body(peer);
  const { stack } = peer.relay;
  peer.relay.faults = {};
  await until('the stack to have closed its connections', () => stack.status().connections === 0);
  const { drops } = stack;
  expect(drops['malformed-ip'] + drops['malformed-transport'] + drops['bad-checksum']).toBe(0);
  expect(stack.status().bufferBytes).toBe(0);
}

/** lwIP dials, and is dialled, at the same time; each connection carries `bytes` both ways at once. Returns how many the stack received. */
async function exchange(peer: LwipPeer, family: 4 | 6, bytes: number): Promise<number> {
  const { stack } = peer.relay;
  const answering = new Both(bytes);
  const dialling = new Both(bytes);
  const listener = stack.listen({ port: 80 }, (incoming) => void incoming.accept(answering));
  peer.command(`listen 81 ${bytes} end`);
  peer.command(`connect ${STACK[family]} 80 ${bytes} end`);
  stack.connect({ address: address(LWIP[family]), port: 81 }, dialling);
  const talks = await peer.talks(2);
  await until('both connections to close', () => answering.closed && dialling.closed);
  listener.close();
  for (const talk of talks) expect(talk).toEqual({ received: bytes, wrongAt: -1, ended: true, error: 0 });
  for (const { drain, error } of [answering, dialling])
    expect([drain.received, drain.wrongAt, error]).toEqual([bytes, -1, undefined]);
  return answering.drain.received + dialling.drain.received;
}

const LINKS: readonly [string, Faults, number][] = [
  ['a clean link', {}, 4096 * KIBIBYTE],
  ['loss of 2 %', { loss: 0.02 }, 128 * KIBIBYTE],
  ['5 ms of delay, reordered by 3', { delay: 5, jitter: 3 }, 512 * KIBIBYTE],
  ['every tenth packet twice', { duplicate: 0.1, delay: 1 }, 1024 * KIBIBYTE],
  ['all of that', { loss: 0.01, delay: 3, jitter: 2, duplicate: 0.05 }, 128 * KIBIBYTE],
];

describe.skipIf(lacking !== undefined)(`lwIP (${lacking ?? 'is here'})`, () => {
  describe('exchanges streams in both directions at once', () => {
    for (const [name, faults, bytes] of LINKS) {
      for (const family of [4, 6] as const) {
        it(`over ${name}, IPv${family}`, () =>
          opposite({ faults }, async (peer) => expect(await exchange(peer, family, bytes)).toBe(2 * bytes)));
      }
    }

    it('with an MTU of 576', () =>
      opposite({ mtu: 576 }, async (peer) => expect(await exchange(peer, 4, 512 * KIBIBYTE)).toBe(1024 * KIBIBYTE)));

    it('50 at a time', () =>
      opposite({}, async (peer) => {
        const handlers: Both[] = [];
        peer.relay.stack.listen({ port: 80 }, (incoming) => {
          handlers.push(new Both(20_000));
          incoming.accept(handlers.at(-1)!);
        });
        for (let i = 0; i < 50; i++) peer.command(`connect ${STACK[i % 2 === 0 ? 4 : 6]} 80 20000 end`);
        for (const talk of await peer.talks(50))
          expect(talk).toEqual({ received: 20_000, wrongAt: -1, ended: true, error: 0 });
        await until('all to close', () => handlers.every(({ closed }) => closed));
        for (const { drain } of handlers) expect([drain.received, drain.wrongAt]).toEqual([20_000, -1]);
      }));
  });

  describe('ends a connection', () => {
    it('that the stack half-closed first', () =>
      opposite({}, async (peer) => {
        peer.command(`listen 81 ${256 * KIBIBYTE} after`);
        const near = new Both(1000);
        peer.relay.stack.connect({ address: address(LWIP[4]), port: 81 }, near);
        expect(await peer.talks()).toEqual([{ received: 1000, wrongAt: -1, ended: true, error: 0 }]);
        await until('the connection to close', () => near.closed);
        expect([near.drain.received, near.drain.wrongAt, near.error]).toEqual([256 * KIBIBYTE, -1, undefined]);
      }));

    it('that it half-closed first, and reads on', () =>
      opposite({}, async (peer) => {
        const near = new Both(256 * KIBIBYTE);
        let connection: TcpConnection | undefined;
        peer.relay.stack.listen({ port: 80 }, (incoming) => {
          connection = incoming.accept({ onReadable: (c) => near.drain.onReadable(c) });
        });
        peer.command(`connect ${STACK[6]} 80 1000 end`);
        await until('lwIP to have ended', () => connection?.hasEnded === true);
        connection!.handler = near;
        near.source.pump(connection!);
        peer.relay.turnSoon();
        expect(await peer.talks()).toEqual([{ received: 256 * KIBIBYTE, wrongAt: -1, ended: true, error: 0 }]);
        await until('the connection to close', () => near.closed);
        expect([near.drain.received, near.error]).toEqual([1000, undefined]);
      }));

    it('with a reset', () =>
      opposite({}, async (peer) => {
        peer.command('listen 81 0 reset');
        const near = new Both(1000);
        peer.relay.stack.connect({ address: address(LWIP[4]), port: 81 }, near);
        await until('the connection to close', () => near.closed);
        expect(near.error).toBe('ECONNRESET');
      }));

    it('that the stack resets', () =>
      opposite({}, async (peer) => {
        peer.relay.stack.listen({ port: 80 }, (incoming) => {
          incoming.accept({ onReadable: (connection) => connection.abort() });
        });
        peer.command(`connect ${STACK[4]} 80 1000 after`);
        // ERR_RST.
        expect(await peer.talks()).toMatchObject([{ error: -14 }]);
      }));

    it('that it may not even open', () =>
      opposite({}, async (peer) => {
        for (const family of [4, 6] as const) {
          peer.command(`connect ${STACK[family]} 80 0 end`);
          expect(await peer.talks()).toMatchObject([{ received: 0, error: -14 }]);
          const near = new Both(0);
          peer.relay.stack.connect({ address: address(LWIP[family]), port: 99 }, near);
          await until('the answer', () => near.closed);
          expect(near.error).toBe('ECONNREFUSED');
        }
      }));
  });

  describe('with a shut window', () => {
    it('of its own, gets all once it opens', () =>
      opposite({}, async (peer) => {
        const total = 2048 * KIBIBYTE;
        peer.command('listen 81 0 pause');
        const near = new Both(total);
        const connection = peer.relay.stack.connect({ address: address(LWIP[4]), port: 81 }, near);
        let before = -1;
        await until('the window to shut', async () => {
          const isStuck = near.source.sent === before;
          before = near.source.sent;
          await new Promise((resolve) => setTimeout(resolve, 500));
          return isStuck && before > 0;
        });
        expect(before).toBeLessThan(total);
        expect(connection.pendingLength).toBeGreaterThan(0);
        peer.command('open');
        await until('the connection to close', () => near.closed);
        expect(await peer.talks()).toEqual([{ received: total, wrongAt: -1, ended: true, error: 0 }]);
        expect(near.error).toBeUndefined();
      }));

    it('of the stack, sends all once it opens', () =>
      opposite({ tcp: { receiveBuffer: 32 << 10, maxReceiveBuffer: 32 << 10 } }, async (peer) => {
        const total = 512 * KIBIBYTE;
        const near = new Drain(1);
        near.paused = true;
        let connection: TcpConnection | undefined;
        peer.relay.stack.listen({ port: 80 }, (incoming) => {
          connection = incoming.accept(near);
        });
        peer.command(`connect ${STACK[6]} 80 ${total} end`);
        let before = -1;
        await until('the window to shut', async () => {
          await new Promise((resolve) => setTimeout(resolve, 500));
          const isStuck = connection?.readableLength === before;
          before = connection?.readableLength ?? -1;
          return isStuck;
        });
        expect(before).toBeGreaterThan(10_000);
        expect(before).toBeLessThan(total);
        near.paused = false;
        near.onReadable(connection!);
        peer.relay.turnSoon();
        expect(await peer.talks()).toMatchObject([{ received: 0, ended: true, error: 0 }]);
        await until('the connection to close', () => near.closed);
        expect([near.received, near.wrongAt, near.error]).toEqual([total, -1, undefined]);
      }));
  });

  it('echoes datagrams, in fragments too, and answers pings', () =>
    opposite({}, async ({ relay: { stack } }) => {
      for (const family of [4, 6] as const) {
        const heard: number[] = [];
        const socket = stack.bindUdp({ onMessage: (data) => void heard.push(data.length) });
        // lwIP puts at most a few fragments together.
        for (const size of [0, 1, 1400, 4000]) {
          socket.send(new Uint8Array(size).fill(7), { address: address(LWIP[family]), port: LWIP_ECHO_PORT });
          await until(`the echo of ${size} bytes over IPv${family}`, () => heard.at(-1) === size);
        }
        const replies: number[] = [];
        stack.onEchoReply = ({ sequence, data }) => void replies.push(sequence, data.length);
        stack.ping(address(LWIP[family]), 1, 5, new Uint8Array(56));
        await until('the reply', () => replies.length > 0);
        expect(replies).toEqual([5, 56]);
        const refused: string[] = [];
        const deaf = stack.bindUdp({ onMessage: () => undefined, onUnreachable: (_to, why) => void refused.push(why) });
        deaf.send(new Uint8Array(1), { address: address(LWIP[family]), port: 9 });
        await until('the refusal', () => refused.length > 0);
        expect(refused).toEqual(['port-unreachable']);
      }
    }));
});
