/** What a service manager hears (sd_notify(3)): a program is ready when it serves, by the process that does. */
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { clientFile, runSealane, SERVER, twoHosts, up } from './client-lab.ts';
import { SEALANE } from './client-support.ts';
import { State } from './server-lab.ts';
import { NotifySocket } from '../../packages/tunnel/test/support/notify-socket.ts';
import { Lab, missing, until } from '../support/lab.ts';
import { ping } from '../support/wireguard.ts';

const reason = missing('ping', 'nft');

/** Waits for the next message. */
async function next(socket: NotifySocket): Promise<string> {
  let message = '';
  await until('a message to the service manager', () => (message = socket.receive()) !== '', 90_000);
  return message;
}

describe.skipIf(reason !== undefined)(`NOTIFY_SOCKET (${reason ?? 'in namespaces'})`, { timeout: 240_000 }, () => {
  it('hears of sealane up once the tunnel serves, also of one in the background, and of none that failed', async () => {
    await using lab = await Lab.open();
    const { a, b } = await twoHosts(lab);
    using socket = new NotifySocket(join(lab.folder, 'notify'));
    await up(lab, b, lab.interfaceName('b'), SERVER);
    const name = lab.interfaceName('a');
    const env = { STATE_DIRECTORY: lab.folder, NOTIFY_SOCKET: socket.path };
    const file = await lab.file(`${name}.conf`, clientFile('10.88.0.0/24', `PostUp = test ! -e ${lab.folder}/fail`));

    const here = a.start(process.execPath, [SEALANE, 'up', file], env);
    expect(await next(socket)).toBe(`READY=1\nMAINPID=${here.child.pid}`);
    expect((await ping(a, '10.88.0.1', { count: 2 })).received).toBe(2);
    expect(await here.stop()).toBe(0);

    const before = a.start(process.execPath, [SEALANE, 'up', file, '--detach'], env);
    const ready = await next(socket);
    expect(await before.exit).toBe(0);
    const pid = /runs in the background: process (\d+),/.exec(before.stderr)?.[1];
    expect(ready).toBe(`READY=1\nMAINPID=${pid}`);
    expect((await runSealane(a, 'down', name)).code).toBe(0);

    await lab.file('fail', '');
    expect(await a.start(process.execPath, [SEALANE, 'up', file], env).exit).toBe(1);
    expect(socket.receive()).toBe('');
  });

  it('hears of sealaned run once it serves, and when it stops', async () => {
    await using lab = await Lab.open();
    const host = await lab.host('s');
    using socket = new NotifySocket(join(lab.folder, 'notify'));
    const state = await State.make(lab, host, 'state');
    const server = state.start(host, lab.interfaceName('s'), [], { NOTIFY_SOCKET: socket.path });
    expect(await next(socket)).toBe(`READY=1\nMAINPID=${server.child.pid}`);
    expect((await state.call(host, 'status', '--json')).stdout).toContain('"live"');
    expect(await server.stop()).toBe(0);
    expect(await next(socket)).toBe('STOPPING=1');
  });
});
