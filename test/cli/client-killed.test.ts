/** What `sealane up` leaves when it is killed in the middle of a step, and that `sealane down` knows of it. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { clientFile, runSealane, systemOf, twoHosts, up } from './client-lab.ts';
import { SEALANE } from './client-support.ts';
import { Lab, missing, type Result, until } from '../support/lab.ts';

const reason = missing('nft', 'bash');

const KILL_AFTER_WRITE = fileURLToPath(new URL('../support/kill-after-write.cjs', import.meta.url));
const SRC_VALID_MARK = '/proc/sys/net/ipv4/conf/all/src_valid_mark';

/** Does its work, says so and then hangs while the file `slow` is there. */
const HANG = ': > done; while [ -e slow ]; do sleep 0.05; done';

/** A resolvconf(8) of one record that forgives what is not there only with -f. */
const RESOLVCONF = `#!/bin/sh
cd "$FOLDER" || exit 1
case "$1" in
-a) cat > record; ${HANG} ;;
-d) rm $3 record ;;
esac
`;

/** Hangs once it has added a policy rule. */
const ip = (real: string): string => `#!/bin/sh
cd "$FOLDER" || exit 1
before=$(${real} rule)
${real} "$@"
status=$?
[ "$before" = "$(${real} rule)" ] || { ${HANG}; }
exit $status
`;

