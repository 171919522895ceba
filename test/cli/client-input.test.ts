import { chmod, chown, mkdir, symlink } from 'node:fs/promises';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { clientConfig, Folder, newKeyPair, type Outcome, run, sealane, SEALANE } from './client-support.ts';
import { missing } from '../support/lab.ts';

const client = newKeyPair();
const server = newKeyPair();
const GOOD = clientConfig({ client, serverKey: server.publicText, endpoint: '127.0.0.1:51820' });

let folder: Folder;

beforeEach(async () => {
  folder = await Folder.make();
});

afterEach(() => folder.remove());

/** One line, the given exit code, no output, no secret, no interface. */
function expectRefused(outcome: Outcome, code: number, message: string | RegExp): void {
  expect(outcome.stderr).toMatch(message);
  expect(outcome.stderr).toMatch(/^sealane: [^\n]+\n$/);
  expect(outcome.stderr).not.toContain(client.privateText.slice(0, 20));
  expect(outcome).toMatchObject({ code, stdout: '' });
  expect(Object.keys(networkInterfaces())).not.toContain('slbad0');
}

const BAD: readonly (readonly [string, string, RegExp])[] = [
  ['a missing key', GOOD.replace(/^PrivateKey.*\n/m, ''), /slbad0\.conf:1: PrivateKey: is missing/],
  ['a bad key', GOOD.replace(/^PrivateKey = .../m, 'PrivateKey = !!!'), /slbad0\.conf:2: PrivateKey: /],
  ['a key that is too short', GOOD.replace(/^PublicKey = .../m, 'PublicKey = '), /slbad0\.conf:5: PublicKey: /],
  ['a port out of range', GOOD.replace(':51820', ':70000'), /slbad0\.conf:7: Endpoint: /],
  ['a bad address', GOOD.replace('127.77.0.2/32', '127.77.0.256/32'), /slbad0\.conf:3: Address: /],
  [
    'an address twice',
    GOOD.replace('127.77.0.2/32', '127.77.0.2/32, 127.77.0.2/24'),
    /slbad0\.conf:3: Address: .*already/,
  ],
  ['an unknown key', GOOD.replace('AllowedIPs', 'AllowedIP'), /slbad0\.conf:6: AllowedIP: .*AllowedIPs/],
  [
    'a rekey interval beyond the protocol',
    GOOD.replace('[Peer]', 'RekeyInterval = 121\n[Peer]'),
    /slbad0\.conf:4: RekeyInterval: /,
  ],
  ['shell words', GOOD.replace('127.77.0.2/32', '$(touch /tmp/x)'), /slbad0\.conf:3: Address: /],
  ['nothing at all', '', /slbad0\.conf: \[Interface\]: is missing/],
];

describe('a configuration with', () => {
  it.each(BAD)('%s is refused by up and by ping, and nothing is applied', async (_what, text, message) => {
    const path = await folder.write('slbad0.conf', text);
    for (const command of ['up', 'ping']) {
      expectRefused(await sealane([command, path], '', { STATE_DIRECTORY: folder.path }), 2, message);
    }
  });

  it('a name that is no file is refused with every place that was looked at, be it that of a folder', async () => {
    const name = 'slnosuch0';
    const places = `/etc/sealane/${name}.conf or /etc/wireguard/${name}.conf`;
    const look = (command: string): Promise<Outcome> =>
      run(['env', '-C', folder.path, process.execPath, SEALANE, command, name]);
    for (const command of ['up', 'ping']) {
      expectRefused(await look(command), 2, `sealane: ${name}: is no file here, and none was found at ${places}`);
    }
    expect(await look('doctor')).toMatchObject({
      code: 1,
      stderr: '',
      stdout: expect.stringContaining(places) as string,
    });
    await mkdir(join(folder.path, name));
    expectRefused(await look('ping'), 2, `sealane: ${name}: is a directory here, and none was found at ${places}`);
  });

  it('commands are refused when they come through a pipe', async () => {
    const text = GOOD.replace('[Peer]', 'PostUp = true\n[Peer]');
    const outcome = await sealane(['up', '-', '--name', 'slbad0'], text);
    expectRefused(outcome, 2, /standard input: commands \(PreUp, .*\) are run from a file only/);
  });

  it.each([
    ['read', 0o644],
    ['written', 0o602],
  ])('permissions that let it be %s by others is refused', async (what, mode) => {
    const path = await folder.write('slbad0.conf', GOOD);
    await chmod(path, mode);
    const message = new RegExp(`slbad0\\.conf: may be ${what} by other users; run 'chmod 600 `);
    for (const command of ['up', 'ping']) expectRefused(await sealane([command, path]), 2, message);
  });

  it('permissions are named by doctor with their remedy, and overlooked by the option that it has', async () => {
    const path = await folder.write('slbad0.conf', GOOD);
    await chmod(path, 0o644);
    const doctor = async (...words: readonly string[]): Promise<string> =>
      (await sealane(['doctor', path, '--timeout', '0.1', ...words])).stdout;
    const [found = ''] = /^bad {2}file .*\n.*$/m.exec(await doctor()) ?? [];
    expect(found).toMatch(/slbad0\.conf: may be read by other users\n +-> run 'chmod 600 \S+slbad0\.conf'$/);
    expect(await doctor('--any-permissions')).toMatch(/^ok {3}file +\S+slbad0\.conf is valid$/m);
    const help = await sealane(['doctor', '--help']);
    expect(help.stdout).toContain('--any-permissions');
    expect(help.stdout).not.toContain('--force');
    expectRefused(await sealane(['doctor', path, '--force']), 2, /unknown option '--force'/);
  });

  it('a configuration on standard input needs a name', async () => {
    expectRefused(await sealane(['up', '-'], GOOD), 2, /gives no interface name .*: add --name NAME$/m);
  });

  it.runIf(process.geteuid?.() === 0)('another owner is refused for that, also when root may not read it', async () => {
    const path = await folder.write('slbad0.conf', GOOD);
    await chown(path, 4_242, 4_242);
    for (const command of ['up', 'ping']) {
      expectRefused(
        await sealane([command, path]),
        2,
        /slbad0\.conf: belongs to another user \(uid 4242\); copy it, or/,
      );
    }
  });

  it('no file behind it is refused', async () => {
    const missingFile = join(folder.path, 'slbad0.conf');
    expectRefused(await sealane(['up', missingFile]), 2, /slbad0\.conf: does not exist/);
    await symlink(join(folder.path, 'nowhere'), missingFile);
    expectRefused(await sealane(['up', missingFile]), 2, /slbad0\.conf: does not exist/);
    await mkdir(join(folder.path, 'folder.conf'));
    expectRefused(await sealane(['up', join(folder.path, 'folder.conf')]), 2, /folder\.conf: is not a file/);
  });

  it('an endpoint that does not resolve is refused by up before anything is made', async () => {
    const path = await folder.write('slbad0.conf', GOOD.replace('127.0.0.1:', 'nowhere.invalid:'));
    expectRefused(await sealane(['up', path]), 3, /cannot resolve endpoint nowhere\.invalid:51820/);
  });
});

