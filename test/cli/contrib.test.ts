/** What is shipped beside the programs: units, manuals, completions. */
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { execute } from '../support/lab.ts';
import { missingResolver, openresolvInto } from '../support/resolvers.ts';

const contrib = fileURLToPath(new URL('../../contrib', import.meta.url));
const generator = fileURLToPath(new URL('../../scripts/manual.mjs', import.meta.url));

let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'sealane-contrib-'));
});

afterAll(() => rm(folder, { recursive: true, force: true }));

describe('manuals and completions', () => {
  it('are what the command trees say now', async () => {
    const made = await execute(process.execPath, [generator, folder]);
    expect(made.stderr).toBe('');
    for (const kind of ['man', 'completion']) {
      const names = await readdir(join(folder, kind));
      expect(names.toSorted()).toEqual((await readdir(join(contrib, kind))).toSorted());
      for (const name of names) {
        const [now, shipped] = [join(folder, kind, name), join(contrib, kind, name)];
        expect(await readFile(shipped, 'utf8'), `${kind}/${name}: run 'node scripts/manual.mjs'`).toBe(
          await readFile(now, 'utf8'),
        );
      }
    }
  });

  it.each([
    ['sealane', ['u'], ['up']],
    ['sealane', ['up', '--lane', ''], ['auto', 'portable', 'linux']],
    ['sealane', ['up', '--kill'], ['--kill-switch']],
    ['sealane', ['down', '--'], ['--help']],
    ['sealaned', ['peer', 'a'], ['add']],
    ['sealaned', ['peer', 'add', '--no'], ['--no-psk']],
  ])('complete %s %j in bash', async (program, words, expected) => {
    const script = [
      `source ${join(contrib, 'completion', `${program}.bash`)}`,
      'COMP_WORDS=("$@")',
      'COMP_CWORD=$(($# - 1))',
      `_${program}`,
      'printf "%s\\n" "${COMPREPLY[@]}"',
    ].join('\n');
    const outcome = await execute('bash', ['-c', script, 'bash', program, ...words]);
    expect(outcome.stdout.trim().split('\n')).toEqual(expected);
  });
});

describe('systemd units', () => {
  it('are valid', async (context) => {
    if ((await execute('systemd-analyze', ['--version'])).code !== 0) context.skip('needs systemd-analyze');
    for (const name of await readdir(join(contrib, 'systemd'))) {
      const text = await readFile(join(contrib, 'systemd', name), 'utf8');
      // The programs need not be installed here.
      const path = join(folder, name.replace('@.', '@wg0.'));
      await writeFile(path, text.replaceAll(/\/usr\/bin\/sealaned?/g, '/bin/true'));
      const outcome = await execute('systemd-analyze', ['verify', '--man=no', path]);
      expect(outcome.stderr).toBe('');
      expect(outcome.code).toBe(0);
    }
  });

  it('let openresolv set the name servers and take them back', async ({ skip }) => {
    const reason = missingResolver('openresolv');
    if (reason !== undefined) skip(reason);
    const unit = await readFile(join(contrib, 'systemd', 'sealane@.service'), 'utf8');
    const protection = /^ProtectSystem=(.*)$/m.exec(unit)?.[1] ?? 'no';
    const writable = (/^ReadWritePaths=(.*)$/m.exec(unit)?.[1] ?? '').split(' ').map((path) => path.replace(/^-/, ''));
    // systemd.exec(5), as far as /etc goes: what is to stay writable becomes a mount of its own.
    const sandbox = [
      ...writable.map((path) => `[ ! -e '${path}' ] || mount --bind '${path}' '${path}'`),
      ...(['full', 'strict'].includes(protection) ? ['mount -o remount,bind,ro /etc'] : []),
    ];
    const script = [
      'set -e; mount --make-rprivate /; mount -t tmpfs tmpfs /run; mount -t tmpfs tmpfs /etc',
      openresolvInto('/run', '/etc/resolv.conf'),
      'echo nameserver 192.0.2.53 > /etc/resolv.conf',
      ...sandbox,
      'echo nameserver 10.7.0.1 | /run/bin/resolvconf -a wg0 -m 0 -x',
      'grep nameserver /etc/resolv.conf; /run/bin/resolvconf -d wg0 -f; grep nameserver /etc/resolv.conf',
    ].join('\n');
    const outcome = await execute('unshare', ['-m', 'bash', '-c', script]);
    expect(outcome.stdout + outcome.stderr).toBe('nameserver 10.7.0.1\nnameserver 192.0.2.53\n');
  });
});
