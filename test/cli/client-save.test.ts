/** SaveConfig: the file takes over what was changed while the tunnel ran, and keeps what only it knows. */
import { lstatSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { chmod, mkdir, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { clientFile, runSealane, server, tryUp, twoHosts } from './client-lab.ts';
import { SEALANE } from './client-support.ts';
import { type Host, Lab, missing, until } from '../support/lab.ts';
import { missingResolver, Resolver } from '../support/resolvers.ts';

const reason = missing('wg');
const SAVED = 'SaveConfig = true';

function fieldsOf(file: string, key: string): readonly string[] {
  return readFileSync(file, 'utf8')
    .split('\n')
    .filter((line) => line.startsWith(`${key} = `))
    .map((line) => line.slice(key.length + 3));
}

async function down(host: Host, name: string): Promise<void> {
  const { code, stderr } = await runSealane(host, 'down', name);
  expect(code, stderr).toBe(0);
}

describe.skipIf(reason !== undefined)(`SaveConfig (${reason ?? 'in a namespace'})`, { timeout: 120_000 }, () => {
  it('takes over addresses, MTU and mark as they are, and nothing that nobody changed', async () => {
    await using lab = await Lab.open();
    const { a } = await twoHosts(lab);
    const name = lab.interfaceName('a');
    const file = await lab.file(`${name}.conf`, clientFile('0.0.0.0/0', `${SAVED}\nTable = off`));
    const first = await tryUp(lab, a, file, '--detach');
    expect(first.code, first.stderr).toBe(0);
    await a.must('ip', ['address', 'add', '10.88.7.7/24', 'dev', name]);
    await a.must('ip', ['address', 'add', 'fd08::7/64', 'dev', name]);
    await a.must('ip', ['address', 'delete', '10.88.0.2/32', 'dev', name]);
    await a.must('ip', ['link', 'set', 'mtu', '1390', 'dev', name]);
    await a.must('wg', ['set', name, 'fwmark', '0x77']);
    const status = async (): Promise<string> => a.must(process.execPath, [SEALANE, 'status', name, '--json']);
    await until('the MTU to be seen', async () => (await status()).includes('"mtu":1390'));
    await down(a, name);
    expect(fieldsOf(file, 'Address')).toEqual(['fd08::2/128, 10.88.7.7/24, fd08::7/64']);
    expect(fieldsOf(file, 'MTU')).toEqual(['1390']);
    expect(fieldsOf(file, 'FwMark')).toEqual(['0x77']);

    const text = readFileSync(file, 'utf8');
    const second = await tryUp(lab, a, file, '--detach');
    expect(second.code, second.stderr).toBe(0);
    await down(a, name);
    expect(readFileSync(file, 'utf8')).toBe(text);
  });

  it('writes down neither the MTU nor the mark that were chosen for a file without them', async () => {
    await using lab = await Lab.open();
    const { a } = await twoHosts(lab);
    const name = lab.interfaceName('a');
    const file = await lab.file(`${name}.conf`, clientFile('0.0.0.0/0', SAVED).replace('MTU = 1400\n', ''));
    const started = await tryUp(lab, a, file, '--detach');
    expect(started.code, started.stderr).toBe(0);
    expect(await a.must('wg', ['show', name, 'fwmark'])).toMatch(/^0x/);
    await a.must('wg', ['set', name, 'peer', server.publicText, 'persistent-keepalive', '17']);
    await down(a, name);
    expect(fieldsOf(file, 'PersistentKeepalive')).toEqual(['17']);
    for (const key of ['MTU', 'FwMark']) expect(fieldsOf(file, key)).toEqual([]);
    expect(fieldsOf(file, 'Address')).toEqual(['10.88.0.2/32, fd08::2/128']);
  });

  it('writes to what a link leads to, and leaves the link', async () => {
    await using lab = await Lab.open();
    const { a } = await twoHosts(lab);
    const name = lab.interfaceName('a');
    await mkdir(join(lab.folder, 'kept'), { mode: 0o700 });
    const target = await lab.file('kept/real.conf', clientFile('10.88.0.0/24', SAVED));
    await chmod(target, 0o640);
    const link = join(lab.folder, `${name}.conf`);
    await symlink('kept/real.conf', link);
    const refused = await tryUp(lab, a, link, '--detach');
    expect(refused.stderr).toBe(`sealane: ${link}: is a symbolic link; name the file itself, ${target}\n`);
    expect(refused.code).toBe(2);

    const started = await tryUp(lab, a, link, '--detach', '--any-permissions');
    expect(started.code, started.stderr).toBe(0);
    await a.must('wg', ['set', name, 'peer', server.publicText, 'persistent-keepalive', '17']);
    await down(a, name);
    expect(lstatSync(link).isSymbolicLink()).toBe(true);
    expect(readlinkSync(link)).toBe('kept/real.conf');
    expect(lstatSync(target).isFile()).toBe(true);
    expect(fieldsOf(target, 'PersistentKeepalive')).toEqual(['17']);
    expect((statSync(target).mode & 0o777).toString(8)).toBe('600');
  });

  it('takes over name servers that resolvconf has now, and keeps search domains', async ({ skip }) => {
    const absent = missingResolver('openresolv');
    if (absent !== undefined) skip(absent);
    await using lab = await Lab.open();
    const { a } = await twoHosts(lab);
    const resolver = await Resolver.start(a, 'openresolv');
    const name = lab.interfaceName('a');
    const file = await lab.file(`${name}.conf`, clientFile('10.88.0.0/24', `${SAVED}\nDNS = 10.88.0.1, corp.example`));
    const beside = (...words: readonly string[]): Promise<string> => {
      const [program, args] = resolver.beside(...words);
      return a.must(program, args);
    };
    // What an ordinary start leaves in the background would be cut off from the private /run of a later command.
    const [program, args] = resolver.beside(process.execPath, SEALANE, 'up', file);
    const running = a.start(program, args, { STATE_DIRECTORY: lab.folder });
    await until('the tunnel', () => running.stderr.includes(' is up: ') || running.child.exitCode !== null, 45_000);
    expect(running.child.exitCode, running.stderr).toBeNull();
    const record = /tun\.\S+|\S+$/.exec((await beside('resolvconf', '-i', '*')).trim())![0];
    const servers = 'nameserver 10.88.0.8\\nnameserver fd08::8\\n';
    await beside('bash', '-c', `printf '${servers}' | resolvconf -a ${record}`);
    expect(await running.stop(), running.stderr).toBe(0);
    expect(fieldsOf(file, 'DNS')).toEqual(['10.88.0.8, fd08::8, corp.example']);
    await resolver.stop();
  });
});
