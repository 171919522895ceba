/** What `sealane up` does beside addresses and routes, and that all of it is undone, whoever ends it. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { client, clientFile, SERVER, server, systemOf, twoHosts, up } from './client-lab.ts';
import { sealane, SEALANE } from './client-support.ts';
import { Lab, missing, until } from '../support/lab.ts';
import { expectFewPrivileges, NET_ADMIN } from '../support/privileges.ts';
import { ping } from '../support/wireguard.ts';

const reason = missing('ping', 'wg', 'nft', 'bash');

/** A resolvconf(8) that keeps one file a record and their sum in a resolv.conf, as far as a tunnel needs it. */
const RESOLVCONF = `#!/bin/sh
cd "$RESOLVCONF_FOLDER" || exit 1
case "$1" in
-a) cat > "record.$2" ;;
-d) rm "record.$2" || exit 1 ;;
*) exit 2 ;;
esac
cat record.* > resolv.conf 2>/dev/null || : > resolv.conf
`;

/** What is noted of the tunnel, if anything. */
function journalOf(name: string): string | undefined {
  const folder = '/run/sealane-client';
  const file = readdirSync(folder).find((entry) => entry.startsWith(`${name}.`) && entry.endsWith('.json'));
  return file === undefined ? undefined : readFileSync(join(folder, file), 'utf8');
}

