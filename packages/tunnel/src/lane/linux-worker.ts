/** The thread of the Linux lane: runs the packet loop until it is told to end. */
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { wipe, type DeviceSecrets } from '@sealane/protocol';
import {
  packError,
  type Answer,
  type FromWorker,
  type Request,
  type ToWorker,
  type WorkerInput,
} from './linux-messages.ts';
import { releaseLowMemory } from '../linux/low-memory.ts';
import { holdCapabilities, takeCapabilities } from '../linux/user.ts';
import { endLanes } from './data-lanes.ts';
import { PacketLoop } from './packet-loop.ts';
import { unpackUpdate } from './packed-update.ts';

if (parentPort === null) throw new Error('this module runs as a worker thread only');

const input = workerData as WorkerInput;
const { port } = input;
const post = (message: FromWorker): void => port.postMessage(message, []);

const gone = (error: Error | undefined): void => {
  post({ type: 'gone', error: error === undefined ? undefined : packError(error) });
};

try {
  const onWritten = (path: string): void => post({ type: 'written', path });
  run(new PacketLoop(input, { onEvent: (event) => post({ type: 'event', event }), onGone: gone, onWritten }));
} catch (error) {
  endLanes(input);
  gone(error instanceof Error ? error : new Error(String(error)));
}
port.close();
releaseLowMemory();

function run(loop: PacketLoop): void {
  const answers: { readonly [T in Request['type']]: (request: Extract<Request, { readonly type: T }>) => Answer } = {
    configure: ({ update: packed }) => {
      const update = unpackUpdate(packed);
      try {
        loop.configure(update);
      } finally {
        // Moved here with the message: the device has its own.
        wipe(update.privateKey, ...(update.peers ?? []).map(({ presharedKey }) => presharedKey));
      }
      return undefined;
    },
    status: () => loop.status(),
    secrets: () => loop.secrets(),
    rekey: ({ publicKey, probed }) => loop.rekey(publicKey, probed),
    hold: () => {
      holdCapabilities();
      return undefined;
    },
    take: ({ keep }) => {
      takeCapabilities(keep);
      return undefined;
    },
    close: () => {
      loop.end();
      return undefined;
    },
  };

  const answerRequests = (): void => {
    for (;;) {
      const received: { readonly message: ToWorker } | undefined = receiveMessageOnPort(port);
      if (received === undefined) return;
      const { id, request } = received.message;
      try {
        const value = answers[request.type](request as never);
        const secrets = request.type === 'secrets' ? buffersOf(value as DeviceSecrets) : [];
        port.postMessage({ type: 'answer', id, value } satisfies FromWorker, secrets);
      } catch (error) {
        post({ type: 'refusal', id, error: packError(error) });
      }
    }
  };
  loop.run(answerRequests);
}

/** The memory of the secrets, which moves with the message: what is cloned leaves a copy in memory that nobody wipes. */
function buffersOf({ privateKey, presharedKeys }: DeviceSecrets): ArrayBuffer[] {
  const secrets = [...(privateKey === undefined ? [] : [privateKey]), ...presharedKeys.map((one) => one.presharedKey)];
  return secrets.map(({ buffer }) => buffer as ArrayBuffer);
}
