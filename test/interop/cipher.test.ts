/** A peer with AES-256-GCM between real processes: added live, kept over a restart, and refused without the same line at both ends. */
import { writeFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { sealane, type Outcome } from '../cli/client-support.ts';
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

async function start(): Promise<number> {
  const started = await startServer(scratch.state);
  server = started.server;
  return started.ready.port;
}

function ping(config: string, port: number, timeout: number): Promise<Outcome> {
  const path = scratch.path('client.conf');
  writeFileSync(path, config.replace(/^Endpoint = .*$/m, `Endpoint = 127.0.0.1:${port}`), { mode: 0o600 });
  return sealane(['ping', path, '--count', '2', '--timeout', String(timeout), '--json'], '', {
    STATE_DIRECTORY: scratch.folder,
  });
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
    ['the server', [], (config: string) => config + LINE, 'has to stand at the server too'],
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

  it('is refused with another name, and nothing is added', async () => {
    const { code, stderr } = await scratch.run('peer', 'add', 'bob', '--cipher', 'rot13');
    expect([code, stderr]).toEqual([2, expect.stringContaining('chacha20poly1305, aes256gcm')]);
    expect(JSON.parse(await scratch.must('peer', 'list', '--json'))).toEqual([]);
  });
});
