/** Published failures of whole servers, each named by where it happened: the server and its clients are processes. */
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { sealane, type Outcome } from '../cli/client-support.ts';
import { Scratch, startServer, type ServerProcess } from '../cli/server-support.ts';

const CLOCK = fileURLToPath(new URL('../support/clock.cjs', import.meta.url));

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

/** Adds a peer, starts the server with what it does when it is asked for nothing more, and writes the peer's file. */
async function client(name: string): Promise<string> {
  const config = await scratch.must('peer', 'add', name);
  const started = await startServer(scratch.state);
  server = started.server;
  const path = scratch.path(`${name}.conf`);
  writeFileSync(path, config.replace('127.0.0.1:51820', `127.0.0.1:${started.ready.port}`), { mode: 0o600 });
  return path;
}

/** `sealane ping` on a computer of its own: no timestamp of another run is known there. */
function ping(path: string, computer: string, env: Readonly<Record<string, string>> = {}): Promise<Outcome> {
  return sealane(['ping', path, '--count', '2'], '', { STATE_DIRECTORY: scratch.path(computer), ...env });
}

describe('servers', () => {
  it('CVE-2021-46873: an initiation from the future burnt the key until the server was restarted', async () => {
    const path = await client('alice');
    const future = { NODE_OPTIONS: `--require ${CLOCK}`, CLOCK: String(Date.UTC(2100, 0, 1)) };
    expect((await ping(path, 'thief', future)).code).toBe(0);
    expect((await ping(path, 'own')).code).toBe(3);
    const refused = await server!.logged('handshake-refused', ({ reason }) => reason === 'stale-timestamp');
    expect(JSON.stringify(refused)).toContain('--forget-timestamp');
    const before = await scratch.must('peer', 'show', 'alice', '--json');
    expect(await scratch.must('peer', 'set', 'alice', '--forget-timestamp')).toContain('the running server knows');
    expect((await ping(path, 'own')).code).toBe(0);
    // The peer is who it was: the same keys and addresses, so that its file goes on to be right.
    const { live: _, ...kept } = JSON.parse(before) as Record<string, unknown>;
    expect(JSON.parse(await scratch.must('peer', 'show', 'alice', '--json'))).toMatchObject(kept);
    expect(server!.child.exitCode).toBe(null);
  });

  it.each([
    ['no password', undefined, '--auth'],
    ['a file that is missing', [], 'auth'],
    ['a file without a login', ['# nobody', ''], 'has no line USER:PASSWORD'],
    ['a login without a password', ['alice:'], 'expected USER:PASSWORD'],
    ['a line that is none', ['alice'], 'expected USER:PASSWORD'],
  ])('wg-easy #1473, #1150: a missing password opened the door to all: %s', async (_, lines, says) => {
    const path = await client('alice');
    const auth = scratch.path('auth');
    if (lines !== undefined && lines.length > 0) writeFileSync(auth, lines.join('\n'), { mode: 0o600 });
    for (const door of ['--socks5', '--http']) {
      const options = [door, '0.0.0.0:0', ...(lines === undefined ? [] : ['--auth', auth])];
      const { code, stdout, stderr } = await sealane(['proxy', path, ...options], '', {
        STATE_DIRECTORY: scratch.path('own'),
      });
      expect(code, stdout + stderr).toBe(2);
      expect(stderr).toContain(says);
    }
  });
});