describe.skipIf(reason !== undefined)(`sealane up as wg-quick (${reason ?? 'between two namespaces'})`, () => {
  it('runs the commands of its file in order and no others, and takes the MTU from the way to the endpoint', async () => {
    await using lab = await Lab.open();
    const { a } = await twoHosts(lab);
    await a.must('ip', ['link', 'set', 'va', 'mtu', '1450']);
    const before = await systemOf(a);
    const name = lab.interfaceName('a');
    const trace = join(lab.folder, 'trace');
    const say = (word: string): string => `echo ${word} %i $(ip -o link show %i 2>/dev/null | wc -l) >> ${trace}`;
    const lines = [
      `PreUp = ${say('pre-up')}`,
      `PostUp = ${say('post-up')}; ${say('and')}`,
      `PostUp = ${say('again')}`,
      `PreDown = ${say('pre-down')}`,
      `PostDown = ${say('post-down')}`,
    ].join('\n');
    const text = clientFile('10.88.0.0/24', lines).replace('MTU = 1400\n', '');
    const here = await up(lab, a, name, text);
    expect(await a.must('ip', ['link', 'show', name])).toContain('mtu 1370');
    expect(await here.stop()).toBe(0);
    expect((await readFile(trace, 'utf8')).trim().split('\n')).toEqual([
      `pre-up ${name} 0`,
      `post-up ${name} 1`,
      `and ${name} 1`,
      `again ${name} 1`,
      `pre-down ${name} 1`,
      `post-down ${name} 0`,
    ]);
    expect(await systemOf(a)).toBe(before);
    expect(journalOf(name)).toBeUndefined();
  });

  it('undoes everything when a command fails, and does not say what it was', async () => {
    await using lab = await Lab.open();
    const { a } = await twoHosts(lab);
    const before = await systemOf(a);
    const name = lab.interfaceName('a');
    const file = await lab.file(`${name}.conf`, clientFile('0.0.0.0/0', 'PostUp = true\nPostUp = exit 7; token=abc'));
    const env = [`STATE_DIRECTORY=${lab.folder}`, process.execPath, SEALANE, 'up'];
    const outcome = await a.run('env', [...env, file]);
    expect(outcome.stderr).toBe(`sealane: ${file}:6: PostUp: the command failed with status 7\n`);
    expect(outcome.code).toBe(1);
    expect(await systemOf(a)).toBe(before);

    const piped = await a.run('env', [...env, '-', '--name', name], { input: await readFile(file, 'utf8') });
    expect(piped.stderr).toContain(
      'standard input: commands (PreUp, PostUp, PreDown, PostDown) are run from a file only',
    );
    expect(piped.code).toBe(2);
    await chmod(file, 0o666);
    const open = await a.run('env', [...env, file]);
    expect(open.stderr).toContain(`may be written by other users; run 'chmod 600 ${file}'`);
    expect(open.code).toBe(2);
    expect(await systemOf(a)).toBe(before);
  });

  it('sets name servers and takes them back, also those of a killed one', async () => {
    await using lab = await Lab.open();
    const { a } = await twoHosts(lab);
    const name = lab.interfaceName('a');
    await mkdir(join(lab.folder, 'bin'));
    await writeFile(join(lab.folder, 'bin', 'resolvconf'), RESOLVCONF, { mode: 0o755 });
    const env = {
      STATE_DIRECTORY: lab.folder,
      RESOLVCONF_FOLDER: lab.folder,
      PATH: `${join(lab.folder, 'bin')}:${process.env['PATH']}`,
    };
    const before = await systemOf(a);
    const resolv = (): string => readFileSync(join(lab.folder, 'resolv.conf'), 'utf8');
    const file = await lab.file(
      `${name}.conf`,
      clientFile('0.0.0.0/0, ::/0', 'DNS = 10.88.0.1, fd08::1, corp.example'),
    );
    const start = async (): Promise<ReturnType<typeof a.start>> => {
      const running = a.start(process.execPath, [SEALANE, 'up', file], env);
      await until('the tunnel to be up', () => running.stderr.includes(' is up: '), 45_000);
      return running;
    };

    const first = await start();
    expect(resolv()).toBe('nameserver 10.88.0.1\nnameserver fd08::1\nsearch corp.example\n');
    expect(journalOf(name)).toContain('"kind":"resolvconf"');
    expect(await first.stop()).toBe(0);
    expect(resolv()).toBe('');

    const second = await start();
    await second.stop('SIGKILL');
    expect(resolv()).not.toBe('');
    expect(await systemOf(a)).not.toBe(before);
    const elsewhere = await sealane(['down', name], '', env);
    expect(elsewhere.stderr).toBe(`sealane: no tunnel ${name} is running here\n`);
    const down = await a.run('env', [
      `RESOLVCONF_FOLDER=${lab.folder}`,
      `PATH=${env.PATH}`,
      process.execPath,
      SEALANE,
      'down',
      name,
    ]);
    expect(down.stderr).toContain(`${name} had been killed; undone: `);
    expect(down.code).toBe(0);
    expect(resolv()).toBe('');
    expect(await systemOf(a)).toBe(before);
    expect((await sealane(['down', name])).stderr).toBe(`sealane: no tunnel ${name} is running here\n`);
  });

  it('refuses to bring a tunnel up without its name servers', async () => {
    await using lab = await Lab.open();
    const { a } = await twoHosts(lab);
    const name = lab.interfaceName('a');
    const file = await lab.file(`${name}.conf`, clientFile('10.88.0.0/24', 'DNS = 10.88.0.1'));
    const before = await systemOf(a);
    const bin = join(lab.folder, 'bin');
    await mkdir(bin);
    for (const program of ['ip', 'nft']) {
      const path = (await a.must('bash', ['-c', `command -v ${program}`])).trim();
      await a.must('ln', ['-s', path, join(bin, program)]);
    }
    const command = [
      'env',
      `STATE_DIRECTORY=${lab.folder}`,
      `PATH=${bin}`,
      process.execPath,
      SEALANE,
      'up',
      file,
    ] as const;
    const outcome = await a.run(command[0], command.slice(1));
    expect(outcome.stderr).toContain(
      'there is neither resolvectl nor resolvconf: install openresolv or systemd-resolved',
    );
    expect(outcome.code).toBe(1);
    expect(await systemOf(a)).toBe(before);
  });

  it('leaves itself in the background, keeps its privileges few, follows its file and saves what was changed', async () => {
    await using lab = await Lab.open();
    const { a, b } = await twoHosts(lab);
    const name = lab.interfaceName('a');
    await up(lab, b, lab.interfaceName('b'), SERVER);
    const before = await systemOf(a);
    const file = await lab.file(`${name}.conf`, clientFile('10.88.0.0/24, 10.99.0.0/16', 'SaveConfig = true'));
    const env = [`STATE_DIRECTORY=${lab.folder}`, process.execPath, SEALANE];
    const started = await a.run('env', [...env, 'up', file, '--detach']);
    expect(started.stderr).toMatch(new RegExp(`${name} runs in the background: process \\d+, log /run/`));
    expect(started.code).toBe(0);
    const { pid } = JSON.parse(journalOf(name)!) as { pid: number };
    const log = /, log (\S+)\n$/.exec(started.stderr)![1]!;
    expectFewPrivileges(pid, NET_ADMIN);
    expect((await ping(a, '10.88.0.1', { count: 3 })).received).toBe(3);

    const sessions = async (): Promise<number | undefined> =>
      (JSON.parse((await sealane(['status', name, '--json'])).stdout) as { peers: { sessions: number }[] }).peers[0]
        ?.sessions;
    const had = await sessions();
    const changed = clientFile('10.88.0.0/24, 10.97.0.0/16', 'SaveConfig = true')
      .replace('10.88.0.2/32', '10.88.0.2/32, 10.88.7.2/32')
      .replace('MTU = 1400', 'MTU = 1380');
    await writeFile(file, changed, { mode: 0o600 });
    expect((await sealane(['sync', name, file])).code).toBe(0);
    const routes = await a.must('ip', ['route']);
    expect(routes).toContain(`10.97.0.0/16 dev ${name}`);
    expect(routes).not.toContain('10.99.0.0/16');
    const address = await a.must('ip', ['address', 'show', name]);
    expect(address).toContain('inet 10.88.7.2/32');
    expect(address).toContain('mtu 1380');
    expect((await ping(a, '10.88.0.1', { count: 3 })).received).toBe(3);
    expect(await sessions()).toBe(had);

    await writeFile(file, changed.replace('10.97.0.0/16', '10.96.0.0/16'), { mode: 0o600 });
    process.kill(pid, 'SIGHUP');
    await until('SIGHUP to be followed', async () =>
      (await a.must('ip', ['route'])).includes(`10.96.0.0/16 dev ${name}`),
    );
    expect(await sessions()).toBe(had);
    const wrong = await lab.file('wrong.conf', changed.replace('10.97.0.0/16', '10.97.0.0/77'));
    const refused = await sealane(['sync', name, wrong]);
    expect(refused.stderr).toContain("AllowedIPs: '10.97.0.0/77' is no prefix");
    expect(refused.code).toBe(2);
    const table = await lab.file('table.conf', changed.replace('[Peer]', 'Table = off\n[Peer]'));
    expect((await sealane(['sync', name, table])).stderr).toContain(`${name} did not take ${table} over`);

    await a.must('wg', ['set', name, 'peer', server.publicText, 'persistent-keepalive', '17']);
    const said = readFileSync(log, 'utf8');
    expect(said).toContain(`not reloaded: `);
    expect(said).not.toContain(client.privateText);
    expect((await a.run('env', [...env, 'down', name])).code).toBe(0);
    expect(await systemOf(a)).toBe(before);
    expect(existsSync(log)).toBe(false);
    const saved = await readFile(file, 'utf8');
    expect(saved).toContain('PersistentKeepalive = 17');
    expect(saved).toContain('Endpoint = 192.168.88.2:51888');
    expect(saved).toContain(`PrivateKey = ${client.privateText}`);
    expect((await a.must('stat', ['-c', '%a', file])).trim()).toBe('600');
  }, 120_000);
});
