/**
 * The control socket that `wg` speaks (wireguard.com/xplatform), with Sealane's own operations beside `get=1` and
 * `set=1`: `status=1` (one line `json=...`), `rekey=<hex key|all>` (one line `handshakes=N`), `reload=1`
 * (with a line `file=<absolute path>` if it is to be another file; refused with a line `reason=...`), `shutdown=1`.
 * A request is an operation line, its lines, and a blank line; the answer is lines, `errno=N` and a blank line.
 */
import { once } from 'node:events';
import { chmod, lstat } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { type DeviceSecrets, wipe } from '@sealane/protocol';
import type { LaneStatus, TunnelUpdate } from '../model.ts';
import { mayControl } from './authorize.ts';
import { asciiBytes, asciiText, LineSplitter, LineTooLongError, parseHexKey } from './bytes.ts';
import { ERRNO, errnoOf, UapiError } from './error.ts';
import { encodeGet } from './get.ts';
import { claimPath, prepareFolder, releasePath, temporaryPath } from './paths.ts';
import { reportStatus } from './report.ts';
import { SetOperation } from './set.ts';
import { errorMessage } from '../os-error.ts';
import { oneLine } from '../text/format.ts';

/** Longest line of a request. */
export const MAX_LINE = 1_024;
/** Longest request: 65,536 peers with preshared key and ten allowed IPs each. */
export const MAX_REQUEST: number = 64 * 1024 * 1024;

/** Connections that may wait to be accepted; past it a client is told to try again. */
const BACKLOG = 1_024;

/** What a control socket needs of a tunnel. */
export interface ControlledTunnel {
  configure(update: TunnelUpdate): Promise<void>;
  status(): Promise<LaneStatus & { readonly name: string }>;
  secrets(): Promise<DeviceSecrets>;
  rekey(publicKey?: Uint8Array): Promise<number>;
}

export interface ControlHandlers {
  /** For `shutdown=1`, called once its answer is out. Without it the operation is refused. */
  readonly shutdown?: () => void;
  /** For `reload=1`: reads the configuration again, from another file if its line `file=` says so. Without it the operation is refused. */
  readonly reload?: (file?: string) => Promise<void>;
}

export interface ControlServer {
  readonly path: string;
  /** Ends every connection and removes the socket. */
  close(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/**
 * Serves a tunnel on a unix socket of mode 0600, to our own user and root. Takes over what a killed program left; throws when the path is in
 * use, or when its folder is open to others.
 */
export async function serveControl(
  tunnel: ControlledTunnel,
  path: string,
  handlers: ControlHandlers = {},
): Promise<ControlServer> {
  await prepareFolder(path);
  const connections = new Set<Socket>();
  const control = new Control(tunnel, handlers);
  // Half-open, so that a client may end its side behind a request and still be answered.
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => undefined);
    connections.add(socket);
    socket.once('close', () => connections.delete(socket));
    const served = mayControl(socket) ? control.serve(socket) : Promise.resolve();
    void served.finally(() => socket.destroy());
  });
  const temporary = temporaryPath(path);
  await listen(server, temporary, path);
  let inode: number;
  try {
    await chmod(temporary, 0o600);
    inode = (await lstat(temporary)).ino;
    await claimPath(temporary, path);
  } catch (error) {
    server.close();
    throw error;
  }
  let closing: Promise<void> | undefined;
  const close = async (): Promise<void> => {
    try {
      await releasePath(path, inode);
    } finally {
      server.close();
      for (const socket of connections) socket.destroy();
      await once(server, 'close');
    }
  };
  const closeOnce = (): Promise<void> => (closing ??= close());
  return { path, close: closeOnce, [Symbol.asyncDispose]: closeOnce };
}

async function listen(server: Server, temporary: string, path: string): Promise<void> {
  const listening = once(server, 'listening');
  // Binding happens within this call, so the mask covers it and nothing else.
  const before = setMask(0o077);
  server.listen({ path: temporary, backlog: BACKLOG });
  if (before !== undefined) setMask(before);
  try {
    await listening;
  } catch (cause) {
    throw new Error(`cannot open control socket ${path}: ${errorMessage(cause)}`, { cause });
  }
}

/** Worker threads may not change the mask; there the folder of mode 0700 has to do until chmod. */
function setMask(mask: number): number | undefined {
  try {
    return process.umask(mask);
  } catch {
    return undefined;
  }
}

/** A request that ends the connection, because what follows on it can no longer be told apart. */
class Unreadable extends UapiError {}

type Operation = { readonly end: () => Promise<Answer>; readonly line?: (line: Uint8Array) => void; wipe?: () => void };

interface Answer {
  /** Lines before errno; wiped once they are out. */
  readonly body?: Uint8Array;
  /** Called once the answer is out. */
  readonly afterwards?: () => void;
}

