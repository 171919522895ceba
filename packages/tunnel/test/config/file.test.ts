import { spawnSync } from 'node:child_process';
import { chmod, chown, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { lchownSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { loadConfig, MAX_CONFIG_BYTES, readConfigFile } from '../../src/config/file.ts';
import { CORPUS } from './corpus.ts';

const text = CORPUS['phone, all traffic']!;
const isRoot = process.geteuid?.() === 0;

let folder = '';
let path = '';

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'sealane-config-'));
  path = join(folder, 'wg0.conf');
  await writeFile(path, text, { mode: 0o600 });
});

afterEach(async () => {
  await rm(folder, { recursive: true });
});

describe('reading a file', () => {
  it('takes one that only its owner may read', async () => {
    expect(await readConfigFile(path)).toBe(text);
    expect((await loadConfig(path)).peers).toHaveLength(1);
  });

  it.each([0o640, 0o604, 0o644])('refuses mode %o with the remedy', async (mode) => {
    await chmod(path, mode);
    await expect(readConfigFile(path)).rejects.toThrow(`${path}: may be read by other users; run 'chmod 600 ${path}'`);
    expect(await readConfigFile(path, { anyPermissions: true })).toBe(text);
  });

  it.each([0o620, 0o602, 0o666])('refuses mode %o, which others may write', async (mode) => {
    await chmod(path, mode);
    await expect(readConfigFile(path)).rejects.toThrow('may be written by other users');
  });

  it('refuses a folder that others may write, unless only owners may exchange files there', async () => {
    await chmod(folder, 0o777);
    await expect(readConfigFile(path)).rejects.toThrow(
      `lies in a folder that others may write; run 'chmod go-w ${folder}'`,
    );
    await chmod(folder, 0o1777);
    expect(await readConfigFile(path)).toBe(text);
  });

  it('refuses a symbolic link and names the file behind it', async () => {
    const link = join(folder, 'link.conf');
    await symlink(path, link);
    await expect(readConfigFile(link)).rejects.toThrow(`${link}: is a symbolic link; name the file itself, ${path}`);
    expect(await readConfigFile(link, { anyPermissions: true })).toBe(text);
  });

  it('takes comments in any encoding, and nothing else', async () => {
    const latin1 = (line: string): Uint8Array => Buffer.from(text.replace('[Peer]', `${line}\n[Peer]`), 'latin1');
    await writeFile(path, latin1('# B\u00fcro'));
    expect((await loadConfig(path)).peers).toHaveLength(1);
    await writeFile(path, latin1('PostUp = echo B\u00fcro'));
    await expect(loadConfig(path)).rejects.toThrow(`${path}:6: is not text in UTF-8`);
    await writeFile(path, Buffer.from(`\uFEFF${text}`, 'utf16le'));
    await expect(loadConfig(path)).rejects.toThrow(`${path}:1: is not text in UTF-8`);
  });

  it.each(['0620', '0602', '0666', 'folder', 'link'])(
    'takes commands from no file that others can write, whatever else is permitted: %s',
    async (how) => {
      const options = { anyPermissions: true };
      await writeFile(path, text.replace('[Peer]', 'PostUp = true\n[Peer]'));
      await chmod(path, 0o644);
      expect((await loadConfig(path, options)).interface.postUp).toMatchObject([{ command: 'true' }]);
      const link = join(folder, 'open', 'wg1.conf');
      await mkdir(join(folder, 'open'));
      await symlink(path, link);
      expect((await loadConfig(link, options)).interface.postUp).toMatchObject([{ command: 'true' }]);
      if (how === 'folder') await chmod(folder, 0o777);
      else if (how === 'link') await chmod(join(folder, 'open'), 0o777);
      else await chmod(path, Number.parseInt(how, 8));
      await expect(loadConfig(link, options)).rejects.toThrow(/may be written by other users|that others may write/);
      await writeFile(path, text);
      expect((await loadConfig(link, options)).peers).toHaveLength(1);
    },
  );

  it.runIf(isRoot)('refuses the files, links and folders of other users', async () => {
    await symlink(path, join(folder, 'link.conf'));
    lchownSync(join(folder, 'link.conf'), 4_242, 4_242);
    await expect(readConfigFile(join(folder, 'link.conf'))).rejects.toThrow(
      'is a symbolic link of another user (uid 4242)',
    );
    await chown(folder, 0, 4_242);
    await chmod(folder, 0o775);
    await expect(readConfigFile(path)).rejects.toThrow('lies in a folder that others may write');
    await chmod(folder, 0o700);
    await chown(path, 4_242, 4_242);
    await expect(readConfigFile(path)).rejects.toThrow('belongs to another user (uid 4242)');
    await chown(path, 0, 0);
    await chown(folder, 4_242, 4_242);
    await expect(readConfigFile(path)).rejects.toThrow('lies in a folder of another user (uid 4242)');
  });

  it('says what is missing or no file', async () => {
    await expect(readConfigFile(join(folder, 'none.conf'))).rejects.toThrow(`${folder}/none.conf: does not exist`);
    await mkdir(join(folder, 'sub'), { mode: 0o700 });
    await expect(readConfigFile(join(folder, 'sub'))).rejects.toThrow('is not a file');
    await expect(readConfigFile('/dev/zero')).rejects.toThrow('/dev/zero: is not a file');
  });

  it('is bounded and wants text', async () => {
    await writeFile(path, new Uint8Array(MAX_CONFIG_BYTES + 1).fill(0x23));
    await expect(readConfigFile(path)).rejects.toThrow(`is larger than ${MAX_CONFIG_BYTES} bytes`);
    await writeFile(path, new Uint8Array([0x5b, 0xff, 0xfe]));
    await expect(readConfigFile(path)).rejects.toThrow('is not text in UTF-8');
  });

  it('reads standard input and pipes', () => {
    const module = new URL('../../dist/config/file.js', import.meta.url).href;
    const program = `const { readConfigFile } = await import('${module}');
      process.stdout.write(await readConfigFile(process.argv[1]));`;
    const run = (argument: string): string =>
      spawnSync(
        'sh',
        ['-c', 'cat "$0" | "$1" --input-type=module -e "$2" "$3"', path, process.execPath, program, argument],
        {
          encoding: 'utf8',
        },
      ).stdout;
    expect(run('-')).toBe(text);
    expect(run('/dev/stdin')).toBe(text);
  });
});
