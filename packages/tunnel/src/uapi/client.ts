/** The other end of a control socket: what the commands ask of a running tunnel. */
import { connect, type Socket } from 'node:net';
import { formatKey, parseKey, type PeerUpdate } from '@sealane/protocol';
import type { TunnelUpdate } from '../model.ts';
import { LineSplitter, LineWriter } from './bytes.ts';
import { ERRNO } from './error.ts';
import { parseReport, type StatusReport } from './report.ts';
import { encodeSet } from './set.ts';
import { errorCode, errorMessage } from '../os-error.ts';
import { oneLine } from '../text/format.ts';

const MAX_ANSWER_LINE = 256 * 1024 * 1024;
const ANSWER_TIMEOUT = 30_000;

/** A request that was refused or not answered. */
export class ControlError extends Error {
  override readonly name = 'ControlError';
  readonly path: string;
  /** The Linux errno of the answer, positive; 0 when there was none. */
  readonly errno: number;
  /** In words for people, of those who said it. */
  readonly reason: string | undefined;

  constructor(
    path: string,
    errno: number,
    message: string,
    { reason, ...options }: ErrorOptions & { readonly reason?: string } = {},
  ) {
    super(message, options);
    this.path = path;
    this.errno = errno;
    this.reason = reason;
  }
}

/**
 * Sends one request, its lines without the blank one, and returns the lines of the answer without errno.
 * Throws a ControlError when nothing serves that path, it refuses, or it is no control socket.
 */
export function requestControl(path: string, lines: readonly string[]): Promise<readonly string[]> {
  return exchange(path, new TextEncoder().encode(`${lines.join('\n')}\n\n`));
}

export async function readStatus(path: string): Promise<StatusReport> {
  const lines = await requestControl(path, ['status=1']);
  const json = lines.find((line) => line.startsWith('json='));
  const report = json === undefined ? undefined : parseReport(json.slice('json='.length));
  if (report === undefined)
    throw new ControlError(path, 0, `${path} answers without a status: it is no Sealane tunnel`);
  return report;
}

/** Begins a handshake with one peer or with all; resolves to how many were begun. */
export async function requestRekey(path: string, publicKey?: Uint8Array): Promise<number> {
  const writer = new LineWriter();
  if (publicKey === undefined) writer.line('rekey=all');
  else writer.hexLine('rekey', publicKey);
  writer.line('');
  const lines = await exchange(path, writer.take());
  return Number(lines.find((line) => line.startsWith('handshakes='))?.slice('handshakes='.length) ?? 0);
}

/** Asks the running tunnel to read its configuration again, or from now on this file (an absolute path). */
export async function requestReload(path: string, file?: string): Promise<void> {
  await requestControl(path, ['reload=1', ...(file === undefined ? [] : [`file=${file}`])]);
}

/** Asks the program behind the socket to end; resolves when it has agreed, not when it is gone. */
export async function requestShutdown(path: string): Promise<void> {
  await requestControl(path, ['shutdown=1']);
}

/**
 * Applies an update as `wg syncconf` does: with `replacePeers`, peers that the update does not name are removed, and
 * the sessions of those that stay live on.
 */
export async function requestConfigure(path: string, update: TunnelUpdate): Promise<void> {
  const removed = update.replacePeers === true ? await unnamedPeers(path, update.peers ?? []) : [];
  await exchange(path, encodeSet({ ...update, peers: [...removed, ...(update.peers ?? [])] }));
}

async function unnamedPeers(path: string, named: readonly PeerUpdate[]): Promise<PeerUpdate[]> {
  const keep = new Set(named.map((peer) => formatKey(peer.publicKey)));
  const { peers } = await readStatus(path);
  return peers.flatMap(({ publicKey }) => {
    const key = keep.has(publicKey) ? undefined : parseKey(publicKey);
    return key === undefined ? [] : [{ publicKey: key, remove: true }];
  });
}

/** Takes ownership of the request and wipes it. */
async function exchange(path: string, request: Uint8Array): Promise<readonly string[]> {
  const socket = connect(path);
  socket.setTimeout(ANSWER_TIMEOUT, () => {
    socket.destroy(new ControlError(path, 0, `${path} does not answer within ${ANSWER_TIMEOUT / 1_000} s`));
  });
  try {
    socket.write(request, () => request.fill(0));
    return await readAnswer(socket, path);
  } catch (error) {
    throw error instanceof ControlError ? error : unreachable(path, error);
  } finally {
    socket.destroy();
  }
}

async function readAnswer(socket: Socket, path: string): Promise<readonly string[]> {
  const lines: string[] = [];
  const splitter = new LineSplitter(MAX_ANSWER_LINE);
  for await (const chunk of socket as AsyncIterable<Uint8Array>) {
    for (const bytes of splitter.push(chunk)) {
      const line = new TextDecoder().decode(bytes);
      const errno = /^errno=(-?\d{1,4})$/.exec(line);
      if (errno === null) lines.push(line);
      else if (Number(errno[1]) === 0) return lines;
      else throw refused(path, Math.abs(Number(errno[1])), lines);
    }
  }
  throw new ControlError(path, 0, `${path} ends the connection without an answer: it does not know this request`);
}

const REASON = 'reason=';

const REASONS: ReadonlyMap<number, string> = new Map([
  [ERRNO.EINVAL, 'a value is not valid'],
  [ERRNO.EPROTO, 'the request is malformed'],
  [ERRNO.EOPNOTSUPP, 'this tunnel does not do that'],
  [ERRNO.EADDRINUSE, 'the UDP port is in use'],
]);

function refused(path: string, errno: number, lines: readonly string[]): ControlError {
  const what = REASONS.get(errno);
  const reason = lines.find((line) => line.startsWith(REASON))?.slice(REASON.length);
  const message = `${path} refuses: ${what === undefined ? '' : `${what} `}(errno ${errno})`;
  return new ControlError(path, errno, message, reason === undefined ? {} : { reason: oneLine(reason) });
}

function unreachable(path: string, cause: unknown): ControlError {
  const code = errorCode(cause);
  const what =
    code === 'ENOENT' || code === 'ECONNREFUSED'
      ? 'no tunnel is running there'
      : code === 'EACCES' || code === 'EPERM'
        ? 'it belongs to another user; run as that user or as root'
        : errorMessage(cause);
  return new ControlError(path, 0, `cannot reach control socket ${path}: ${what}`, { cause });
}
