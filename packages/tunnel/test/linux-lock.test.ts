import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { createServer, connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { lockFile } from '../src/linux/lock.ts';
import { peerCredentials } from '../src/linux/peer-credentials.ts';

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'sealane-lock-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

describe.runIf(process.platform === 'linux')('lockFile', () => {
  it('is held by one at a time and free again after release', () => {
    const path = join(folder, 'lock');
    const first = lockFile(path);
    expect(first).toBeDefined();
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(lockFile(path)).toBeUndefined();
    first!.release();
    const again = lockFile(path);
    expect(again).toBeDefined();
    again!.release();
  });

  it('is free again after its holder was killed', async () => {
    const path = join(folder, 'lock');
    const holder = spawn('flock', ['--no-fork', '-x', path, 'sh', '-c', 'echo held; exec sleep 60'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(holder.stdout, 'data');
    expect(lockFile(path)).toBeUndefined();
    const ended = once(holder, 'exit');
    holder.kill('SIGKILL');
    await ended;
    const lock = lockFile(path);
    expect(lock).toBeDefined();
    lock!.release();
  });

  it('says which file it cannot lock', () => {
    expect(() => lockFile(join(folder, 'missing', 'lock'))).toThrow(/missing/);
  });
});

describe.runIf(process.platform === 'linux')('peerCredentials', () => {
  it('names the process and user at the other end', async () => {
    const server = createServer().listen(join(folder, 'socket'));
    await once(server, 'listening');
    const client = connect(join(folder, 'socket'));
    const [socket] = (await once(server, 'connection')) as [import('node:net').Socket];
    const fd = (socket as unknown as { _handle: { fd: number } })._handle.fd;
    expect(peerCredentials(fd)).toEqual({
      processId: process.pid,
      userId: process.getuid!(),
      groupId: process.getgid!(),
    });
    expect(peerCredentials(9_999)).toBeUndefined();
    client.destroy();
    socket.destroy();
    server.close();
  });
});