describe.skipIf(reason !== undefined)(`sealane up, killed within a step (${reason ?? 'in a namespace'})`, () => {
  it.for(['resolvconf', 'ip'] as const)('leaves nothing that down does not undo: %s', async (program) => {
    await using lab = await Lab.open();
    const { a } = await twoHosts(lab);
    const before = await systemOf(a);
    const name = lab.interfaceName('a');
    const bin = join(lab.folder, 'bin');
    await mkdir(bin);
    await writeFile(join(bin, 'resolvconf'), RESOLVCONF, { mode: 0o755 });
    const real = (await a.must('bash', ['-c', 'command -v ip'])).trim();
    if (program === 'ip') await writeFile(join(bin, 'ip'), ip(real), { mode: 0o755 });
    const env = [`STATE_DIRECTORY=${lab.folder}`, `FOLDER=${lab.folder}`, `PATH=${bin}:${process.env['PATH']}`];
    const command = [...env, process.execPath, SEALANE];
    const dns = program === 'resolvconf' ? 'DNS = 10.88.0.1' : '';
    const file = await lab.file(`${name}.conf`, clientFile('0.0.0.0/0', dns));
    await writeFile(join(lab.folder, 'slow'), '');

    const running = a.start('env', [...command, 'up', file]);
    await until(`${program} to hang`, () => {
      if (running.child.exitCode !== null) throw new Error(running.stderr);
      return existsSync(join(lab.folder, 'done'));
    });
    await running.stop('SIGKILL');
    if (program === 'resolvconf') expect(readFileSync(join(lab.folder, 'record'), 'utf8')).toContain('10.88.0.1');
    else expect(await a.must('ip', ['rule'])).toContain('suppress_prefixlength 0');

    await rm(join(lab.folder, 'slow'));
    const down = await a.run('env', [...command, 'down', name]);
    expect(down.stderr).toContain(`${name} had been killed; undone: `);
    expect(down.code).toBe(0);
    expect(existsSync(join(lab.folder, 'record'))).toBe(false);
    expect(await systemOf(a)).toBe(before);
  });

  it('leaves no setting that down does not put back', async () => {
    await using lab = await Lab.open();
    const { a } = await twoHosts(lab);
    const before = await systemOf(a);
    const name = lab.interfaceName('a');
    const file = await lab.file(`${name}.conf`, clientFile('0.0.0.0/0'));
    const command = ['--require', KILL_AFTER_WRITE, SEALANE, 'up', file];
    const killed = a.start(process.execPath, command, { STATE_DIRECTORY: lab.folder, KILL_AFTER: SRC_VALID_MARK });
    expect(await killed.exit, killed.stderr).toBe(128);
    expect(await a.must('cat', [SRC_VALID_MARK])).toBe('1\n');
    const down = await runSealane(a, 'down', name);
    expect(down.code, down.stderr).toBe(0);
    expect(await systemOf(a)).toBe(before);
  });

  it('is told of by status, with what stands and the way to undo it', { timeout: 240_000 }, async () => {
    await using lab = await Lab.open();
    const { a } = await twoHosts(lab);
    const name = lab.interfaceName('a');
    const sealane = (...words: readonly string[]): Promise<Result> => runSealane(a, ...words);
    for (const [allowed, options, what] of [
      ['0.0.0.0/0', ['--kill-switch'], 'was killed and its changes still stand, the kill switch too'],
      ['10.88.0.0/24', [], 'was killed'],
    ] as const) {
      const running = await up(lab, a, name, clientFile(allowed), ...options);
      await running.stop('SIGKILL');
      const told = `${name} ${what}: 'sealane down ${name}' cleans up after it`;
      const all = await sealane('status', '--json');
      expect(all.stderr.split('\n')).toContain(`sealane: ${told}`);
      expect(all.code).toBe(0);
      expect((JSON.parse(all.stdout) as { name: string }[]).filter((entry) => entry.name === name)).toEqual([
        { name, ended: false, killSwitch: options.length > 0, what, remedy: `sealane down ${name}`, peers: [] },
      ]);
      expect(await sealane('status', name)).toEqual({ code: 1, stdout: '', stderr: `sealane: ${told}\n` });
      expect((await sealane('doctor')).stdout).toContain(`${name} ${what}`);
      expect((await sealane('down', name)).code).toBe(0);
      const after = await sealane('status', '--json');
      expect(after.stderr + after.stdout).not.toContain(name);
    }
  });

  it('keeps a setting noted while rules that need it cannot be deleted', async () => {
    await using lab = await Lab.open();
    const { a } = await twoHosts(lab);
    const before = await systemOf(a);
    const name = lab.interfaceName('a');
    await (await up(lab, a, name, clientFile('0.0.0.0/0'))).stop('SIGKILL');
    const bin = join(lab.folder, 'bin');
    await mkdir(bin);
    const real = (await a.must('bash', ['-c', 'command -v ip'])).trim();
    const refusing = `#!/bin/sh\ncase "$*" in *rule*delete*) echo refused >&2; exit 1 ;; esac\nexec ${real} "$@"\n`;
    await writeFile(join(bin, 'ip'), refusing, { mode: 0o755 });
    const failed = await a.run('env', [`PATH=${bin}:${process.env['PATH']}`, process.execPath, SEALANE, 'down', name]);
    expect(failed.code).toBe(1);
    expect(failed.stderr).toContain('src_valid_mark: rules that need it are still there');
    expect((await a.must('cat', [SRC_VALID_MARK])).trim()).toBe('1');
    expect((await runSealane(a, 'down', name)).code).toBe(0);
    expect(await systemOf(a)).toBe(before);
  });

  it('is told of beside one whose record cannot be read', async () => {
    await using lab = await Lab.open();
    const { a } = await twoHosts(lab);
    const [broken, other] = [lab.interfaceName('a'), lab.interfaceName('b')];
    for (const name of [broken, other]) await (await up(lab, a, name, clientFile('10.88.0.0/24'))).stop('SIGKILL');
    const record = readdirSync('/run/sealane-client').find(
      (file) => file.startsWith(`${broken}.`) && file.endsWith('.json'),
    )!;
    await writeFile(join('/run/sealane-client', record), '{');
    const status = await runSealane(a, 'status');
    expect(status.code, status.stderr).toBe(0);
    expect(status.stderr).toContain(`${other} was killed: 'sealane down ${other}' cleans up after it`);
    expect(status.stderr).toContain(`${record} is not what 'sealane up' writes: look at it and remove it`);
    expect(status.stderr).not.toContain('no tunnel is running here');
    const doctor = await runSealane(a, 'doctor');
    for (const text of [`${other} was killed`, record]) expect(doctor.stdout).toContain(text);
    await rm(join('/run/sealane-client', record));
    expect((await runSealane(a, 'down', other)).code).toBe(0);
  });

  it('leaves the rules of others alone when it had none of its own yet', async () => {
    await using lab = await Lab.open();
    const { a } = await twoHosts(lab);
    const name = lab.interfaceName('a');
    const bin = join(lab.folder, 'bin');
    await mkdir(bin);
    const real = (await a.must('bash', ['-c', 'command -v ip'])).trim();
    const refusing = `#!/bin/sh\ncase "$*" in *-4*-batch*) echo refused >&2; exit 1 ;; esac\nexec ${real} "$@"\n`;
    await writeFile(join(bin, 'ip'), refusing, { mode: 0o755 });
    await a.must('ip', ['rule', 'add', 'table', 'main', 'suppress_prefixlength', '0']);
    const before = await systemOf(a);
    const file = await lab.file(`${name}.conf`, clientFile('0.0.0.0/0'));
    const path = `PATH=${bin}:${process.env['PATH']}`;
    const outcome = await a.run('env', [`STATE_DIRECTORY=${lab.folder}`, path, process.execPath, SEALANE, 'up', file]);
    expect(outcome.stderr).toMatch(/^sealane: 'ip rule add not fwmark .*' failed: refused\n$/);
    expect(await systemOf(a)).toBe(before);
  });
});
