/**
 * An HTTP proxy: CONNECT (RFC 9110 section 9.3.6) and requests with an absolute URI (RFC 9112 section 3.2.2). It answers
 * for the far side only when that has answered or could not be reached; Proxy-Status (RFC 9209) says which it was.
 */
import {
  createServer,
  request as sendRequest,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from 'node:http';
import type { Duplex } from 'node:stream';
import { abortConnection, HttpAgent, joinConnections, parsePort, type StreamSocket } from '@sealane/tunnel';
import { errorCode } from '../errors.ts';
import { formatTarget, type ListenAddress, type Target } from './address.ts';
import type { ProxyContext } from './context.ts';
import { dial } from './dial.ts';
import { listen, type Listener } from './listener.ts';

const AGENT = 'sealane';
const KEEP_ALIVE_MS = 60_000;
const UPSTREAM_IDLE_MS = 5_000;

/** RFC 9110 §7.6.1, and what was meant for the proxy alone. */
const HOP_BY_HOP = new Set([
  'connection',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]);

/** Starts an HTTP proxy; CliError when it cannot. */
export async function listenHttp(address: ListenAddress, context: ProxyContext): Promise<Listener> {
  const agent = new HttpAgent(context.network, {
    keepAlive: true,
    timeout: UPSTREAM_IDLE_MS,
    connectTimeoutMs: context.limits.connectMs,
  });
  const server = createHttpProxy(context, agent);
  const listener = await listen(server, address, context.limits.maxClients);
  const close = async (): Promise<void> => {
    agent.destroy();
    await listener.close();
  };
  return { where: listener.where, close };
}

function createHttpProxy(context: ProxyContext, agent: HttpAgent): Server {
  const { handshakeMs } = context.limits;
  const server = createServer({
    headersTimeout: handshakeMs,
    // Bodies may take as long as they like.
    requestTimeout: 0,
    keepAliveTimeout: KEEP_ALIVE_MS,
    connectionsCheckingInterval: Math.min(handshakeMs, 5_000),
    noDelay: true,
  });
  server.on('request', (request: IncomingMessage, response: ServerResponse) => {
    if (!isAllowed(request, context)) {
      refuse(response, AUTHENTICATION_REQUIRED);
      return;
    }
    const target = absoluteTarget(request);
    if (target === undefined) refuse(response, BAD_REQUEST);
    else forward(request, response, target, agent);
  });
  server.on('connect', (request: IncomingMessage, duplex: Duplex, head: Uint8Array) => {
    const client = duplex as unknown as StreamSocket;
    void serveConnect(request, client, head, context);
  });
  server.on('upgrade', (request: IncomingMessage, duplex: Duplex, head: Uint8Array) => {
    const client = duplex as unknown as StreamSocket;
    serveUpgrade(request, client, head, context, agent);
  });
  // A client that starts and says nothing is as slow as one whose headers never end.
  server.on('connection', (socket: StreamSocket) => {
    const timer = setTimeout(() => {
      if (socket.bytesRead === 0) socket.destroy();
    }, handshakeMs);
    socket.once('close', () => clearTimeout(timer));
  });
  return server;
}

// CONNECT.

async function serveConnect(
  request: IncomingMessage,
  client: StreamSocket,
  head: Uint8Array,
  context: ProxyContext,
): Promise<void> {
  client.on('error', () => undefined);
  if (head.length > 0) client.unshift(head);
  if (!isAllowed(request, context)) {
    end(client, AUTHENTICATION_REQUIRED);
    return;
  }
  const target = connectTarget(request.url ?? '');
  if (target === undefined) {
    end(client, BAD_REQUEST);
    return;
  }
  try {
    const far = await dial(context.network, target, context.limits.connectMs, client);
    if (client.destroyed) {
      abortConnection(far);
      return;
    }
    client.write('HTTP/1.1 200 Connection established\r\n\r\n');
    joinConnections(client, far);
  } catch (error) {
    if (!client.destroyed) end(client, refusalFor(error, formatTarget(target)));
  }
}

function connectTarget(text: string): Target | undefined {
  const parts = /^(\[[0-9a-fA-F:.]+\]|[^\s:/?#@[\]]+):(\d+)$/.exec(text);
  const port = parts === null ? undefined : parsePort(parts[2]!);
  if (parts === null || port === undefined) return undefined;
  return { kind: 'port', host: parts[1]!.replace(/^\[(.*)\]$/, '$1'), port };
}

// Requests with an absolute URI.

interface HttpTarget {
  readonly host: string;
  readonly port: number;
  /** As the Host header has it. */
  readonly authority: string;
  readonly path: string;
}

function absoluteTarget(request: IncomingMessage): HttpTarget | undefined {
  const text = request.url ?? '';
  if (!/^http:\/\//i.test(text) || !URL.canParse(text)) return undefined;
  const { hostname, port, host, pathname, search } = new URL(text);
  if (port === '0') return undefined;
  return {
    host: hostname.replace(/^\[(.*)\]$/, '$1'),
    port: port === '' ? 80 : Number(port),
    authority: host,
    path: pathname + search,
  };
}

function forward(
  request: IncomingMessage,
  response: ServerResponse,
  target: HttpTarget,
  agent: HttpAgent,
  isRetry = false,
): void {
  const upstream = requestUpstream(request, target, agent, []);
  upstream.once('response', (answer) => {
    response.writeHead(answer.statusCode!, answer.statusMessage, passedOn(answer.rawHeaders));
    answer.pipe(response);
    answer.once('error', () => response.destroy());
  });
  upstream.once('error', (error) => {
    if (response.headersSent || response.destroyed) {
      response.destroy();
      return;
    }
    // The far side may close an idle connection at the moment it is used again.
    if (upstream.reusedSocket && !isRetry && errorCode(error) === 'ECONNRESET' && !hasBody(request)) {
      forward(request, response, target, agent, true);
      return;
    }
    refuse(response, refusalFor(error, target.authority));
  });
  response.once('close', () => upstream.destroy());
  if (hasBody(request)) request.pipe(upstream);
  else upstream.end();
}

function requestUpstream(
  request: IncomingMessage,
  { host, port, path, authority }: HttpTarget,
  agent: HttpAgent,
  extraHeaders: readonly string[],
): ReturnType<typeof sendRequest> {
  return sendRequest({
    agent,
    host,
    port,
    path,
    method: request.method,
    setHost: false,
    headers: [...requestHeaders(request, authority), ...extraHeaders],
  });
}

/** RFC 9112 §3.2.2: the Host header is that of the URI, whatever the client sent. */
function requestHeaders(request: IncomingMessage, authority: string): string[] {
  const headers = passedOn(request.rawHeaders);
  const kept: string[] = ['Host', authority];
  for (let i = 0; i < headers.length; i += 2) {
    const name = headers[i]!.toLowerCase();
    // The client has had its 100 Continue from us.
    if (name !== 'host' && name !== 'expect') kept.push(headers[i]!, headers[i + 1]!);
  }
  if (request.headers['transfer-encoding'] !== undefined) kept.push('Transfer-Encoding', 'chunked');
  return kept;
}

function passedOn(rawHeaders: readonly string[]): string[] {
  const named = new Set<string>();
  for (let i = 0; i < rawHeaders.length; i += 2) {
    if (rawHeaders[i]!.toLowerCase() !== 'connection') continue;
    for (const name of rawHeaders[i + 1]!.split(',')) named.add(name.trim().toLowerCase());
  }
  const kept: string[] = [];
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i]!.toLowerCase();
    if (!HOP_BY_HOP.has(name) && !named.has(name)) kept.push(rawHeaders[i]!, rawHeaders[i + 1]!);
  }
  return kept;
}

function hasBody(request: IncomingMessage): boolean {
  const { 'content-length': length, 'transfer-encoding': encoding } = request.headers;
  return encoding !== undefined || (length !== undefined && length !== '0');
}

// Upgrades, such as WebSocket's.

function serveUpgrade(
  request: IncomingMessage,
  client: StreamSocket,
  head: Uint8Array,
  context: ProxyContext,
  agent: HttpAgent,
): void {
  client.on('error', () => undefined);
  if (head.length > 0) client.unshift(head);
  if (!isAllowed(request, context)) {
    end(client, AUTHENTICATION_REQUIRED);
    return;
  }
  const target = absoluteTarget(request);
  if (target === undefined || hasBody(request)) {
    end(client, BAD_REQUEST);
    return;
  }
  const upstream = requestUpstream(request, target, agent, [
    'Connection',
    'Upgrade',
    'Upgrade',
    request.headers.upgrade ?? '',
  ]);
  client.once('close', () => upstream.destroy());
  upstream.once('upgrade', (answer, socket, early) => {
    const far = socket as unknown as StreamSocket;
    if (client.destroyed) {
      abortConnection(far);
      return;
    }
    if (early.length > 0) far.unshift(early);
    client.write(headOf(answer, ['Connection', 'Upgrade', 'Upgrade', answer.headers.upgrade ?? '']));
    joinConnections(client, far);
  });
  upstream.once('response', (answer) => {
    client.write(headOf(answer, ['Connection', 'close']));
    answer.pipe(client);
    client.resume();
  });
  upstream.once('error', (error) => {
    if (!client.destroyed) end(client, refusalFor(error, target.authority));
  });
  upstream.end();
}

function headOf(answer: IncomingMessage, extraHeaders: readonly string[]): string {
  const headers = [...passedOn(answer.rawHeaders), ...extraHeaders];
  let text = `HTTP/1.1 ${answer.statusCode} ${answer.statusMessage}\r\n`;
  for (let i = 0; i < headers.length; i += 2) text += `${headers[i]}: ${headers[i + 1]}\r\n`;
  return `${text}\r\n`;
}

// Who may, and what is said to those who may not.

function isAllowed(request: IncomingMessage, { credentials }: ProxyContext): boolean {
  if (credentials === undefined) return true;
  const parts = /^basic ([a-z0-9+/]+=*)$/i.exec(request.headers['proxy-authorization'] ?? '');
  if (parts === null) return false;
  const text = Buffer.from(parts[1]!, 'base64').toString();
  const colon = text.indexOf(':');
  return colon > 0 && credentials.accepts(text.slice(0, colon), text.slice(colon + 1));
}

interface Refusal {
  readonly status: number;
  readonly reason: string;
  readonly text: string;
  readonly headers: Readonly<Record<string, string>>;
}

const AUTHENTICATION_REQUIRED: Refusal = {
  status: 407,
  reason: 'Proxy Authentication Required',
  text: 'This proxy asks for a user and a password.',
  headers: { 'Proxy-Authenticate': `Basic realm="${AGENT}", charset="UTF-8"` },
};

const BAD_REQUEST: Refusal = {
  status: 400,
  reason: 'Bad Request',
  text: 'This is a proxy: it takes CONNECT host:port and requests for http:// addresses.',
  headers: {},
};

/** RFC 9209 §2.3 has the names. */
function refusalFor(error: unknown, target: string): Refusal {
  const code = errorCode(error);
  const failures: Readonly<Record<string, readonly [string, string]>> = {
    ECONNREFUSED: ['connection_refused', 'refused the connection'],
    ECONNRESET: ['connection_terminated', 'reset the connection'],
    EHOSTUNREACH: ['destination_ip_unroutable', 'cannot be reached'],
    ENETUNREACH: ['destination_ip_unroutable', 'cannot be reached'],
    EACCES: ['destination_ip_prohibited', 'may not be reached'],
    ENOTFOUND: ['dns_error', 'has no address'],
    EAI_AGAIN: ['dns_timeout', 'could not be looked up: no name server answers'],
    ETIMEDOUT: ['connection_timeout', 'did not answer'],
    HPE_INVALID_CONSTANT: ['http_protocol_error', 'does not speak HTTP'],
  };
  const [name, text] = failures[code ?? ''] ?? ['destination_unavailable', 'cannot be reached'];
  const isTimeout = code === 'ETIMEDOUT' || code === 'EAI_AGAIN';
  return {
    status: isTimeout ? 504 : 502,
    reason: isTimeout ? 'Gateway Timeout' : 'Bad Gateway',
    text: `${target} ${text}.`,
    headers: { 'Proxy-Status': `${AGENT}; error=${name}` },
  };
}

function refuse(response: ServerResponse, { status, reason, text, headers }: Refusal): void {
  const body = `${text}\n`;
  response.writeHead(status, reason, {
    ...headers,
    'Content-Type': 'text/plain; charset=utf-8',
    'Content-Length': Buffer.byteLength(body),
    Connection: 'close',
  });
  response.end(body);
}

function end(client: StreamSocket, { status, reason, text, headers }: Refusal): void {
  const body = `${text}\n`;
  const lines = Object.entries({
    ...headers,
    'Content-Type': 'text/plain; charset=utf-8',
    'Content-Length': String(Buffer.byteLength(body)),
    Connection: 'close',
  }).map(([name, value]) => `${name}: ${value}\r\n`);
  client.end(`HTTP/1.1 ${status} ${reason}\r\n${lines.join('')}\r\n${body}`);
  client.resume();
  const timer = setTimeout(() => client.destroy(), 5_000);
  client.once('close', () => clearTimeout(timer));
}
