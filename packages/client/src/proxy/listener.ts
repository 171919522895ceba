/** Sockets of this computer that wait for clients. */
import { existsSync } from 'node:fs';
import { dirname } from 'node:path';
import { lstat, unlink } from 'node:fs/promises';
import { connect, type AddressInfo, type Server } from 'node:net';
import { CliError, errorCode, EXIT } from '../errors.ts';
import { formatTarget, type ListenAddress } from './address.ts';

export interface Listener {
  /** `address:port` or the path. */
  readonly where: string;
  close(): Promise<void>;
}

/** Sockets stay private to their owner whatever the umask is. */
const SOCKET_UMASK = 0o177;

/** Makes a server listen and remembers its connections, so that closing ends them. CliError for an address in use or refused. */
export async function listen(server: Server, address: ListenAddress, maxClients: number): Promise<Listener> {
  const clients = new Set<{ destroy(): void }>();
  server.maxConnections = maxClients;
  server.on('connection', (socket) => {
    clients.add(socket);
    socket.once('close', () => clients.delete(socket));
  });
  if (address.kind === 'path') await removeStale(address.path);
  try {
    await bind(server, address);
  } catch (cause) {
    throw listenError(address, cause);
  }
  const bound = server.address();
  const { address: host, port } = (typeof bound === 'object' ? bound : undefined) ?? ({} as Partial<AddressInfo>);
  const where =
    host === undefined || port === undefined ? formatTarget(address) : formatTarget({ kind: 'port', host, port });
  const close = (): Promise<void> =>
    new Promise((resolve) => {
      server.close(() => resolve());
      for (const client of clients) client.destroy();
    });
  return { where, close };
}

export function listenError(address: ListenAddress, cause: unknown): CliError {
  const where = formatTarget(address);
  let code = errorCode(cause);
  // libuv says so of a folder that is missing, too.
  if (code === 'EACCES' && address.kind === 'path' && !existsSync(dirname(address.path))) code = 'ENOENT';
  const why: Readonly<Record<string, string>> = {
    EADDRINUSE: 'it is in use',
    EACCES: address.kind === 'path' ? 'no permission to make a socket there' : 'no permission: use a port above 1023',
    EADDRNOTAVAIL: 'this computer does not have that address',
    ENOENT: 'its folder does not exist',
  };
  const exitCode = code === 'EACCES' ? EXIT.noPermission : EXIT.failure;
  return new CliError(exitCode, `cannot listen on ${where}: ${why[code ?? ''] ?? code ?? String(cause)}`, {
    cause,
  });
}

function bind(server: Server, address: ListenAddress): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    const onListening = (): void => {
      server.removeListener('error', reject);
      resolve();
    };
    if (address.kind === 'port') {
      server.listen({ port: address.port, host: address.host }, onListening);
      return;
    }
    const umask = process.umask(SOCKET_UMASK);
    try {
      server.listen({ path: address.path }, onListening);
    } finally {
      process.umask(umask);
    }
  });
}

/** A socket file that nobody answers on is what a killed process left behind. */
async function removeStale(path: string): Promise<void> {
  const stats = await lstat(path).catch(() => undefined);
  if (stats?.isSocket() !== true) return;
  const isStale = await new Promise<boolean>((resolve) => {
    const probe = connect({ path });
    probe.once('connect', () => {
      probe.destroy();
      resolve(false);
    });
    probe.once('error', (error) => resolve(errorCode(error) === 'ECONNREFUSED'));
  });
  if (isStale) await unlink(path);
}
