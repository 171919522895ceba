/**
 * SOCKS version 5: RFC 1928 with CONNECT and UDP ASSOCIATE, RFC 1929 for names and passwords. A reply to CONNECT is
 * sent only when the far side has answered.
 */
import { createServer } from 'node:net';
import { abortConnection, formatAddress, joinConnections, parseAddress, type StreamSocket } from '@sealane/tunnel';
import { errorCode } from '../errors.ts';
import type { ListenAddress } from './address.ts';
import type { ProxyContext } from './context.ts';
import { dial } from './dial.ts';
import { HandshakeError, HandshakeReader } from './handshake.ts';
import { listen, type Listener } from './listener.ts';
import { ADDRESS_TYPE, associate } from './socks5-udp.ts';

const VERSION = 5;
const PASSWORD_VERSION = 1;
const METHOD = { none: 0, password: 2, unacceptable: 0xff } as const;
const COMMAND = { connect: 1, udpAssociate: 3 } as const;

/** RFC 1928 §6. */
const REPLY = {
  succeeded: 0,
  failure: 1,
  notAllowed: 2,
  networkUnreachable: 3,
  hostUnreachable: 4,
  refused: 5,
  ttlExpired: 6,
  commandUnsupported: 7,
  addressTypeUnsupported: 8,
} as const;

/** Starts a SOCKS5 listener; CliError when it cannot. */
export function listenSocks5(address: ListenAddress, context: ProxyContext): Promise<Listener> {
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (client) => void serveSocks5(client, context));
  return listen(server, address, context.limits.maxClients);
}

async function serveSocks5(client: StreamSocket, context: ProxyContext): Promise<void> {
  client.on('error', () => undefined);
  const reader = new HandshakeReader(client, context.limits.handshakeMs);
  try {
    await authenticate(client, reader, context);
    const request = await readRequest(reader);
    reader.dispose();
    await answer(client, request, context);
  } catch (error) {
    if (error instanceof SocksRefusal) {
      client.end(error.lastWord);
      closeSoon(client);
    } else if (error instanceof HandshakeError) {
      abortConnection(client);
    } else {
      throw error;
    }
  } finally {
    reader.dispose();
  }
}

interface Request {
  readonly command: number;
  readonly host: string;
  readonly port: number;
}

/** Ends the exchange with a last word to the client. */
class SocksRefusal extends Error {
  readonly lastWord: Uint8Array;

  constructor(lastWord: Uint8Array) {
    super('refused');
    this.lastWord = lastWord;
  }
}

async function authenticate(client: StreamSocket, reader: HandshakeReader, context: ProxyContext): Promise<void> {
  const [version, count] = await reader.read(2);
  if (version !== VERSION) throw new HandshakeError('not SOCKS version 5');
  const methods = await reader.read(count!);
  const { credentials } = context;
  const method = credentials === undefined ? METHOD.none : METHOD.password;
  if (!methods.includes(method)) {
    throw new SocksRefusal(Uint8Array.of(VERSION, METHOD.unacceptable));
  }
  client.write(Uint8Array.of(VERSION, method));
  if (credentials === undefined) return;

  const [passwordVersion, userLength] = await reader.read(2);
  if (passwordVersion !== PASSWORD_VERSION) throw new HandshakeError('not RFC 1929');
  const user = textOf(await reader.read(userLength!));
  const [passwordLength] = await reader.read(1);
  const bytes = await reader.read(passwordLength!);
  const isKnown = credentials.accepts(user, textOf(bytes));
  bytes.fill(0);
  if (!isKnown) throw new SocksRefusal(Uint8Array.of(PASSWORD_VERSION, 1));
  client.write(Uint8Array.of(PASSWORD_VERSION, 0));
}

async function readRequest(reader: HandshakeReader): Promise<Request> {
  const [version, command, , addressType] = await reader.read(4);
  if (version !== VERSION) throw new HandshakeError('not a SOCKS request');
  const host = await readHost(reader, addressType!);
  const [high, low] = await reader.read(2);
  return { command: command!, host, port: (high! << 8) | low! };
}

async function readHost(reader: HandshakeReader, addressType: number): Promise<string> {
  switch (addressType) {
    case ADDRESS_TYPE.v4:
      return formatAddress(await reader.read(4));
    case ADDRESS_TYPE.v6:
      return formatAddress(await reader.read(16));
    case ADDRESS_TYPE.name: {
      const [length] = await reader.read(1);
      return textOf(await reader.read(length!));
    }
    default:
      throw new SocksRefusal(replyOf(REPLY.addressTypeUnsupported));
  }
}

async function answer(client: StreamSocket, request: Request, context: ProxyContext): Promise<void> {
  const { command, host, port } = request;
  if (command === COMMAND.udpAssociate) {
    const address = await associate(client, context, { host, port }).catch((error: unknown) => {
      throw new SocksRefusal(replyOf(replyFor(error)));
    });
    client.write(replyOf(REPLY.succeeded, address.address, address.port));
    return;
  }
  if (command !== COMMAND.connect) throw new SocksRefusal(replyOf(REPLY.commandUnsupported));
  if (port === 0 || host === '') throw new SocksRefusal(replyOf(REPLY.failure));
  const far = await dial(
    context.network,
    { kind: 'port', host, port },
    context.limits.connectMs,
    client,
    context.explain,
  ).catch((error: unknown) => {
    throw new SocksRefusal(replyOf(replyFor(error)));
  });
  if (client.destroyed) {
    abortConnection(far);
    return;
  }
  client.write(replyOf(REPLY.succeeded, far.localAddress, far.localPort));
  joinConnections(client, far);
}

const REPLIES: Readonly<Record<string, number>> = {
  ECONNREFUSED: REPLY.refused,
  ECONNRESET: REPLY.refused,
  ENETDOWN: REPLY.networkUnreachable,
  ENETUNREACH: REPLY.networkUnreachable,
  EADDRNOTAVAIL: REPLY.networkUnreachable,
  EAFNOSUPPORT: REPLY.networkUnreachable,
  EHOSTUNREACH: REPLY.hostUnreachable,
  ENOTFOUND: REPLY.hostUnreachable,
  EAI_AGAIN: REPLY.hostUnreachable,
  ETIMEDOUT: REPLY.ttlExpired,
  EACCES: REPLY.notAllowed,
  EPERM: REPLY.notAllowed,
};

function replyFor(error: unknown): number {
  return REPLIES[errorCode(error) ?? ''] ?? REPLY.failure;
}

function replyOf(reply: number, host = '0.0.0.0', port = 0): Uint8Array {
  const address = parseAddress(host) ?? new Uint8Array(4);
  const type = address.length === 4 ? ADDRESS_TYPE.v4 : ADDRESS_TYPE.v6;
  return Uint8Array.of(VERSION, reply, 0, type, ...address, port >> 8, port & 0xff);
}

/** RFC 1928 §6: the server closes at most ten seconds after a failure, whatever the client does. */
function closeSoon(client: StreamSocket): void {
  client.resume();
  const timer = setTimeout(() => client.destroy(), 5_000);
  client.once('close', () => clearTimeout(timer));
}

function textOf(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}