class Control {
  readonly #tunnel: ControlledTunnel;
  readonly #handlers: ControlHandlers;
  /** One change at a time, and no answer that shows half of one. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(tunnel: ControlledTunnel, handlers: ControlHandlers) {
    this.#tunnel = tunnel;
    this.#handlers = handlers;
  }

  async serve(socket: Socket): Promise<void> {
    const splitter = new LineSplitter(MAX_LINE);
    let request: Request | undefined;
    try {
      for await (const chunk of socket.iterator({ destroyOnReturn: false }) as AsyncIterable<Uint8Array>) {
        for (const line of splitter.push(chunk)) {
          if (request === undefined) request = new Request(this.#begin(line));
          else if (!request.take(line)) continue;
          else {
            const finished = request;
            request = undefined;
            await answer(socket, await this.#finish(finished));
          }
        }
      }
      // The end of the stream is not the end of a request: half of one is never applied.
      if (request !== undefined || !splitter.isEmpty) throw new Unreadable(ERRNO.EPROTO, 'request cut off');
      socket.end();
    } catch (error) {
      if (error instanceof LineTooLongError) await refuse(socket, ERRNO.EIO);
      else if (error instanceof Unreadable) await refuse(socket, error.errno);
    } finally {
      request?.wipe();
      splitter.wipe();
    }
  }

  #begin(line: Uint8Array): Operation {
    const text = asciiText(line);
    switch (text) {
      case 'get=1':
        return { end: () => this.#get() };
      case 'set=1':
        return this.#set();
      case 'status=1':
        return { end: () => this.#status() };
      case 'reload=1':
        return this.#reload();
      case 'shutdown=1':
        return { end: () => this.#shutdown() };
    }
    if (text.startsWith('rekey=')) {
      const which = Uint8Array.from(line.subarray('rekey='.length));
      return { end: () => this.#rekey(which) };
    }
    throw new Unreadable(ERRNO.EINVAL, 'unknown operation');
  }

  async #finish(request: Request): Promise<Answer & { readonly errno: number }> {
    try {
      if (request.error !== undefined) throw request.error;
      return { errno: 0, ...(await this.#inTurn(request.operation.end)) };
    } catch (error) {
      const reason = error instanceof UapiError ? error.reason : undefined;
      const body = reason === undefined ? {} : { body: new TextEncoder().encode(`reason=${oneLine(reason)}\n`) };
      return { errno: errnoOf(error), ...body };
    } finally {
      request.wipe();
    }
  }

  #inTurn<T>(action: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(action);
    this.#turn = result.catch(() => undefined);
    return result;
  }

  async #get(): Promise<Answer> {
    const status = await this.#tunnel.status();
    const secrets = await this.#tunnel.secrets();
    try {
      return { body: encodeGet(status, secrets) };
    } finally {
      wipe(secrets.privateKey, ...secrets.presharedKeys.map((entry) => entry.presharedKey));
    }
  }

  #set(): Operation {
    const operation = new SetOperation();
    return {
      line: (line) => operation.add(line),
      end: async () => {
        await this.#tunnel.configure(operation.finish());
        return {};
      },
      wipe: () => operation.wipe(),
    };
  }

  async #status(): Promise<Answer> {
    return { body: new TextEncoder().encode(`json=${JSON.stringify(reportStatus(await this.#tunnel.status()))}\n`) };
  }

  async #rekey(which: Uint8Array): Promise<Answer> {
    const all = asciiText(which) === 'all';
    const key = all ? undefined : parseHexKey(which);
    if (!all && key === undefined) throw new UapiError(ERRNO.EINVAL, 'invalid rekey');
    return { body: asciiBytes(`handshakes=${await this.#tunnel.rekey(key)}\n`) };
  }

  #reload(): Operation {
    let file: string | undefined;
    return {
      line: (line) => {
        const text = new TextDecoder().decode(line);
        if (file !== undefined || !text.startsWith('file=/')) throw new UapiError(ERRNO.EINVAL, 'invalid reload');
        file = text.slice('file='.length);
      },
      end: async () => {
        const { reload } = this.#handlers;
        if (reload === undefined) throw new UapiError(ERRNO.EOPNOTSUPP, 'no reload here');
        try {
          await reload(file);
        } catch (error) {
          const why = errorMessage(error);
          throw new UapiError(errnoOf(error), why, why);
        }
        return {};
      },
    };
  }

  async #shutdown(): Promise<Answer> {
    const { shutdown } = this.#handlers;
    if (shutdown === undefined) throw new UapiError(ERRNO.EOPNOTSUPP, 'no shutdown here');
    return { afterwards: shutdown };
  }
}

/** One request as its lines arrive. After the first error the rest is read and forgotten. */
class Request {
  readonly operation: Operation;
  error: UapiError | undefined;
  #size = 0;

  constructor(operation: Operation) {
    this.operation = operation;
  }

  /** Takes a line; true when it was the blank one that ends the request. */
  take(line: Uint8Array): boolean {
    if (line.length === 0) return true;
    this.#size += line.length + 1;
    if (this.#size > MAX_REQUEST) throw new Unreadable(ERRNO.EIO, 'request too long');
    if (this.error !== undefined) return false;
    try {
      if (this.operation.line === undefined) throw new UapiError(ERRNO.EINVAL, 'operation without lines');
      this.operation.line(line);
    } catch (error) {
      if (!(error instanceof UapiError)) throw error;
      this.error = error;
    }
    return false;
  }

  wipe(): void {
    this.operation.wipe?.();
  }
}

async function answer(socket: Socket, { body, errno, afterwards }: Answer & { readonly errno: number }): Promise<void> {
  if (body !== undefined) await write(socket, body).finally(() => body.fill(0));
  await write(socket, asciiBytes(`errno=${errno === 0 ? 0 : -errno}\n\n`));
  afterwards?.();
}

async function refuse(socket: Socket, errno: number): Promise<void> {
  await answer(socket, { errno }).catch(() => undefined);
  socket.end();
}

/** Resolves once the bytes are handed to the system: a client that does not read waits alone. */
function write(socket: Socket, bytes: Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.write(bytes, (error) => (error ? reject(error) : resolve()));
  });
}
