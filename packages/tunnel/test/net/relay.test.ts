/** What a relay makes of a connection that breaks: the other side gets what came before, then a reset. */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { joinConnections, type NetworkStack, openConnection, type StreamSocket } from '@sealane/tunnel';
import { until } from '../../../../test/support/lab.ts';
import { Gate, type Pair, RIGHT, stackPair } from '../support/stacks.ts';

let client: Pair;
let server: Pair;
/** What the client sends waits here while it is shut. */
let gate: Gate;
beforeEach(() => {
  gate = new Gate();
  client = stackPair(gate);
  server = stackPair();
});
afterEach(() => Promise.all([client.close(), server.close()]));

async function serve(network: NetworkStack, listener: (socket: StreamSocket) => void): Promise<number> {
  const listening = network.createServer({ allowHalfOpen: true }, listener).listen({ port: 0 });
  await once(listening, 'listening');
  return (listening.address() as { port: number }).port;
}

/** A client of one pair of stacks, joined in the middle to a server of another. */
async function through(onServed: (socket: StreamSocket) => void): Promise<StreamSocket> {
  const port = await serve(server.right, onServed);
  const middle = await serve(client.right, (near) => {
    void openConnection(server.left, { host: RIGHT, port, allowHalfOpen: true }).then((far) => {
      joinConnections(near, far);
      return undefined;
    });
  });
  return openConnection(client.left, { host: RIGHT, port: middle, allowHalfOpen: true });
}

describe('a relay', () => {
  it.each([100, 60_000, 1_000_000])('delivers the %i bytes that came before a reset, then resets', async (length) => {
    const sent = randomBytes(length);
    const socket = await through((served) => {
      served.on('error', () => undefined);
      served.write(sent, () => {
        // What is not on its way by now, the server itself has dropped.
        void until('the client to have it', () => served.bytesWritten === length && isAcknowledged()).then(() =>
          served.resetAndDestroy(),
        );
      });
    });
    const isAcknowledged = (): boolean => server.rightDevice.stack.status().bufferBytes === 0;
    const received: Uint8Array[] = [];
    let ended = false;
    socket.on('data', (bytes: Uint8Array) => received.push(Uint8Array.from(bytes)));
    socket.once('end', () => (ended = true));
    const failed = new Promise<Error>((resolve) => {
      socket.once('error', resolve);
    });
    expect(await failed).toMatchObject({ code: 'ECONNRESET' });
    expect(Buffer.compare(Buffer.concat(received), sent)).toBe(0);
    expect(ended).toBe(false);
    for (const { leftDevice, rightDevice } of [client, server]) {
      for (const { stack } of [leftDevice, rightDevice]) {
        await until('everything to be over', () => stack.status().connections === 0);
      }
    }
  });

  // The first fits the near connection's buffer, the second does not.
  it.each([100_000, 400_000])('holds %i bytes for as long as the other side is slow to take them', async (length) => {
    const sent = randomBytes(length);
    let served: StreamSocket | undefined;
    const socket = await through((accepted) => {
      served = accepted.on('error', () => undefined);
    });
    await until('both ends to stand', () => served !== undefined);
    gate.shut();
    served!.write(sent);
    void until('the relay to have it', () => server.rightDevice.stack.status().bufferBytes === 0).then(() =>
      served!.resetAndDestroy(),
    );
    const received: Uint8Array[] = [];
    const failed = new Promise<Error>((resolve) => {
      socket.once('error', resolve);
    });
    socket.on('data', (bytes: Uint8Array) => received.push(Uint8Array.from(bytes)));
    await until('the reset to have come', () =>
      [server.leftDevice, server.rightDevice].every(({ stack }) => stack.status().connections === 0),
    );
    await new Promise(setImmediate);
    gate.open();
    expect(await failed).toMatchObject({ code: 'ECONNRESET' });
    expect(Buffer.compare(Buffer.concat(received), sent)).toBe(0);
  });
});
