/** Requests with an absolute URI (RFC 9112 section 3.2.2), and what of them goes on to the far side. */
import { request as sendRequest, type IncomingMessage } from 'node:http';
import type { HttpAgent } from '@sealane/tunnel';

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

export interface HttpTarget {
  readonly host: string;
  readonly port: number;
  /** As the Host header has it. */
  readonly authority: string;
  readonly path: string;
}

export function absoluteTarget(request: IncomingMessage): HttpTarget | undefined {
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

export function requestUpstream(
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

export function passedOn(rawHeaders: readonly string[]): string[] {
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

export function hasBody(request: IncomingMessage): boolean {
  const { 'content-length': length, 'transfer-encoding': encoding } = request.headers;
  return encoding !== undefined || (length !== undefined && length !== '0');
}