describe('arguments', () => {
  it.each([
    [['frobnicate'], /unknown command 'frobnicate'/],
    [['statsu'], /unknown command 'statsu'.*status/],
    [['up'], /missing required argument 'config'/],
    [['device', 'a/b'], /'a\/b' is no interface name/],
    [['device', 'wg0; reboot'], /is no interface name/],
    [['device', 'sixteen-letters0'], /is no interface name/],
    [['device', '..'], /is no interface name/],
    [['device', 'wg0', '--lane', 'fast'], /--lane <lane>.*portable, linux/],
    [['device', 'wg0', '--lanes', '0'], /--lanes <n>.*from 1 to 16/],
    [['device', 'wg0', '--lane', 'portable', '--lanes', '4'], /'--lanes 4' cannot be used with.*'--lane portable'/],
    [['up', 'x', '--lane', 'portable', '--lanes', '2'], /'--lanes 2' cannot be used with.*'--lane portable'/],
    [['status', 'a b'], /is no interface name/],
    [['rekey', 'slbad0', 'nonsense'], /PEER is no public key/],
    [['rekey', 'slbad0', '--timeout', '0'], /--timeout <seconds>/],
    [['genkey', 'extra'], /too many arguments/],
    [['ping', 'x', '--frob'], /unknown option '--frob'/],
  ])('%j are refused in one line', async (args, message) => {
    expectRefused(await sealane(args), 2, message);
  });

  it.each([
    ['status', 'slbad0'],
    ['down', 'slbad0'],
    ['rekey', 'slbad0'],
  ])('%s %s says that nothing runs', async (...args) => {
    expectRefused(
      await sealane(args),
      1,
      /^sealane: no tunnel slbad0 is running here(: of other users. tunnels only root is told)?\n$/,
    );
  });

  it('every command has help with examples, and help names the exit codes', async () => {
    const help = await sealane(['--help']);
    expect(help).toMatchObject({ code: 0, stderr: '' });
    expect(help.stdout).toMatch(/Exit codes:\n {2}0 {4}done\n/);
    const commands = [...help.stdout.matchAll(/^ {2}([a-z]+) .*/gm)]
      .map(([, name]) => name!)
      .filter((name) => name !== 'help');
    expect(commands.length).toBeGreaterThanOrEqual(9);
    for (const command of commands.filter((name) => name !== 'sealane')) {
      const { code, stdout } = await sealane([command, '--help']);
      expect({ command, code, examples: /Examples:\n {2}\S/.test(stdout) }).toEqual({
        command,
        code: 0,
        examples: true,
      });
    }
  });

  it('prints its version', async () => {
    expect((await sealane(['--version'])).stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
  });

  it('shows no stack trace unless it is asked for', async () => {
    expect((await sealane(['up', '/nonexistent/x.conf'])).stderr).not.toMatch(/\n\s+at /);
    expect((await sealane(['up', '/nonexistent/x.conf'], '', { SEALANE_DEBUG: '1' })).stderr).toMatch(/\n\s+at /);
  });
});

describe.skipIf(missing('setpriv') !== undefined)('without the privilege to make interfaces', () => {
  it.each(['device', 'up'])('%s says so and names the way that needs none', async (command) => {
    const path = await folder.write('slbad0.conf', GOOD);
    const caps = ['--bounding-set=-net_admin', '--inh-caps=-net_admin'];
    const argument = command === 'device' ? 'slbad0' : path;
    const outcome = await run(['setpriv', ...caps, process.execPath, SEALANE, command, argument], '', {
      STATE_DIRECTORY: folder.path,
    });
    expectRefused(outcome, 5, /^sealane: no permission to make the interface slbad0: .*`sealane ping CONFIG`/);
  });
});
