/** Tunnels inside a program: it ends by itself once they are closed, and nothing of them is left. */
import { once } from 'node:events';
import * as http from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { missingPrograms, RootlessWorld } from './rootless.ts';

const lacking = missingPrograms();
const LIBRARY = new URL('../../packages/tunnel/dist/index.js', import.meta.url).href;

let world: RootlessWorld;
let web: http.Server;
beforeAll(async () => {
  if (lacking !== undefined) return;
  web = http.createServer((_request, response) => response.end('a page')).listen(0, '127.0.0.1');
  await once(web, 'listening');
  world = await RootlessWorld.open();
});
afterAll(async () => {
  await world?.[Symbol.asyncDispose]();
  web?.closeAllConnections();
  web?.close();
});

/** Runs a program that has `openTunnel`, `config` and `port`. */
function program(body: string): ReturnType<RootlessWorld['run']> {
  const { port } = web.address() as AddressInfo;
  const code = `
    import { once } from 'node:events';
    import { get } from 'node:http';
    import { openTunnel } from '${LIBRARY}';
    const [config, port] = ['${world.config}', ${port}];
    ${body}`;
  return world.run('--input-type=module', ['--eval', code]);
}

describe.skipIf(lacking !== undefined)(`a program (${lacking ?? 'without privileges'})`, () => {
  it.each(['auto', 'portable'])('ends by itself after close, however often that is called: lane %s', async (lane) => {
    const result = await program(`
      const tunnel = await openTunnel(config, { lane: '${lane}' });
      const agent = tunnel.agent();
      const [response] = await once(get({ agent, host: '127.0.0.1', port }), 'response');
      response.resume();
      await once(response, 'end');
      // An idle connection, a pending one, a listener and a bound socket go with the tunnel.
      tunnel.connect({ host: '127.77.0.99', port: 9 }).on('error', () => undefined);
      tunnel.createServer().listen({ port: 80 });
      tunnel.createSocket('udp4').bind(53);
      await Promise.all([tunnel.close(), tunnel.close()]);
      await tunnel.close();
      console.log(response.statusCode);
      process.once('exit', () => console.log('ended'));
      setTimeout(() => console.log('still here'), 60_000).unref();
    `);
    expect(result).toEqual({ code: 0, stdout: '200\nended\n', stderr: '' });
  });

  it('closes with the block that it was opened in', async () => {
    const result = await program(`
      let kept;
      {
        const tunnel = await openTunnel(config);
        kept = tunnel;
        tunnel.on('closed', () => console.log('closed'));
        await tunnel[Symbol.asyncDispose]();
      }
      await kept.configure({}).catch((error) => console.log(error.message));
    `);
    expect(result).toEqual({ code: 0, stdout: 'closed\nthe tunnel is closed\n', stderr: '' });
  });
});
