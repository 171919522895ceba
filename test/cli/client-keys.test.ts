import { closeSync, openSync } from 'node:fs';
import { chmod, readFile } from 'node:fs/promises';
import { spawn } from 'node:child_process';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Folder, must, newKeyPair, type Outcome, Running, sealane, SEALANE } from './client-support.ts';
import { missing } from '../support/lab.ts';

const KEY = /^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=\n$/;
const noWg = missing('wg');

let folder: Folder;

beforeEach(async () => {
  folder = await Folder.make();
});

afterEach(() => folder.remove());

/** Runs `sealane` with its standard output in a file of this mode. */
async function into(path: string, mode: number, ...args: readonly string[]): Promise<Outcome> {
  await chmod(path, mode);
  const output = openSync(path, 'w');
  try {
    const child = spawn(process.execPath, [SEALANE, ...args], { stdio: ['ignore', output, 'pipe'] });
    return await new Running(child).ended;
  } finally {
    closeSync(output);
  }
}

describe('the key commands', () => {
  it.each(['genkey', 'genpsk'])('%s prints a fresh key each time', async (command) => {
    const [one, other] = await Promise.all([sealane([command]), sealane([command])]);
    expect(one).toMatchObject({ code: 0, stderr: '' });
    expect(one.stdout).toMatch(KEY);
    expect(other.stdout).toMatch(KEY);
    expect(other.stdout).not.toBe(one.stdout);
  });

  it('genkey clamps as RFC 7748 section 5 says', async () => {
    const key = Buffer.from((await sealane(['genkey'])).stdout, 'base64');
    expect(key).toHaveLength(32);
    expect([key[0]! & 7, key[31]! & 192]).toEqual([0, 64]);
  });

  it("pubkey answers Alice's key of RFC 7748 section 6.1", async () => {
    const base64 = (hex: string): string => `${Buffer.from(hex, 'hex').toString('base64')}\n`;
    const privateKey = base64('77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a');
    const publicKey = base64('8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a');
    expect(await sealane(['pubkey'], privateKey)).toEqual({ code: 0, stdout: publicKey, stderr: '' });
  });

  it.skipIf(noWg !== undefined)('agree with wg(8)', async () => {
    const key = (await sealane(['genkey'])).stdout;
    expect((await sealane(['pubkey'], key)).stdout).toBe(await must(['wg', 'pubkey'], key));
    const theirs = await must(['wg', 'genkey']);
    expect((await sealane(['pubkey'], theirs)).stdout).toBe(await must(['wg', 'pubkey'], theirs));
  });

  it.each([
    ['nothing', ''],
    ['a short key', 'YWJj\n'],
    ['a key without its end', `${newKeyPair().privateText.slice(0, 43)}\n`],
    ['two keys', `${newKeyPair().privateText}\n${newKeyPair().privateText}\n`],
    ['a megabyte', 'A'.repeat(1_000_000)],
    ['bytes', '\u0000\u00ff\u0000\n'],
  ])('pubkey refuses %s without repeating it', async (_what, input) => {
    const outcome = await sealane(['pubkey'], input);
    expect(outcome).toEqual({
      code: 2,
      stdout: '',
      stderr:
        'sealane: standard input holds no key of 32 bytes in base64: pipe one in, as in `sealane genkey | sealane pubkey`\n',
    });
  });

  it.each(['genkey', 'genpsk'])(
    '%s warns when others may read the file it is written to, and only then',
    async (command) => {
      const path = await folder.write('key', '');
      const open = await into(path, 0o644, command);
      expect(open.stderr).toBe(
        'Warning: writing to world accessible file.\nConsider setting the umask to 077 and trying again.\n',
      );
      expect(await readFile(path, 'utf8')).toMatch(KEY);
      expect((await into(path, 0o600, command)).stderr).toBe('');
    },
  );
});
