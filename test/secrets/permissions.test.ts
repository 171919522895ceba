/** Whose the files are that hold keys, and who may read them: what is made, what is there already, and what others put there. */
import {
  chmodSync,
  chownSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { clientFile, nobodysState, runSealane, SERVER, tryUp, twoHosts, up } from '../cli/client-lab.ts';
import { SEALANE } from '../cli/client-support.ts';
import { launch, Scratch, startServer } from '../cli/server-support.ts';
import { Lab, missing } from '../support/lab.ts';

const STRANGER = 4_242;
const isRoot = process.getuid?.() === 0;
const modeOf = (path: string): string => (statSync(path).mode & 0o777).toString(8);

let scratch: Scratch;

beforeEach(() => {
  scratch = new Scratch();
});

afterEach(() => scratch.remove());

const fileOf = (name: string): string => join(scratch.state, name);

describe('files and folders of a server', () => {
  it('are for their owner alone, whatever the mask', async () => {
    const before = process.umask(0);
    try {
      await scratch.init();
      await scratch.must('peer', 'add', 'laptop', '--out', scratch.path('laptop.conf'));
      const { server } = await startServer(scratch.state);
      expect(modeOf(scratch.state)).toBe('700');
      for (const name of ['private.key', 'registry.json', 'run.lock', 'control.sock']) {
        expect([name, modeOf(fileOf(name))]).toEqual([name, '600']);
      }
      expect(modeOf(scratch.path('laptop.conf'))).toBe('600');
      await server.stop();
      expect(modeOf(fileOf('endpoints.json'))).toBe('600');
    } finally {
      process.umask(before);
    }
  });

  it.each([
    ['the folder', '', 0o750],
    ['the folder', '', 0o701],
    ['the key', 'private.key', 0o640],
    ['the key', 'private.key', 0o602],
    ['the registry', 'registry.json', 0o604],
  ])('are refused when %s (%s) has mode %o', async (_what, name, mode) => {
    await scratch.init();
    chmodSync(join(scratch.state, name), mode);
    const outcome = await scratch.run('run', '--userspace', '--listen', '0');
    expect([outcome.code, outcome.stderr]).toEqual([2, expect.stringContaining('is open to others')]);
  });

  it.each(['private.key', 'registry.json'])('are refused when %s is a symbolic link', async (name) => {
    await scratch.init();
    renameSync(fileOf(name), scratch.path(name));
    symlinkSync(scratch.path(name), fileOf(name));
    const outcome = await scratch.run('run', '--userspace', '--listen', '0');
    expect([outcome.code, outcome.stderr]).toEqual([2, expect.stringContaining(`${name} is a symbolic link`)]);
  });

  it.runIf(isRoot).each(['private.key', 'registry.json'])("are refused when %s is another user's", async (name) => {
    await scratch.init();
    chownSync(fileOf(name), STRANGER, STRANGER);
    const outcome = await scratch.run('run', '--userspace', '--listen', '0');
    expect([outcome.code, outcome.stderr]).toEqual([2, expect.stringContaining('belongs to another user (uid 4242)')]);
  });

  it('are replaced without following what lies in the way', async () => {
    await scratch.init();
    const precious = scratch.path('precious');
    writeFileSync(precious, 'precious', { mode: 0o644 });
    symlinkSync(precious, fileOf('registry.json.tmp'));
    if (isRoot) lchownSync(fileOf('registry.json.tmp'), STRANGER, STRANGER);
    await scratch.must('peer', 'add', 'laptop');
    expect(readFileSync(precious, 'utf8')).toBe('precious');
    expect(lstatSync(fileOf('registry.json')).isFile()).toBe(true);
    expect(modeOf(fileOf('registry.json'))).toBe('600');
  });

  it.runIf(isRoot)("stay a user's when root looks after that user's server", async () => {
    chmodSync(scratch.folder, 0o711);
    mkdirSync(scratch.state, { mode: 0o700 });
    chownSync(scratch.state, STRANGER, STRANGER);
    const expectTheirs = (): void => {
      for (const name of readdirSync(scratch.state)) {
        const { uid, gid } = statSync(fileOf(name));
        expect([name, uid, gid, modeOf(fileOf(name))]).toEqual([name, STRANGER, STRANGER, '600']);
      }
    };
    await scratch.init();
    await scratch.must('peer', 'add', 'laptop', '--out', scratch.path('laptop.conf'));
    // The locks too, of which this made both.
    const made = readdirSync(scratch.state);
    expect(made).toHaveLength(4);
    expect(made).toEqual(expect.arrayContaining(['change.lock', 'private.key', 'run.lock']));
    expectTheirs();
    // What is handed over belongs to whom it was made by.
    expect(statSync(scratch.path('laptop.conf')).uid).toBe(0);

    const { server } = await startServer(scratch.state, ['--userspace'], { uid: STRANGER });
    for (const words of [
      ['peer', 'add', 'phone'],
      ['peer', 'set', 'phone', '--post-quantum'],
      ['peer', 'remove', 'laptop'],
    ]) {
      const outcome = await scratch.run(...words);
      // Without an answer from the running server it would be 1.
      expect([words, outcome.code, outcome.stderr]).toEqual([words, 0, expect.not.stringContaining('does not know')]);
      expectTheirs();
    }
    expect((await server.stop()).code).toBe(0);

    // Root serves only as that user (`--user`); an attempt takes nothing away.
    const refused = await scratch.run('run', '--userspace', '--listen', '0');
    expect([refused.code, refused.stderr]).toEqual([
      2,
      `sealaned: ${scratch.state} belongs to another user (uid 4242): run it as that user with '--user 4242', or make it yours with 'chown -R root ${scratch.state}'\n`,
    ]);
    expectTheirs();
    const again = await startServer(scratch.state, ['--userspace'], { uid: STRANGER });
    expect((await again.server.stop()).code).toBe(0);
  });

  it('are not made where a file is in the way, which stays as it is', async () => {
    writeFileSync(scratch.path('laptop.conf'), 'mine', { mode: 0o644 });
    await scratch.init();
    const outcome = await scratch.run('peer', 'add', 'laptop', '--out', scratch.path('laptop.conf'));
    expect([outcome.code, outcome.stderr]).toEqual([1, expect.stringContaining('exists already')]);
    expect([readFileSync(scratch.path('laptop.conf'), 'utf8'), modeOf(scratch.path('laptop.conf'))]).toEqual([
      'mine',
      '644',
    ]);
  });

  it('do not share a control socket with what others put at its place', async () => {
    await scratch.init();
    writeFileSync(fileOf('control.sock'), '');
    const server = launch(['run', '--userspace', '--listen', '0', '--state', scratch.state]);
    const code = await new Promise((resolve) => server.once('exit', resolve));
    expect(code).not.toBe(0);
    expect(lstatSync(fileOf('control.sock')).isFile()).toBe(true);
  });
});

const reason = missing('nft');

describe.skipIf(reason !== undefined)(`files and folders of a client (${reason ?? 'in a namespace'})`, () => {
  const folder = '/run/sealane-client';
  const filesOf = (name: string): readonly string[] =>
    readdirSync(folder).filter((file) => file.startsWith(`${name}.`));

  it('are for their owner alone, whatever the mask: journal, log, timestamp, sockets', async () => {
    const before = process.umask(0);
    try {
      await using lab = await Lab.open();
      const { a, b } = await twoHosts(lab);
      await up(lab, b, lab.interfaceName('b'), SERVER);
      const name = lab.interfaceName('a');
      const file = await lab.file(`${name}.conf`, clientFile('0.0.0.0/0', 'SaveConfig = true'));
      const detached = await tryUp(lab, a, file, '--detach');
      expect(detached.code, detached.stderr).toBe(0);
      try {
        const journal = filesOf(name).find((found) => found.endsWith('.json'))!;
        expect(readFileSync(join(folder, journal), 'utf8')).toContain('"kind":"rules"');
        expect(modeOf(folder)).toBe('700');
        const timestamp = readdirSync(lab.folder).find((found) => found.startsWith('timestamp-'));
        const files = [...filesOf(name).map((found) => join(folder, found)), join(lab.folder, timestamp!)];
        for (const path of [...files, `/var/run/wireguard/${name}.sock`]) {
          expect([path, modeOf(path)]).toEqual([path, '600']);
        }
      } finally {
        const down = await runSealane(a, 'down', name);
        for (const found of filesOf(name)) rmSync(join(folder, found));
        expect(down.code, down.stderr).toBe(0);
      }
      expect(modeOf(file)).toBe('600');
    } finally {
      process.umask(before);
    }
  });

  it("stay root's when the process becomes an ordinary user's, what that one undid too, and say nothing that root would run", async () => {
    const before = process.umask(0);
    try {
      await using lab = await Lab.open();
      const { a } = await twoHosts(lab);
      await using _state = nobodysState(lab);
      const name = lab.interfaceName('a');
      const here = await up(lab, a, name, clientFile('0.0.0.0/0'), '--user', 'nobody');
      const kinds = new Set(filesOf(name).map((found) => found.replace(/.*\./, '')));
      expect([...kinds]).toEqual(expect.arrayContaining(['json', 'lock', 'undone']));
      const path = join(
        folder,
        filesOf(name).find((found) => found.endsWith('.undone'))!,
      );
      for (const found of filesOf(name).map((file) => join(folder, file))) {
        expect([found, statSync(found).uid, modeOf(found)]).toEqual([found, 0, '600']);
      }
      const journal = readFileSync(path.replace(/undone$/, 'json'), 'utf8');
      await here.stop();
      expect(readFileSync(path, 'latin1')).toMatch(/^(\d+\n)+ended\n$/);
      expect(readFileSync(path.replace(/undone$/, 'json'), 'utf8')).toBe(journal);
      // As somebody could who has taken the process over.
      const ran = join(lab.folder, 'ran');
      const commands = [{ command: `touch ${ran}`, line: 1 }];
      const step = { kind: 'commands', hook: 'PostDown', name, path: '/wg0.conf', commands };
      writeFileSync(path, `${JSON.stringify(step)}\n${JSON.stringify([step])}\n${journal}\n99\n-1\n`, { flag: 'a' });
      const down = await runSealane(a, 'down', name);
      expect([down.code, down.stderr]).toEqual([0, `sealane: ${name} had ended; its record is removed\n`]);
      expect(readdirSync(lab.folder)).not.toContain('ran');
      expect(filesOf(name)).toEqual([]);
    } finally {
      process.umask(before);
    }
  });

  it.each([
    ['a file that others can read', (path: string) => chmodSync(path, 0o640)],
    ["another user's", (path: string) => chownSync(path, STRANGER, STRANGER)],
    [
      'a symbolic link',
      (path: string) => {
        renameSync(path, `${path}.moved`);
        symlinkSync(`${path}.moved`, path);
      },
    ],
  ])('are not followed when a journal is %s', async (_what, tamper) => {
    await using lab = await Lab.open();
    const { a } = await twoHosts(lab);
    const name = lab.interfaceName('a');
    const running = await up(lab, a, name, clientFile('0.0.0.0/0', `PostDown = touch ${join(lab.folder, 'done')}`));
    await running.stop('SIGKILL');
    const journal = join(
      folder,
      filesOf(name).find((found) => found.endsWith('.json'))!,
    );
    try {
      tamper(journal);
      for (const words of [
        ['down', name],
        ['up', join(lab.folder, `${name}.conf`)],
      ]) {
        const outcome = await a.run('env', [`STATE_DIRECTORY=${lab.folder}`, process.execPath, SEALANE, ...words]);
        const said = `${journal} is not a file that only we may use: look at it and remove it`;
        expect([words[0], outcome.code, outcome.stderr]).toEqual([words[0], 1, expect.stringContaining(said)]);
      }
      expect(readdirSync(lab.folder)).not.toContain('done');
    } finally {
      for (const found of filesOf(name)) rmSync(join(folder, found));
    }
  });
});
