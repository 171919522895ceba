/** CONNECT (RFC 9110 section 9.3.6). */
import type { IncomingMessage } from 'node:http';
import { abortConnection, joinConnections, parsePort, type StreamSocket } from '@sealane/tunnel';
import { formatTarget, type Target } from './address.ts';
import type { ProxyContext } from './context.ts';
import { dial } from './dial.ts';
import { AUTHENTICATION_REQUIRED, BAD_REQUEST, end, isAllowed, refusalFor } from './http-refusal.ts';

export async function serveConnect(
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
    const far = await dial(context.network, target, context.limits.connectMs, client, context.explain);
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
