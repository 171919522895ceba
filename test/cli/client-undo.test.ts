/** `sealane down` of a tunnel that runs, when a step of the way back fails: it says which, and the exit code tells. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { clientFile, nobodysState, systemOf, tryUp, twoHosts } from './client-lab.ts';
import { SEALANE } from './client-support.ts';
import { type Host, Lab, missing, type Result, type Running, until } from '../support/lab.ts';

const reason = missing('nft', 'bash');

/** Says that it is there, and then hangs while there is a file `slow`. */
const HANG = ': > asked; while [ -e slow ]; do sleep 0.05; done';

/** A resolvconf(8) of one record that takes nothing back while there is a file `stuck`. */
const RESOLVCONF = `#!/bin/sh
cd "$FOLDER" || exit 1
case "$1" in
-a) cat > record ;;
-d) [ ! -e stuck ] || { echo the file system is read-only >&2; exit 1; }; rm -f record; ${HANG} ;;
esac
`;

/** Hangs once it has deleted the last policy rule of a tunnel. */
const ip = (real: string): string => `#!/bin/sh
cd "$FOLDER" || exit 1
${real} "$@"
status=$?
case "$*" in *rule*delete*suppress*) ${HANG} ;; esac
exit $status
`;

class Tunnel {
  readonly lab: Lab;
  readonly host: Host;
  readonly name: string;
  readonly #words: readonly string[];

  private constructor(lab: Lab, host: Host) {
    this.lab = lab;
    this.host = host;
    this.name = lab.interfaceName('a');
    const path = `${this.path('bin')}:${process.env['PATH']}`;
    this.#words = [`STATE_DIRECTORY=${lab.folder}`, `FOLDER=${lab.folder}`, `PATH=${path}`, process.execPath, SEALANE];
  }

  static async prepare(lab: Lab): Promise<Tunnel> {
    const tunnel = new Tunnel(lab, (await twoHosts(lab)).a);
    await mkdir(tunnel.path('bin'));
    await writeFile(tunnel.path('bin/resolvconf'), RESOLVCONF, { mode: 0o755 });
    return tunnel;
  }

  path(name: string): string {
    return join(this.lab.folder, name);
  }

  up(extra: string, ...options: readonly string[]): Promise<Running> {
    return this.start(this.name, clientFile('0.0.0.0/0', extra), ...options);
  }

