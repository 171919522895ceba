/** What `sealane up` left in a network namespace that is gone, seen from a later one that got its number. */
import { existsSync, readdirSync } from 'node:fs';
import { mkdir, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { clientFile, runSealane, systemOf, twoHosts, up } from './client-lab.ts';
import { SEALANE } from './client-support.ts';
import { type Host, Lab, missing, type Result } from '../support/lab.ts';

const reason = missing('nft', 'bash');
const JOURNALS = '/run/sealane-client';

/** A resolvconf(8) of one record for the whole system. */
const RESOLVCONF = `#!/bin/sh
cd "$FOLDER" || exit 1
case "$1" in
-a) cat > record ;;
-d) rm -f record ;;
esac
`;

function journalsOf(name: string): readonly string[] {
  return readdirSync(JOURNALS).filter((file) => file.startsWith(`${name}.`) && file.endsWith('.json'));
}

/** A tunnel with rules, a table, a setting and a command to run is killed, and its namespace removed with everything in it. */
async function die(outer: Lab, name: string, ...lines: readonly string[]): Promise<void> {
  await using lab = await Lab.open();
  const { a } = await twoHosts(lab);
  const [folder, path] = [outer.folder, `${join(outer.folder, 'bin')}:${process.env['PATH']}`];
  const text = clientFile('0.0.0.0/0', [`PostDown = touch ${join(folder, 'post-down')}`, ...lines].join('\n'));
  const command = [`STATE_DIRECTORY=${folder}`, `FOLDER=${folder}`, `PATH=${path}`, process.execPath, SEALANE];
  const file = await outer.file(`${name}.conf`, text);
  const outcome = await a.run('env', [...command, 'up', file, '--detach']);
  expect(outcome.code, outcome.stderr).toBe(0);
  process.kill(Number(/process (\d+)/.exec(outcome.stderr)![1]), 'SIGKILL');
}

/** A later namespace, which has the number of the one whose journal this is. */
async function reborn(lab: Lab, name: string): Promise<Host> {
  const { a } = await twoHosts(lab);
  await a.must('sysctl', ['-qw', 'net.ipv4.conf.all.src_valid_mark=1']);
  const [file, ...others] = journalsOf(name);
  expect(others).toEqual([]);
  const inode = /\d+/.exec(await a.must('readlink', ['/proc/self/ns/net']))![0];
  const rest = file!
    .slice(name.length + 1)
    .split('.')
    .slice(1);
  await rename(join(JOURNALS, file!), join(JOURNALS, [name, inode, ...rest].join('.')));
  return a;
}

describe.skipIf(reason !== undefined)(`the journal of a namespace that is gone (${reason ?? 'in a later one'})`, () => {
  it('is no journal of the next one with its number: nothing is undone there', async () => {
    await using lab = await Lab.open();
    const name = lab.interfaceName('a');
    await die(lab, name);
    const host = await reborn(lab, name);
    const before = await systemOf(host);
    const down = await runSealane(host, 'down', name);
    expect(down).toMatchObject({ code: 1, stderr: `sealane: no tunnel ${name} is running here\n` });
    expect(await systemOf(host)).toBe(before);
    expect(existsSync(join(lab.folder, 'post-down'))).toBe(false);
    expect(journalsOf(name)).toEqual([]);
  });

  it('does not keep a tunnel of the same name from coming up and going', async () => {
    await using lab = await Lab.open();
    const name = lab.interfaceName('a');
    await die(lab, name);
    const host = await reborn(lab, name);
    const before = await systemOf(host);
    const running = await up(lab, host, name, clientFile('0.0.0.0/0'));
    expect(running.stderr).not.toContain('undid');
    expect(journalsOf(name)).toHaveLength(1);
    expect(await running.stop(), running.stderr).toBe(0);
    expect(await systemOf(host)).toBe(before);
    expect(existsSync(join(lab.folder, 'post-down'))).toBe(false);
    expect(journalsOf(name)).toEqual([]);
  });

  it('tells of the name servers, which outlived it, and of nothing else', async () => {
    await using lab = await Lab.open();
    const name = lab.interfaceName('a');
    const record = join(lab.folder, 'record');
    await mkdir(join(lab.folder, 'bin'));
    await writeFile(join(lab.folder, 'bin', 'resolvconf'), RESOLVCONF, { mode: 0o755 });
    await die(lab, name, 'DNS = 10.88.0.1');
    expect(existsSync(record)).toBe(true);

    const host = await reborn(lab, name);
    const before = await systemOf(host);
    const sealane = (...args: readonly string[]): Promise<Result> => {
      const path = `PATH=${join(lab.folder, 'bin')}:${process.env['PATH']}`;
      return host.run('env', [`FOLDER=${lab.folder}`, path, process.execPath, SEALANE, ...args]);
    };
    expect((await sealane('doctor')).stdout).toContain(`sealane down ${name}`);
    const down = await sealane('down', name);
    expect(down.stderr).toMatch(/^sealane: \w+ had been killed; undone: name servers of [\w.]+\n$/);
    expect(down.code).toBe(0);
    expect(existsSync(record)).toBe(false);
    expect((await sealane('doctor')).stdout).not.toContain(name);
    expect(await systemOf(host)).toBe(before);
    expect(existsSync(join(lab.folder, 'post-down'))).toBe(false);
    expect(journalsOf(name)).toEqual([]);
  });
});
