/** What one process at a time has in a network namespace. It goes with the process, however that ends, and leaves no file (unix(7), abstract). */
import { createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { errorCode } from '../errors.ts';

const RETRY_MS = 10;

/** Resolves to how to give it back; undefined while another process has it. A system without such names lets everybody have it. */
export function claim(what: string): Promise<(() => void) | undefined> {
  // Any user may connect, and is to cost nothing.
  const server = createServer((socket) => socket.destroy()).unref();
  return new Promise((resolve) => {
    server.on('error', (error) => resolve(errorCode(error) === 'EADDRINUSE' ? undefined : () => undefined));
    server.listen({ path: `\0sealane ${what}`, backlog: 1 }, () => resolve(() => server.close()));
  });
}

/** Does the work while nobody else does it, or when another process has been at it for `patience` ms: any user can hold a name for ever. */
export async function alone<T>(what: string, patience: number, work: () => Promise<T>): Promise<T> {
  let release = await claim(what);
  for (let waited = 0; release === undefined && waited < patience; waited += RETRY_MS) {
    await sleep(RETRY_MS);
    release = await claim(what);
  }
  try {
    return await work();
  } finally {
    release?.();
  }
}
