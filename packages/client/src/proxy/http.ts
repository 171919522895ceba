/**
 * An HTTP proxy: CONNECT, requests with an absolute URI, and upgrades. It answers for the far side only when that has
 * answered or could not be reached.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { HttpAgent, type StreamSocket } from '@sealane/tunnel';
import { errorCode } from '../errors.ts';
import type { ListenAddress } from './address.ts';
import type { ProxyContext } from './context.ts';
import { serveConnect } from './http-connect.ts';
import { AUTHENTICATION_REQUIRED, BAD_REQUEST, isAllowed, refusalFor, refuse } from './http-refusal.ts';
import { absoluteTarget, hasBody, type HttpTarget, passedOn, requestUpstream } from './http-request.ts';
import { serveUpgrade } from './http-upgrade.ts';
import { listen, type Listener } from './listener.ts';

const KEEP_ALIVE_MS = 60_000;
const UPSTREAM_IDLE_MS = 5_000;

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
    // From the connection on, so that a client that says nothing is as late as one whose headers never end.
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
    else forward(request, response, target, agent, context.explain);
  });
  server.on('connect', (request: IncomingMessage, duplex: Duplex, head: Uint8Array) => {
    const client = duplex as unknown as StreamSocket;
    void serveConnect(request, client, head, context);
  });
  server.on('upgrade', (request: IncomingMessage, duplex: Duplex, head: Uint8Array) => {
    const client = duplex as unknown as StreamSocket;
    serveUpgrade(request, client, head, context, agent);
  });
  return server;
}

function forward(
  request: IncomingMessage,
  response: ServerResponse,
  target: HttpTarget,
  agent: HttpAgent,
  explain: ProxyContext['explain'],
  isRetry = false,
): void {
  const upstream = requestUpstream(request, target, agent, []);
  upstream.once('response', (answer) => {
    response.writeHead(answer.statusCode!, answer.statusMessage, passedOn(answer.rawHeaders));
    answer.pipe(response);
    answer.once('error', () => response.destroy());
  });
  const refuseFor = async (error: unknown): Promise<void> => {
    const cause = await explain(error);
    if (!response.destroyed) refuse(response, refusalFor(cause, target.authority));
  };
  upstream.once('error', (error) => {
    if (response.headersSent || response.destroyed) {
      response.destroy();
      return;
    }
    // The far side may close an idle connection at the moment it is used again.
    if (upstream.reusedSocket && !isRetry && errorCode(error) === 'ECONNRESET' && !hasBody(request)) {
      forward(request, response, target, agent, explain, true);
      return;
    }
    void refuseFor(error);
  });
  response.once('close', () => upstream.destroy());
  if (hasBody(request)) request.pipe(upstream);
  else upstream.end();
}