  async start(name: string, text: string, ...options: readonly string[]): Promise<Running> {
    const file = await this.lab.file(`${name}.conf`, text);
    const running = this.host.start('env', [...this.#words, 'up', file, ...options]);
    const ready = (): boolean => running.stderr.includes(' is up: ') || running.child.exitCode !== null;
    await until('the tunnel to be up or gone', ready, 45_000);
    if (!running.stderr.includes(' is up: ')) throw new Error(running.stderr);
    return running;
  }

  down(): Promise<Result> {
    return this.host.run('env', [...this.#words, 'down', this.name]);
  }

  journals(): readonly string[] {
    return readdirSync('/run/sealane-client').filter((file) => file.startsWith(`${this.name}.`));
  }
}

describe.skipIf(reason !== undefined)(`sealane down, when a step fails (${reason ?? 'in a namespace'})`, () => {
  it('names what could not be undone, undoes all else, and undoes the rest once that is possible', async () => {
    await using lab = await Lab.open();
    const tunnel = await Tunnel.prepare(lab);
    const before = await systemOf(tunnel.host);
    const running = await tunnel.up('DNS = 10.88.0.1');
    await writeFile(tunnel.path('stuck'), '');

    const failing = await tunnel.down();
    expect(failing.stderr).toMatch(
      /^sealane: cannot undo name servers of [\w.]+: 'resolvconf -d .*' failed: the file system is read-only$/m,
    );
    expect(failing.code).toBe(1);
    // A service manager would start again what fails.
    expect(await running.exit).toBe(0);
    expect(await systemOf(tunnel.host)).toBe(before);
    expect(existsSync(tunnel.path('record'))).toBe(true);

    await rm(tunnel.path('stuck'));
    const down = await tunnel.down();
    expect(down.stderr).toMatch(/^sealane: \w+ left something behind; undone: name servers of [\w.]+$/m);
    expect(down.code).toBe(0);
    expect(existsSync(tunnel.path('record'))).toBe(false);
    expect(tunnel.journals()).toEqual([]);
  });

  it('names a command of the file that failed on the way down, and does not run it again', async () => {
    await using lab = await Lab.open();
    const tunnel = await Tunnel.prepare(lab);
    const before = await systemOf(tunnel.host);
    const running = await tunnel.up(`PostDown = echo x >> ${tunnel.path('runs')}; exit 3`);
    const down = await tunnel.down();
    const complaint = `cannot undo PostDown: ${tunnel.path(`${tunnel.name}.conf`)}:5: PostDown: the command failed with status 3\n`;
    expect(down.stderr).toContain(`sealane: ${complaint}`);
    expect(down.code).toBe(1);
    expect(await running.exit).toBe(0);
    expect(running.stderr).toContain(complaint);
    expect(await tunnel.host.must('cat', [tunnel.path('runs')])).toBe('x\n');
    expect(await systemOf(tunnel.host)).toBe(before);
    expect(tunnel.journals()).toEqual([]);
    expect((await tunnel.down()).stderr).toBe(`sealane: no tunnel ${tunnel.name} is running here\n`);
  });

  it('runs each command once, also when the tunnel is killed on its way down', async () => {
    await using lab = await Lab.open();
    const tunnel = await Tunnel.prepare(lab);
    const before = await systemOf(tunnel.host);
    const [runs, slow] = [tunnel.path('runs'), tunnel.path('slow')];
    await writeFile(slow, '');
    const running = await tunnel.up(
      `PreDown = echo pre >> ${runs}\nPostDown = echo post >> ${runs}; while [ -e ${slow} ]; do sleep 0.05; done`,
    );
    running.child.kill('SIGINT');
    await until('PostDown to run', () => existsSync(runs) && readFileSync(runs, 'utf8').endsWith('post\n'));
    await running.stop('SIGKILL');
    await rm(slow);
    const down = await tunnel.down();
    expect(down.code, down.stderr).toBe(0);
    expect(readFileSync(runs, 'utf8')).toBe('pre\npost\n');
    expect(await systemOf(tunnel.host)).toBe(before);
    expect(tunnel.journals()).toEqual([]);
  });

  it('runs the commands of a killed tunnel with the rights that they were written for, or not yet', async () => {
    await using lab = await Lab.open();
    const tunnel = await Tunnel.prepare(lab);
    await using _state = nobodysState(lab);
    const before = await systemOf(tunnel.host);
    const ran = tunnel.path('ran');
    const running = await tunnel.up(`PostDown = grep CapEff /proc/self/status > ${ran}`);
    await running.stop('SIGKILL');
    const file = await lab.file(`${tunnel.name}.conf`, clientFile('10.88.0.0/24'));
    const killed = await systemOf(tunnel.host);
    for (const options of [[], ['--detach'], ['--user', 'nobody']]) {
      const refused = await tryUp(lab, tunnel.host, file, ...options);
      expect(refused.stderr).toContain(
        `sealane: the PostDown of a killed ${tunnel.name} is still to be run, and needs rights that a file without commands does not get: 'sealane down ${tunnel.name}' first\n`,
      );
      expect([options, refused.code]).toEqual([options, 1]);
      expect(existsSync(ran)).toBe(false);
      expect(await systemOf(tunnel.host)).toBe(killed);
    }
    const down = await tunnel.down();
    expect(down.code, down.stderr).toBe(0);
    expect(readFileSync(ran, 'utf8')).toBe(await tunnel.host.must('grep', ['CapEff', '/proc/self/status']));
    expect(await systemOf(tunnel.host)).toBe(before);
  });

  it.for(['resolvconf', 'ip'] as const)(
    'undoes nothing a second time, which another tunnel has by now, when the tunnel is killed on its way down: in %s',
    async (program) => {
      await using lab = await Lab.open();
      const tunnel = await Tunnel.prepare(lab);
      const { host } = tunnel;
      const before = await systemOf(host);
      const dns = program === 'resolvconf' ? 'DNS = 10.88.0.1' : '';
      if (program === 'ip') {
        const real = (await host.must('bash', ['-c', 'command -v ip'])).trim();
        await writeFile(tunnel.path('bin/ip'), ip(real), { mode: 0o755 });
      }
      const running = await tunnel.up(dns);
      const rules = await host.must('ip', ['rule']);
      await writeFile(tunnel.path('slow'), '');
      running.child.kill('SIGTERM');
      await until(`${program} to hang`, () => existsSync(tunnel.path('asked')));
      await running.stop('SIGKILL');
      await rm(tunnel.path('slow'));

      const next = await tunnel.start(lab.interfaceName('b'), clientFile('0.0.0.0/0'));
      expect(await host.must('ip', ['rule'])).toBe(rules);
      const both = await systemOf(host);
      const down = await tunnel.down();
      expect(down.code, down.stderr).toBe(0);
      expect(await host.must('ip', ['rule'])).toBe(rules);
      expect(await systemOf(host)).toBe(both);
      expect(tunnel.journals()).toEqual([]);
      expect(await next.stop(), next.stderr).toBe(0);
      expect(await systemOf(host)).toBe(before);
    },
  );

  it("is not kept from it by another tunnel's record that nobody can read", async () => {
    await using lab = await Lab.open();
    const tunnel = await Tunnel.prepare(lab);
    const before = await systemOf(tunnel.host);
    const running = await tunnel.up('');
    await running.stop('SIGKILL');
    const folder = '/run/sealane-client';
    const journal = tunnel.journals().find((file) => file.endsWith('.json'))!;
    const broken = join(folder, journal.replace(tunnel.name, lab.interfaceName('b')));
    await writeFile(broken, '{', { mode: 0o600 });
    const down = await tunnel.down();
    await rm(broken);
    expect(down.code, down.stderr).toBe(0);
    expect(await systemOf(tunnel.host)).toBe(before);
  });

  it('removes the other rules of a tunnel when somebody has removed the first, and none of another tunnel', async () => {
    await using lab = await Lab.open();
    const tunnel = await Tunnel.prepare(lab);
    const other = [
      ['not', 'fwmark', '77', 'table', '77'],
      ['table', 'main', 'suppress_prefixlength', '0'],
    ];
    for (const words of other) await tunnel.host.must('ip', ['rule', 'add', ...words]);
    await tunnel.host.must('sysctl', ['-q', '-w', 'net.ipv4.conf.all.src_valid_mark=1']);
    const before = await systemOf(tunnel.host);
    await tunnel.up('');
    const [, mark] = /not from all fwmark (0x\w+) lookup (?!77)/.exec(await tunnel.host.must('ip', ['rule'])) ?? [];
    await tunnel.host.must('ip', ['rule', 'delete', 'not', 'fwmark', String(mark)]);
    const down = await tunnel.down();
    expect(down.code, down.stderr).toBe(0);
    expect(await systemOf(tunnel.host)).toBe(before);
  });

  it('is not needed to hear of it: the tunnel that ends on a signal fails too, and leaves the rest to be undone', async () => {
    await using lab = await Lab.open();
    const tunnel = await Tunnel.prepare(lab);
    const before = await systemOf(tunnel.host);
    const running = await tunnel.up(`DNS = 10.88.0.1\nPostDown = exit 3`);
    await writeFile(tunnel.path('stuck'), '');
    expect(await running.stop()).toBe(1);
    expect(running.stderr).toContain('cannot undo name servers');
    expect(running.stderr).toContain('cannot undo PostDown');
    expect(await systemOf(tunnel.host)).toBe(before);
    await rm(tunnel.path('stuck'));
    const again = await tunnel.up('DNS = 10.88.0.1');
    expect(again.stderr).toContain(': name servers of');
    expect(await again.stop(), again.stderr).toBe(0);
    expect(existsSync(tunnel.path('record'))).toBe(false);
    expect(tunnel.journals()).toEqual([]);
  });

  it('does itself what a tunnel of an ordinary user may not', async () => {
    await using lab = await Lab.open();
    const tunnel = await Tunnel.prepare(lab);
    await using _state = nobodysState(lab);
    const before = await systemOf(tunnel.host);
    const running = await tunnel.up('DNS = 10.88.0.1', '--user', 'nobody');
    const down = await tunnel.down();
    expect(down.code, down.stderr).toBe(0);
    expect(running.stderr).toContain('cannot undo name servers');
    expect(await running.exit).toBe(0);
    expect(existsSync(tunnel.path('record'))).toBe(false);
    expect(existsSync(`/var/run/wireguard/${tunnel.name}.sock`)).toBe(false);
    expect(tunnel.journals()).toEqual([]);
    expect(await systemOf(tunnel.host)).toBe(before);
  });
});
