/** Upgrades, such as WebSocket's: once the far side has agreed, bytes both ways. */
import type { IncomingMessage } from 'node:http';
import { abortConnection, type HttpAgent, joinConnections, type StreamSocket } from '@sealane/tunnel';
import type { ProxyContext } from './context.ts';
import { AUTHENTICATION_REQUIRED, BAD_REQUEST, end, isAllowed, refusalFor } from './http-refusal.ts';
import { absoluteTarget, hasBody, passedOn, requestUpstream } from './http-request.ts';

export function serveUpgrade(
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
  const fail = async (error: unknown): Promise<void> => {
    const cause = await context.explain(error);
    if (!client.destroyed) end(client, refusalFor(cause, target.authority));
  };
  upstream.once('error', (error) => void fail(error));
  upstream.end();
}

function headOf(answer: IncomingMessage, extraHeaders: readonly string[]): string {
  const headers = [...passedOn(answer.rawHeaders), ...extraHeaders];
  let text = `HTTP/1.1 ${answer.statusCode} ${answer.statusMessage}\r\n`;
  for (let i = 0; i < headers.length; i += 2) text += `${headers[i]}: ${headers[i + 1]}\r\n`;
  return `${text}\r\n`;
}
