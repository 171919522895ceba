/** A peer with AES-256-GCM between real processes: added or changed live, kept over a restart, and refused when only one end has it. */
import { writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { SEALANE, sealane, start as startProcess, type Outcome } from '../cli/client-support.ts';
import { Scratch, startServer, type ServerProcess } from '../cli/server-support.ts';

const LINE = '#@ Cipher = aes256gcm\n';

let scratch: Scratch;
let server: ServerProcess | undefined;

beforeEach(async () => {
  scratch = new Scratch();
  await scratch.init();
});
afterEach(async () => {
  await server?.stop('SIGKILL');
  server = undefined;
  scratch.remove();
});

async function start(...args: readonly string[]): Promise<number> {
  const started = await startServer(scratch.state, ['--userspace', ...args]);
  server = started.server;
  return started.ready.port;
}

/** A file with the configuration that `peer add` printed, for the port that the server really has. */
function clientFile(config: string, port: number): string {
  const path = scratch.path('client.conf');
  writeFileSync(path, config.replace(/^Endpoint = .*$/m, `Endpoint = 127.0.0.1:${port}`), { mode: 0o600 });
  return path;
}

function ping(config: string, port: number, timeout: number, ...options: readonly string[]): Promise<Outcome> {
  const args = ['ping', clientFile(config, port), '--count', '2', '--timeout', String(timeout), '--json', ...options];
  return sealane(args, '', { STATE_DIRECTORY: scratch.folder });
}

describe('sealaned peer add --cipher aes256gcm', () => {
  it('serves the peer at once and after a restart, and says that it is not WireGuard-compatible', async () => {
    const first = await start();
    await scratch.must('peer', 'add', 'alice');
    expect(await scratch.must('peer', 'list')).not.toContain('CIPHER');
    const config = await scratch.must('peer', 'add', 'bob', '--cipher', 'aes256gcm');
    expect(config).toContain(LINE);
    expect(JSON.parse((await ping(config, first, 20)).stdout)).toMatchObject({ ok: true, received: 2 });
    await server!.stop();
    const second = await start();
    expect(JSON.parse((await ping(config, second, 20)).stdout)).toMatchObject({ ok: true, received: 2 });

    expect(await scratch.must('peer', 'show', 'bob')).toMatch(/cipher +aes256gcm: not WireGuard-compatible\n/);
    expect(JSON.parse(await scratch.must('peer', 'show', 'bob', '--json'))).toMatchObject({
      cipher: 'aes256gcm',
      live: { cipherSuite: 'aes256gcm', sessions: 1 },
    });
    expect(await scratch.must('peer', 'list')).toMatch(
      /^NAME +ADDRESS +CIPHER [^]*alice .* chacha20poly1305 [^]*bob .* aes256gcm /,
    );
  });

  it.each([
    ['the client', ['--cipher', 'aes256gcm'], (config: string) => config.replace(LINE, ''), 'for us'],
    ['the server', [], (config: string) => config + LINE, 'the server needs'],
  ] as const)('is refused where %s lacks it, and both ends say why', async (_, options, change, hint) => {
    const port = await start();
    const config = change(await scratch.must('peer', 'add', 'bob', ...options));
    const { code, stdout } = await ping(config, port, 2);
    const result = JSON.parse(stdout) as { readonly hints: readonly string[] };
    expect(code).toBe(3);
    expect(result).toMatchObject({ ok: false, failure: 'no-answer' });
    expect(result.hints.find((text) => text.includes('Cipher = aes256gcm'))).toContain(hint);
    expect(await server!.logged('handshake-refused')).toMatchObject({
      reason: 'cipher-mismatch',
      peer: 'bob',
      message: expect.stringContaining("both ends need the same 'Cipher'") as string,
    });
  });

  it.each([
    ['the client', ['--cipher', 'aes256gcm'], [], 'for us'],
    ['the server', [], ['--cipher', 'aes256gcm'], 'the server needs'],
  ] as const)('is refused where only the other end than %s has the option', async (_, there, here, hint) => {
    const port = await start();
    const config = await scratch.must('peer', 'add', 'bob', ...there);
    const { code, stdout } = await ping(config.replace(LINE, ''), port, 2, ...here);
    expect(code).toBe(3);
    const { hints } = JSON.parse(stdout) as { readonly hints: readonly string[] };
    expect(hints.find((text) => text.includes('Cipher = aes256gcm'))).toContain(hint);
    expect(await server!.logged('handshake-refused')).toMatchObject({ reason: 'cipher-mismatch', peer: 'bob' });
  });

  it('is refused with another name, and nothing is added', async () => {
    const { code, stderr } = await scratch.run('peer', 'add', 'bob', '--cipher', 'rot13');
    expect([code, stderr]).toEqual([2, expect.stringContaining('chacha20poly1305, aes256gcm')]);
    expect(JSON.parse(await scratch.must('peer', 'list', '--json'))).toEqual([]);
  });
});

describe('--cipher of the client', () => {
  it('stands above the file, in both directions', async () => {
    const port = await start();
    const aes = await scratch.must('peer', 'add', 'bob', '--cipher', 'aes256gcm');
    const chacha = await scratch.must('peer', 'add', 'alice');
    for (const [config, cipher] of [
      [aes.replace(LINE, ''), 'aes256gcm'],
      [chacha + LINE, 'chacha20poly1305'],
    ] as const) {
      const outcome = await ping(config, port, 20, '--cipher', cipher);
      expect(JSON.parse(outcome.stdout)).toMatchObject({ ok: true, received: 2 });
    }
  });

  it('is that of `sealane proxy` too, which carries bytes with it', async () => {
    const echo = createServer((socket) => socket.pipe(socket)).listen(0, '127.0.0.1');
    try {
      await new Promise((resolve) => echo.once('listening', resolve));
      const target = `127.0.0.1:${(echo.address() as AddressInfo).port}`;
      const port = await start('--allow', target.replace(':', '/32:'));
      const config = await scratch.must('peer', 'add', 'bob', '--cipher', 'aes256gcm', '--allowed-ips', '127.0.0.0/8');
      const file = clientFile(config.replace(LINE, ''), port);
      const args = [SEALANE, 'proxy', file, '--cipher', 'aes256gcm', '--stdio', target];
      const proxy = startProcess([process.execPath, ...args], { STATE_DIRECTORY: scratch.folder });
      proxy.child.stdin!.end('there and back');
      expect(await proxy.ended).toMatchObject({ code: 0, stdout: 'there and back' });
      expect(await server!.logged('session')).toMatchObject({ peer: 'bob' });
    } finally {
      echo.close();
    }
  });

  it.each(['ping', 'proxy', 'up', 'doctor'])('is refused by %s with a suite that there is not', async (command) => {
    const config = await scratch.must('peer', 'add', 'bob');
    const { code, stderr } = await sealane([command, clientFile(config, 1), '--cipher', 'rot13']);
    expect([code, stderr]).toEqual([2, expect.stringContaining('chacha20poly1305, aes256gcm')]);
  });
});

describe('sealaned peer set', () => {
  it('changes the cipher of a running server, says what the client needs, and changes it back', async () => {
    const port = await start();
    const config = await scratch.must('peer', 'add', 'bob');
    expect(JSON.parse((await ping(config, port, 20)).stdout)).toMatchObject({ ok: true });

    expect(await scratch.must('peer', 'set', 'bob', '--cipher', 'aes256gcm')).toBe(
      'changed bob: the running server knows\n' +
        "[Peer] of its client's file needs '#@ Cipher = aes256gcm' now: without it there is no session\n",
    );
    expect(await server!.logged('peer-changed')).toMatchObject({ peer: 'bob' });
    expect(JSON.parse(await scratch.must('peer', 'show', 'bob', '--json'))).toMatchObject({
      cipher: 'aes256gcm',
      live: { cipherSuite: 'aes256gcm' },
    });
    expect((await ping(config, port, 2)).code).toBe(3);
    expect(JSON.parse((await ping(config + LINE, port, 20)).stdout)).toMatchObject({ ok: true, received: 2 });

    expect(await scratch.must('peer', 'set', 'bob', '--cipher', 'chacha20poly1305')).toContain('no Cipher line now');
    expect(JSON.parse((await ping(config, port, 20)).stdout)).toMatchObject({ ok: true, received: 2 });
  });

  it('turns the post-quantum exchange on and off, and leaves the cipher alone', async () => {
    await scratch.must('peer', 'add', 'bob', '--cipher', 'aes256gcm');
    const shown = async (): Promise<unknown> => JSON.parse(await scratch.must('peer', 'show', 'bob', '--json'));
    const before = await shown();
    expect(await scratch.must('peer', 'set', 'bob', '--post-quantum')).toMatch(/^changed bob\n.*PostQuantum = yes/);
    expect(await shown()).toEqual({ ...(before as object), postQuantum: true });
    await start();
    expect(await shown()).toHaveProperty('live.postQuantum');
    await scratch.must('peer', 'set', 'bob', '--no-post-quantum');
    expect(await shown()).not.toHaveProperty('live.postQuantum');
    await server!.stop();
    expect(await shown()).toEqual(before);
  });

  it('says what is missing, and changes nothing', async () => {
    await scratch.must('peer', 'add', 'bob');
    const before = await scratch.must('peer', 'list', '--json');
    for (const [args, status, text] of [
      [['bob'], 2, 'nothing to change: add --cipher, --post-quantum, --no-post-quantum or --forget-timestamp'],
      [['bob', '--cipher', 'rot13'], 2, 'chacha20poly1305, aes256gcm'],
      [['carol', '--post-quantum'], 1, 'there is no peer carol'],
    ] as const) {
      const { code, stderr } = await scratch.run('peer', 'set', ...args);
      expect([code, stderr]).toEqual([status, expect.stringContaining(text)]);
    }
    expect(await scratch.must('peer', 'list', '--json')).toBe(before);
  });
});
