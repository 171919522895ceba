/** The control socket of a running server: one line of JSON in, one line of JSON out, then the end. */
import { chmodSync } from 'node:fs';
import { createConnection, createServer, type Server, type Socket } from 'node:net';
import { errorCode, errorLine, RefusedError } from '../errors.ts';
import { removeFile } from '../state/file.ts';

export const CONTROL_OPERATIONS = ['reload', 'status'] as const;
export type ControlOperation = (typeof CONTROL_OPERATIONS)[number];

export type ControlHandlers = Readonly<Record<ControlOperation, () => Promise<unknown>>>;

type Answer = { readonly ok: true; readonly value: unknown } | { readonly ok: false; readonly error: string };

/** sun_path of sockaddr_un holds 108 bytes with its final zero. */
const LONGEST_PATH = 107;
const LONGEST_REQUEST = 256;
const REQUEST_TIMEOUT = 5_000;
const ANSWER_TIMEOUT = 15_000;
const CONNECTIONS = 64;

/**
 * Serves the socket (mode 0600). The caller is the only server of the folder, so a socket that is there is a dead one's.
 * @throws RefusedError when the socket cannot be made.
 */
export async function serveControl(path: string, handlers: ControlHandlers): Promise<{ close(): Promise<void> }> {
  if (new TextEncoder().encode(path).length > LONGEST_PATH) {
    throw new RefusedError(`${path} is too long for a socket (${LONGEST_PATH} bytes): use a shorter --state`);
  }
  removeFile(path);
  const connections = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    connections.add(socket);
    socket.on('close', () => connections.delete(socket));
    answerOne(socket, handlers);
  });
  server.maxConnections = CONNECTIONS;
  await listen(server, path);
  chmodSync(path, 0o600);
  return {
    close: () =>
      new Promise((resolve) => {
        for (const socket of connections) socket.destroy();
        server.close(() => resolve());
      }),
  };
}

/**
 * Asks the server that runs on the folder; `undefined` when none listens there.
 * @throws RefusedError when one listens but does not do it.
 */
export function requestControl(path: string, operation: ControlOperation): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const socket = createConnection({ path });
    let text = '';
    socket.setEncoding('utf8');
    socket.setTimeout(ANSWER_TIMEOUT, () => socket.destroy(new Error('no answer')));
    socket.on('connect', () => socket.end(`${operation}\n`));
    socket.on('data', (chunk: string) => (text += chunk));
    socket.on('error', (error) => {
      const code = errorCode(error);
      if (code === 'ENOENT' || code === 'ECONNREFUSED') resolve(undefined);
      else reject(new RefusedError(`the running server cannot be reached: ${errorLine(error)}`, { cause: error }));
    });
    socket.on('end', () => {
      const answer = parseAnswer(text);
      if (answer?.ok === true) resolve(answer.value);
      else reject(new RefusedError(`the running server did not do it: ${answer?.error ?? 'it ended the connection'}`));
    });
  });
}

function answerOne(socket: Socket, handlers: ControlHandlers): void {
  let text = '';
  const giveUp = setTimeout(() => socket.destroy(), REQUEST_TIMEOUT);
  socket.setEncoding('utf8');
  socket.on('error', () => socket.destroy());
  socket.on('close', () => clearTimeout(giveUp));
  socket.on('data', (chunk: string) => {
    text += chunk;
    if (text.length > LONGEST_REQUEST) socket.destroy();
  });
  socket.on('end', () => {
    clearTimeout(giveUp);
    socket.setTimeout(REQUEST_TIMEOUT, () => socket.destroy());
    void perform(text.trim(), handlers).then((answer) => socket.end(`${JSON.stringify(answer)}\n`));
  });
}

async function perform(text: string, handlers: ControlHandlers): Promise<Answer> {
  const operation = CONTROL_OPERATIONS.find((known) => known === text);
  if (operation === undefined) return { ok: false, error: 'unknown operation' };
  try {
    return { ok: true, value: await handlers[operation]() };
  } catch (error) {
    return { ok: false, error: errorLine(error) };
  }
}

function parseAnswer(text: string): Answer | undefined {
  try {
    return JSON.parse(text) as Answer;
  } catch {
    return undefined;
  }
}

function listen(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error) => reject(new RefusedError(`${path}: ${error.message}`, { cause: error })));
    server.listen(path, () => {
      server.removeAllListeners('error');
      resolve();
    });
  });
}
