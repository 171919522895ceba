/** `--user`: the process is an ordinary user's once it is set up, with few capabilities, and undoes what it did all the same. */
import { chownSync, existsSync, mkdtempSync, readdirSync, readFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { clientFile, nobodysState, runSealane, SERVER, systemOf, tryUp, twoHosts, up } from './client-lab.ts';
import { SEALANE } from './client-support.ts';
import { sealaned, SEALANED } from './server-support.ts';
import { type Host, Lab, missing, until } from '../support/lab.ts';
import { expectFewPrivileges, NET_ADMIN, NET_ADMIN_AND_BIND } from '../support/privileges.ts';
import { ping } from '../support/wireguard.ts';

const reason = missing('ping', 'nft', 'setpriv');
const NOBODY = 65_534;

/** The process in the host that runs this script. */
async function processOf(host: Host, script: string): Promise<number> {
  const pids = (await host.must('ip', ['netns', 'pids', host.name])).trim().split('\n');
  const found = pids.find((pid) => readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes(script));
  return Number(found);
}

describe.skipIf(reason !== undefined)(`--user (${reason ?? 'between two namespaces'})`, { timeout: 180_000 }, () => {
  it('takes a client with a default route down to an ordinary user and back to nothing', async () => {
    await using lab = await Lab.open();
    const { a, b } = await twoHosts(lab);
    await up(lab, b, lab.interfaceName('b'), SERVER);
    const before = await systemOf(a);
    const name = lab.interfaceName('a');
    await using _state = nobodysState(lab);
    const here = await up(lab, a, name, clientFile('0.0.0.0/0, ::/0'), '--user', 'nobody', '--kill-switch');
    expectFewPrivileges(await processOf(a, SEALANE), NET_ADMIN, NOBODY);
    expect((await ping(a, '10.88.0.1', { count: 3 })).received).toBe(3);
    // New sockets are marked by the thread of packets, which needs its capability for that.
    await a.must('wg', ['set', name, 'listen-port', '51999']);
    await until('the new port to work', async () => (await ping(a, '10.88.0.1', { count: 1 })).received === 1);
    expect(await here.stop(), here.stderr).toBe(0);
    expect(await systemOf(a)).toBe(before);
    expect(here.stderr).not.toContain('cannot undo');
    expect(here.stderr).toContain(`'sealane down ${name}' as root removes what is left`);
    const status = await runSealane(a, 'status', name);
    expect(status.stderr).toContain(`${name} ended as user nobody and left behind: only its record: '`);

    // Its name in the folder of sockets and its journal are root's to remove.
    expect(existsSync(`/var/run/wireguard/${name}.sock`)).toBe(true);
    const down = await runSealane(a, 'down', name);
    expect(down.code, down.stderr).toBe(0);
    expect(existsSync(`/var/run/wireguard/${name}.sock`)).toBe(false);
    expect(readdirSync('/run/sealane-client').filter((file) => file.startsWith(`${name}.`))).toEqual([]);
    expect(await systemOf(a)).toBe(before);
  });

  it.each([
    ['is first, and the other stays up', 'before'],
    ['has ended before the other begins', 'never'],
    ['is second, and the other stays up', 'after'],
  ])("leaves another tunnel alone, and so does 'sealane down' later, when it %s", async (_what, order) => {
    await using lab = await Lab.open();
    const { a } = await twoHosts(lab);
    const before = await systemOf(a);
    await using _state = nobodysState(lab);
    const [name, otherName] = [lab.interfaceName('a'), lab.interfaceName('b')];
    const begin = () => up(lab, a, name, clientFile('0.0.0.0/0, ::/0'), '--user', 'nobody');
    const beginOther = () => up(lab, a, otherName, clientFile('0.0.0.0/0, ::/0'));
    const early = order === 'after' ? await beginOther() : undefined;
    const alone = await systemOf(a);
    const here = await begin();
    const late = order === 'before' ? await beginOther() : undefined;
    expect(await here.stop(), here.stderr).toBe(0);
    if (order === 'after') expect(await systemOf(a)).toBe(alone);
    const other = early ?? late ?? (await beginOther());

    const both = await systemOf(a);
    expect(both).toContain('suppress_prefixlength');
    const down = await runSealane(a, 'down', name);
    expect(await systemOf(a)).toBe(both);
    expect(down.stderr).toBe(`sealane: ${name} had ended; its record is removed\n`);
    expect(down.code).toBe(0);
    expect(await other.stop(), other.stderr).toBe(0);
    expect(await systemOf(a)).toBe(before);
  });

  it('is told as killed when it was, and as ended when it ended, also after it took a kill switch away', async () => {
    await using lab = await Lab.open();
    const { a } = await twoHosts(lab);
    const before = await systemOf(a);
    await using _state = nobodysState(lab);
    const name = lab.interfaceName('a');
    const killed = await up(lab, a, name, clientFile('0.0.0.0/0'), '--user', 'nobody', '--kill-switch');
    await killed.stop('SIGKILL');
    const told = async (): Promise<string> => (await runSealane(a, 'status', name)).stderr;
    expect(await told()).toContain(`${name} was killed and its changes still stand, the kill switch too: '`);

    const here = await up(lab, a, name, clientFile('10.88.0.0/24'), '--user', 'nobody');
    await until('the kill switch to be gone', () => here.stderr.includes('is taken away'));
    expect(await a.must('nft', ['list', 'tables'])).toBe('');
    expect(await here.stop(), here.stderr).toBe(0);
    expect(await told()).toContain(`${name} ended as user nobody and left behind: only its record: '`);
    expect((await runSealane(a, 'doctor')).stdout).toContain(`${name} ended as user nobody`);
    expect((await runSealane(a, 'down', name)).stderr).toBe(`sealane: ${name} had ended; its record is removed\n`);
    expect(await systemOf(a)).toBe(before);
  });

  it('leaves no kill switch that the next start would keep', async () => {
    await using lab = await Lab.open();
    const { a } = await twoHosts(lab);
    await using _state = nobodysState(lab);
    const name = lab.interfaceName('a');
    const tables = (): Promise<string> => a.must('nft', ['list', 'tables']);
    const here = await up(lab, a, name, clientFile('0.0.0.0/0'), '--user', 'nobody', '--kill-switch');
    expect(await here.stop(), here.stderr).toBe(0);
    expect(await tables()).toBe('');
    const failing = await lab.file(`${name}.conf`, clientFile('0.0.0.0/0', 'PostUp = false'));
    const failed = await tryUp(lab, a, failing, '--kill-switch');
    expect(failed.stderr).toContain('PostUp: the command failed with status 1');
    expect(failed.stderr).not.toContain('kill switch');
    expect(await tables()).toBe('');

    const again = await up(lab, a, name, clientFile('0.0.0.0/0'), '--user', 'nobody', '--kill-switch');
    expect(await again.stop(), again.stderr).toBe(0);
    const without = await tryUp(lab, a, await lab.file(`${name}.conf`, clientFile('0.0.0.0/0')), '--detach');
    expect(without.code, without.stderr).toBe(0);
    expect((await runSealane(a, 'down', name)).code).toBe(0);
    expect(without.stderr).not.toContain('kill switch');
  });

  it('takes several lanes of a client and of a server down, each thread of them', async () => {
    await using lab = await Lab.open();
    const { a, b } = await twoHosts(lab);
    await using _state = nobodysState(lab);
    const before = [await systemOf(a), await systemOf(b)];
    const options = ['--user', 'nobody', '--lanes', '3'];
    const there = await up(lab, b, lab.interfaceName('b'), SERVER, ...options);
    const here = await up(lab, a, lab.interfaceName('a'), clientFile('0.0.0.0/0, ::/0'), ...options);
    for (const host of [a, b]) {
      const pid = await processOf(host, SEALANE);
      expectFewPrivileges(pid, NET_ADMIN, NOBODY);
      const name = lab.interfaceName(host === a ? 'a' : 'b');
      const status = JSON.parse(await host.must(process.execPath, [SEALANE, 'status', name, '--json'])) as unknown;
      expect(JSON.stringify(status)).toContain('"lanes":[{');
    }
    expect((await ping(a, '10.88.0.1', { count: 3 })).received).toBe(3);
    // Sockets that are opened and marked anew, by threads that are no longer root's.
    await a.must('wg', ['set', lab.interfaceName('a'), 'listen-port', '51999']);
    await until('the new port to work', async () => (await ping(a, '10.88.0.1', { count: 1 })).received === 1);
    expect(await here.stop(), here.stderr).toBe(0);
    expect(await there.stop(), there.stderr).toBe(0);
    expect([await systemOf(a), await systemOf(b)]).toEqual(before);
    for (const [host, side] of [
      [a, 'a'],
      [b, 'b'],
    ] as const) {
      expect((await runSealane(host, 'down', lab.interfaceName(side))).code).toBe(0);
    }
  });

  it.each(['1', '3'])('has become that user when --detach returns, and says so: %s lanes', async (lanes) => {
    await using lab = await Lab.open();
    const { a } = await twoHosts(lab);
    const before = await systemOf(a);
    const name = lab.interfaceName('a');
    await using _state = nobodysState(lab);
    const file = await lab.file(`${name}.conf`, clientFile('0.0.0.0/0'));
    const outcome = await tryUp(lab, a, file, '--detach', '--user', 'nobody', '--lanes', lanes);
    expect(outcome.code, outcome.stderr).toBe(0);
    expect(outcome.stderr).toMatch(
      new RegExp(`^sealane: ${name} is up: .*\nsealane: ${name} runs in the background: `),
    );
    expectFewPrivileges(Number(/process (\d+)/.exec(outcome.stderr)![1]), NET_ADMIN, NOBODY);
    const down = await runSealane(a, 'down', name);
    expect(down.code, down.stderr).toBe(0);
    expect(await systemOf(a)).toBe(before);
  });

  it.each([
    ['in the foreground', []],
    ['with --detach', ['--detach']],
  ])('takes everything back when it cannot become that user, %s', async (_how, options) => {
    await using lab = await Lab.open();
    const { a } = await twoHosts(lab);
    const before = await systemOf(a);
    const name = lab.interfaceName('a');
    await using _state = nobodysState(lab);
    const file = await lab.file(`${name}.conf`, clientFile('0.0.0.0/0'));
    const words = [process.execPath, SEALANE, 'up', file, '--user', 'nobody', '--kill-switch', ...options];
    const weak = ['setpriv', '--bounding-set=-setuid', ...words];
    const outcome = await a.run('env', [`STATE_DIRECTORY=${lab.folder}`, ...weak]);
    expect(outcome.stderr).toMatch(/^sealane: --user nobody: cannot become that user: [^\n]*EPERM[^\n]*\n$/);
    expect(outcome.code).toBe(5);
    expect(await systemOf(a)).toBe(before);
    const noted = readdirSync('/run/sealane-client').filter((file) => file.startsWith(`${name}.`));
    expect(noted.filter((file) => !file.endsWith('.log'))).toEqual([]);
  });

  it('refuses files whose end needs root, and users that are none', async () => {
    await using lab = await Lab.open();
    const host = await lab.host('a');
    for (const [user, extra, said] of [
      ['nobody', 'PostDown = true', 'its commands need root: leave --user out'],
      ['nobody', 'SaveConfig = true', 'SaveConfig needs root: leave --user out'],
      ['root', '', '--user root: there is no ordinary user of this name'],
      ['nobody; id', '', '--user nobody; id: there is no ordinary user of this name'],
    ] as const) {
      const file = await lab.file('wg0.conf', clientFile('10.88.0.0/24', extra));
      const outcome = await runSealane(host, 'up', file, '--user', user);
      expect(outcome.stderr).toContain(said);
      expect(outcome.code).toBe(2);
    }
    expect((await host.run('ip', ['link', 'show', 'wg0'])).code).not.toBe(0);
  });

  it('takes a server with forwarding down to the owner of its state, and leaves nothing', async () => {
    await using lab = await Lab.open();
    const { a, b } = await twoHosts(lab);
    const folder = mkdtempSync(join(tmpdir(), 'sealane-user-'));
    const state = join(folder, 'state');
    const where = ['--state', state];
    await sealaned(['init', '--endpoint', '192.168.88.2:51888', '--pool', '10.88.0.0/24', ...where]);
    const config = join(lab.folder, `${lab.interfaceName('a')}.conf`);
    await sealaned(['peer', 'add', 'client', '--out', config, ...where]);
    const before = await systemOf(b);
    const words = [SEALANED, 'run', '--interface', lab.interfaceName('b'), '--user', 'nobody', ...where];
    const refused = await b.run(process.execPath, words);
    expect(refused.stderr).toContain(`does not belong to nobody: give it away with 'chown -R nobody ${state}'`);
    expect(refused.code).toBe(2);
    for (const path of [state, ...readdirSync(state).map((file) => join(state, file))]) chownSync(path, NOBODY, NOBODY);
    chownSync(folder, NOBODY, NOBODY);

    const asRoot = words.filter((word) => word !== '--user' && word !== 'nobody');
    const foreign = await b.run(process.execPath, asRoot);
    expect(foreign.stderr).toContain(
      `${state} belongs to another user (uid ${NOBODY}): run it as that user with '--user`,
    );
    expect(foreign.code).toBe(2);
    expect(await systemOf(b)).toBe(before);

    const server = b.start(process.execPath, words);
    await until(
      'the server to be ready',
      () => server.stdout.includes('ready:') || server.child.exitCode !== null,
      45_000,
    );
    expect(server.stdout, server.stderr).toContain('ready:');
    expectFewPrivileges(await processOf(b, SEALANED), NET_ADMIN_AND_BIND, NOBODY);
    const here = a.start(process.execPath, [SEALANE, 'up', config], { STATE_DIRECTORY: lab.folder });
    await until('the client to be up', () => here.stderr.includes(' is up: '), 45_000);
    expect((await ping(a, '10.88.0.1', { count: 3 })).received).toBe(3);
    await until('the endpoint to be noted', () => existsSync(join(state, 'endpoints.json')));
    expect(await here.stop()).toBe(0);
    expect(await server.stop(), server.stdout + server.stderr).toBe(0);
    expect(await systemOf(b)).toBe(before);
    expect(existsSync(join(state, 'control.sock'))).toBe(false);
    await rm(folder, { recursive: true });
  });
});
