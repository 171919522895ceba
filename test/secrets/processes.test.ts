/** What the running programs would show of their memory: to a debugger, in a core dump, to their privileges. */
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { clientConfig, Folder, newKeyPair, type Running, SEALANE, start } from '../cli/client-support.ts';
import { Scratch, startServer } from '../cli/server-support.ts';
import { until } from '../support/lab.ts';
import { expectFewPrivileges, NET_BIND } from '../support/privileges.ts';

const isRoot = process.platform === 'linux' && process.geteuid?.() === 0;

let folder: Folder;
/** Takes datagrams and answers none. */
let silent: Socket;

beforeEach(async () => {
  folder = await Folder.make();
  silent = createSocket('udp4').bind(0, '127.0.0.1');
  await once(silent, 'listening');
});

afterEach(async () => {
  silent.close();
  await folder.remove();
});

/** A client whose server never answers. */
async function client(...args: readonly string[]): Promise<Running> {
  const text = clientConfig({
    client: newKeyPair(),
    serverKey: newKeyPair().publicText,
    endpoint: `127.0.0.1:${silent.address().port}`,
  });
  const path = await folder.write('silent.conf', text);
  const [command = '', ...rest] = args;
  return start([process.execPath, SEALANE, command, path, ...rest], { STATE_DIRECTORY: folder.path });
}

describe('a debugger', () => {
  it('is not opened to the users of this computer by SIGUSR1', async () => {
    const scratch = new Scratch();
    try {
      await scratch.init();
      const { server } = await startServer(scratch.state);
      const proxy = await client('proxy', '--socks5', '0');
      await until('the proxy to listen', () => proxy.stderr.includes('SOCKS5 on'), 30_000);
      server.child.kill('SIGUSR1');
      proxy.child.kill('SIGUSR1');
      // What answers now has taken the signal.
      expect((await scratch.run('status')).code).toBe(0);
      await new Promise((resolve) => setTimeout(resolve, 500));
      server.child.kill('SIGTERM');
      proxy.child.kill('SIGTERM');
      const ends = [await server.outcome, await proxy.ended];
      expect(ends.map(({ stderr }) => /debugger|inspector/i.test(stderr))).toEqual([false, false]);
      expect(ends.map(({ code }) => code)).toEqual([0, 0]);
    } finally {
      scratch.remove();
    }
  });
});

describe.runIf(isRoot)('run by root', () => {
  it.each([
    ['proxy', '--socks5', '0'],
    ['ping', '--timeout', '60'],
  ])('sealane %s keeps no right but to small ports, in all of its threads, and dumps no core', async (...args) => {
    const program = await client(...args);
    try {
      await until('it to run', () => opened(program.child.pid!), 30_000);
      expectFewPrivileges(program.child.pid!, NET_BIND);
    } finally {
      program.child.kill('SIGKILL');
      await program.ended;
    }
  });
});

/** True when the process has its UDP socket: it has read its keys. */
function opened(pid: number): boolean {
  const sockets = readFileSync('/proc/net/udp', 'latin1').matchAll(/ (\d+) +\d+ [0-9a-f]{16} \d+ *$/gm);
  const inodes = new Set(Array.from(sockets, ([, inode]) => `socket:[${inode}]`));
  return readdirSync(`/proc/${pid}/fd`).some((fd) => inodes.has(linkOf(`/proc/${pid}/fd/${fd}`)));
}

function linkOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return '';
  }
}
