/** Groups of sockets on one port, over loopback: which lane gets what, and what is left of those that cannot be opened. */
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { promisify } from 'node:util';
import { laneOf } from '@sealane/protocol';
import { describe, expect, it } from 'vitest';
import { closeSockets, openSockets } from '../../src/lane/sockets.ts';
import { addressOf } from '../../src/linux/foreign.ts';
import { lowBuffer } from '../../src/linux/low-memory.ts';
import type { LinuxUdp } from '../../src/linux/udp.ts';

const linux = process.platform === 'linux';
/** Without it there is nothing of that family to test. */
const hasIpv6 = Object.values(networkInterfaces()).some((list) => list?.some(({ family }) => family === 'IPv6'));
const FAMILIES = hasIpv6 ? (['ipv4', 'ipv6'] as const) : (['ipv4'] as const);
const LOOPBACK = { ipv4: '127.0.0.1', ipv6: '::1' } as const;

/** A data message to this receiver index, as long as a keepalive. */
function dataMessage(receiver: number): Uint8Array {
  const bytes = new Uint8Array(32);
  bytes[0] = 4;
  new DataView(bytes.buffer).setUint32(4, receiver, true);
  return bytes;
}

async function bound(type: 'udp4' | 'udp6'): Promise<Socket> {
  const socket = createSocket({ type, ipv6Only: type === 'udp6' }).bind(0);
  await once(socket, 'listening');
  return socket;
}

describe.runIf(linux)('the sockets of several lanes', () => {
  it.each(FAMILIES.flatMap((family) => [2, 3, 4].map((lanes) => [family, lanes] as const)))(
    'get the data messages of their sessions, and lane 0 everything else: %s, %i lanes',
    async (family, lanes) => {
      const sockets = openSockets(0, 0, lanes);
      const sender = createSocket(family === 'ipv4' ? 'udp4' : 'udp6');
      const send = promisify((bytes: Uint8Array, done: (error: Error | null) => void) =>
        sender.send(bytes, sockets.port, LOOPBACK[family], done),
      );
      const memory = new Uint8Array(lowBuffer(2_048));
      const all = [sockets, ...sockets.others].map(({ udp4, udp6 }) => (family === 'ipv4' ? udp4 : udp6)!);
      /** The receiver indexes, or types, of what lies in the queue of one. */
      const taken = (socket: LinuxUdp): readonly number[] => {
        const found: number[] = [];
        while (socket.receive(addressOf(memory), memory.length) > 0) {
          found.push(memory[0] === 4 ? new DataView(memory.buffer).getUint32(4, true) : -memory[0]!);
        }
        return found;
      };
      try {
        const receivers = Array.from({ length: 256 }, (_, low) => ((Math.imul(low, 0x9e37_79b1) & ~0xff) | low) >>> 0);
        for (const receiver of receivers) await send(dataMessage(receiver));
        const got = all.map(taken);
        for (const [lane, indexes] of got.entries()) {
          expect(indexes).toEqual(receivers.filter((receiver) => laneOf(receiver & 0xff, lanes) === lane));
          expect(indexes.length).toBeGreaterThan(50);
        }

        const others = [1, 2, 3, 5, 132, 255].map((type) => {
          const bytes = dataMessage(1);
          bytes[0] = type;
          return bytes;
        });
        // Too short to have a receiver index.
        for (const bytes of [...others, Uint8Array.of(9)]) await send(bytes);
        expect(all.map(taken)).toEqual([[-1, -2, -3, -5, -132, -255, -9], ...all.slice(1).map(() => [])]);
      } finally {
        closeSockets(sockets);
        sender.close();
      }
    },
  );

  it.each(FAMILIES.flatMap((family) => [1, 3].map((lanes) => [family, lanes] as const)))(
    'leave no descriptor when the port is in use: %s, %i lanes',
    async (family, lanes) => {
      const other = await bound(family === 'ipv4' ? 'udp4' : 'udp6');
      const { port } = other.address();
      const count = (): number => readdirSync('/proc/self/fd').length;
      const attempt = (): void => {
        expect(() => openSockets(port, 0, lanes)).toThrow(/is in use: choose another listen port/);
      };
      attempt();
      const before = count();
      for (let i = 0; i < 20; i++) attempt();
      expect(count()).toBe(before);
      other.close();
      await once(other, 'close');
      const sockets = openSockets(port, 0, lanes);
      expect(count()).toBe(before - 1 + FAMILIES.length * lanes);
      closeSockets(sockets);
      expect(count()).toBe(before - 1);
    },
  );
});
