/** What a killed `sealaned run` left on its host, told by status and undone by down: when not to, and what is said then. */
import { existsSync, readFileSync } from 'node:fs';
import { chmod, mkdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { State, systemOf } from './server-lab.ts';
import { SEALANED } from './server-support.ts';
import { Lab, missing, type Result } from '../support/lab.ts';

const reason = missing('nft', 'setpriv');
const NOBODY = 65_534;

describe.skipIf(reason !== undefined)(`sealaned down (${reason ?? 'in namespaces'})`, { timeout: 300_000 }, () => {
  it('keeps what was noted in another network namespace, says so, and undoes it there', async () => {
    await using lab = await Lab.open();
    const [here, there] = [await lab.host('s'), await lab.host('t')];
    const name = lab.interfaceName('s');
    const state = await State.make(lab, here, 'state');
    const before = await systemOf(here);
    await state.killed(here, name);
    const left = await systemOf(here);
    expect(left).not.toBe(before);

    const line = `what a server with ${name} changed was made in another network namespace: 'sealaned down' there undoes it; when that is gone, stop the server here first, then remove ${state.record}`;
    expect(await state.call(there, 'down')).toMatchObject({ code: 1, stdout: '', stderr: `sealaned: ${line}\n` });
    expect((await state.call(there, 'status')).stdout).toContain(line);
    const second = await state.run(there, name);
    expect(second.stdout).toContain(line);
    expect(await second.stop(), second.stderr).toBe(0);
    await state.killed(there, name);
    const both = await state.call(there, 'down');
    expect(both).toMatchObject({ code: 1, stderr: `sealaned: ${line}\n` });
    expect(both.stdout).toContain(`undone: nftables table inet sealaned-${name}`);
    expect(await systemOf(there)).toBe(before);

    expect(await systemOf(here)).toBe(left);
    const down = await state.call(here, 'down');
    expect(down, down.stderr).toMatchObject({ code: 0 });
    expect(await systemOf(here)).toBe(before);
    expect(existsSync(state.record)).toBe(false);
  });

  it.each(['{"place":', '[{"place":{},"interfaceName":"x","settings":[]}]'])(
    'leaves a record alone that it did not write: %s',
    async (content) => {
      await using lab = await Lab.open();
      const host = await lab.host('s');
      const state = await State.make(lab, host, 'state');
      await writeFile(state.record, content, { mode: 0o600 });
      const line = `${state.record} is not what sealaned writes: look at it and remove it`;
      expect(await state.call(host, 'down')).toMatchObject({ code: 1, stdout: '', stderr: `sealaned: ${line}\n` });
      expect((await state.call(host, 'status')).stdout).toContain(line);
      expect(JSON.parse((await state.call(host, 'status', '--json')).stdout)).toMatchObject({
        left: [],
        notes: [line],
      });
      const refused = state.start(host, lab.interfaceName('s'), []);
      expect(await refused.exit).toBe(1);
      expect(refused.stdout + refused.stderr).toContain(line);
      expect(readFileSync(state.record, 'utf8')).toBe(content);
    },
  );

  it('leaves nothing of a start that failed without nft', async () => {
    await using lab = await Lab.open();
    const host = await lab.host('s');
    const name = lab.interfaceName('s');
    const state = await State.make(lab, host, 'state');
    const before = await systemOf(host);
    const bin = join(lab.folder, 'bin');
    await mkdir(bin);
    await symlink((await host.must('bash', ['-c', 'command -v ip'])).trim(), join(bin, 'ip'));
    const words = [process.execPath, SEALANED, 'run', '--state', state.path, '--interface', name, '--listen', '0'];
    const failed = await host.run('env', [`PATH=${bin}`, ...words]);
    expect(failed.stderr).toBe(
      "sealaned: cannot run the program nft: it is missing: install nftables, or set up forwarding yourself and add '--no-forwarding'\n",
    );
    expect(failed.code).toBe(1);
    expect(existsSync(state.record)).toBe(false);
    expect(await systemOf(host)).toBe(before);
    expect((await state.call(host, 'status')).stdout).toContain('not running');

    // Who cannot see tables does not claim that one is there; who sees none does not name it.
    await state.killed(host, name);
    const asked = ['status', '--state', state.path];
    const blind = await host.run('env', [`PATH=${bin}`, process.execPath, SEALANED, ...asked]);
    expect(blind.stdout).toContain(`nftables table inet sealaned-${name} if it is there`);
    await host.must('nft', ['flush', 'ruleset']);
    await host.must('sysctl', ['-qw', 'net.ipv4.ip_forward=0']);
    expect((await state.call(host, 'status')).stdout).toContain('not running');
    expect(await state.call(host, 'down')).toMatchObject({ code: 0, stdout: 'nothing to undo\n' });
    expect(await systemOf(host)).toBe(before);
  });

  it('undoes nothing while a server of another folder has the interface', async () => {
    await using lab = await Lab.open();
    const host = await lab.host('s');
    const name = lab.interfaceName('s');
    const [one, other] = [await State.make(lab, host, 'one'), await State.make(lab, host, 'other')];
    await one.killed(host, name);
    const running = await other.run(host, name);
    const system = await systemOf(host);
    const line = `the interface ${name} belongs to a program that runs: stop it first`;
    expect(await one.call(host, 'down')).toMatchObject({ code: 1, stdout: '', stderr: `sealaned: ${line}\n` });
    const refused = one.start(host, lab.interfaceName('t'));
    expect(await refused.exit).toBe(1);
    expect(refused.stderr).toContain(line);
    expect(await systemOf(host)).toBe(system);
    expect(await running.stop(), running.stderr).toBe(0);
    expect(await one.call(host, 'down')).toMatchObject({ code: 0 });
    expect(await host.must('sysctl', ['-n', 'net.ipv4.ip_forward'])).toBe('0\n');
    expect(await host.must('nft', ['list', 'ruleset'])).toBe('');
  });

  it.each(['0', '1'])(
    'tells an ordinary user that root has to do it, with net.ipv4.ip_forward=%s before',
    async (was) => {
      await using lab = await Lab.open();
      const host = await lab.host('s');
      const name = lab.interfaceName('s');
      await host.must('sysctl', ['-qw', `net.ipv4.ip_forward=${was}`]);
      const before = await systemOf(host);
      const state = await State.make(lab, host, 'state');
      await chmod(lab.folder, 0o755);
      await host.must('chown', ['-R', String(NOBODY), state.path]);
      await state.killed(host, name, '--user', String(NOBODY));
      const asNobody = (...words: readonly string[]): Promise<Result> =>
        host.run('setpriv', [
          `--reuid=${NOBODY}`,
          '--clear-groups',
          '--inh-caps=-all',
          '--bounding-set=-all',
          process.execPath,
          SEALANED,
          ...words,
          '--state',
          state.path,
        ]);
      const status = await asNobody('status');
      expect(status.stdout, status.stderr).toContain(`'sealaned down --state ${state.path}' as root undoes it`);
      const refused = await asNobody('down');
      expect(refused.code).toBe(1);
      expect(refused.stderr).toMatch(/^sealaned: .*: run 'sealaned down' as root\n$/);
      expect(refused.stderr).not.toContain('--no-forwarding');
      expect(await systemOf(host)).not.toBe(before);
      expect(await state.call(host, 'down')).toMatchObject({ code: 0 });
      expect(await systemOf(host)).toBe(before);
    },
  );
});
