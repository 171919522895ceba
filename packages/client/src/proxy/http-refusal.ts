/** Who may use an HTTP proxy, and what it says when it does not serve; Proxy-Status (RFC 9209) has the cause. */
import { type IncomingMessage, type ServerResponse, STATUS_CODES } from 'node:http';
import type { StreamSocket } from '@sealane/tunnel';
import { errorCode } from '../errors.ts';
import type { ProxyContext } from './context.ts';
import { NoSessionError, notRoutedIn } from './tunnel-health.ts';

const AGENT = 'sealane';

export interface Refusal {
  readonly status: number;
  readonly reason: string;
  readonly text: string;
  readonly headers: Readonly<Record<string, string>>;
}

export const AUTHENTICATION_REQUIRED: Refusal = {
  status: 407,
  reason: 'Proxy Authentication Required',
  text: 'This proxy asks for a user and a password.',
  headers: { 'Proxy-Authenticate': `Basic realm="${AGENT}", charset="UTF-8"` },
};

export const BAD_REQUEST: Refusal = {
  status: 400,
  reason: 'Bad Request',
  text: 'This is a proxy: it takes CONNECT host:port and requests for http:// addresses.',
  headers: {},
};

/** RFC 9209 §2.3 has the names. */
export function refusalFor(error: unknown, target: string): Refusal {
  const code = errorCode(error);
  const notRouted = notRoutedIn(error);
  if (notRouted !== undefined) return failure(502, 'destination_ip_unroutable', `${notRouted.message}.`);
  // RFC 9209 §2.3.2: recent attempts to reach the next hop have failed.
  if (error instanceof NoSessionError) return failure(503, 'destination_unavailable', `${error.message}.`);
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
  return failure(isTimeout ? 504 : 502, name, `${target} ${text}.`);
}

function failure(status: 502 | 503 | 504, name: string, text: string): Refusal {
  return { status, reason: STATUS_CODES[status]!, text, headers: { 'Proxy-Status': `${AGENT}; error=${name}` } };
}

export function refuse(response: ServerResponse, { status, reason, text, headers }: Refusal): void {
  const body = `${text}\n`;
  response.writeHead(status, reason, {
    ...headers,
    'Content-Type': 'text/plain; charset=utf-8',
    'Content-Length': Buffer.byteLength(body),
    Connection: 'close',
  });
  response.end(body);
}

export function end(client: StreamSocket, { status, reason, text, headers }: Refusal): void {
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

export function isAllowed(request: IncomingMessage, { credentials }: ProxyContext): boolean {
  if (credentials === undefined) return true;
  const parts = /^basic ([a-z0-9+/]+=*)$/i.exec(request.headers['proxy-authorization'] ?? '');
  if (parts === null) return false;
  const text = Buffer.from(parts[1]!, 'base64').toString();
  const colon = text.indexOf(':');
  return colon > 0 && credentials.accepts(text.slice(0, colon), text.slice(colon + 1));
}
