/** Commands of a file: as wg-quick runs them, and ended when somebody wants to go. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { clientFile, runSealane, systemOf, twoHosts, up } from './client-lab.ts';
import { SEALANE } from './client-support.ts';
import { type Host, Lab, missing, until } from '../support/lab.ts';

const reason = missing('nft', 'bash', 'setpriv', 'unshare');

/** The process in the host whose command line has this word. */
async function processOf(host: Host, word: string): Promise<string | undefined> {
  const pids = (await host.must('ip', ['netns', 'pids', host.name])).trim().split('\n');
  return pids.find(
    (pid) => existsSync(`/proc/${pid}`) && readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes(word),
  );
}

/** Of an open file, by its lines in /proc/PID/fdinfo. */
function isNonBlocking(lines: string): boolean {
  const O_NONBLOCK = 0o4000;
  return (Number.parseInt(/^flags:\s*(\d+)/m.exec(lines)![1]!, 8) & O_NONBLOCK) !== 0;
}

describe.skipIf(reason !== undefined)(`commands of sealane up (${reason ?? 'between two namespaces'})`, () => {
  it.for(['false; touch MARK', 'false | true', 'touch MARK; false', 'exit 255'])(
    'fail as they do in wg-quick: %s',
    async (command) => {
      await using lab = await Lab.open();
      const { a } = await twoHosts(lab);
      const before = await systemOf(a);
      const name = lab.interfaceName('a');
      const mark = join(lab.folder, 'mark');
      const file = await lab.file(
        `${name}.conf`,
        clientFile('10.88.0.0/24', `PostUp = ${command.replace('MARK', mark)}`),
      );
      const words = [
        `STATE_DIRECTORY=${lab.folder}`,
        'timeout',
        '-s',
        'KILL',
        '40',
        process.execPath,
        SEALANE,
        'up',
        file,
      ];
      const outcome = await a.run('env', words);
      const status = /exit (\d+)/.exec(command)?.[1] ?? '1';
      expect(outcome.stderr).toBe(`sealane: ${file}:5: PostUp: the command failed with status ${status}\n`);
      expect(outcome.code).toBe(1);
      expect(existsSync(mark)).toBe(command.startsWith('touch'));
      expect(await systemOf(a)).toBe(before);
    },
  );

  it('know extended patterns, the interface and the file, on the way up and down', async () => {
    await using lab = await Lab.open();
    const { a } = await twoHosts(lab);
    const name = lab.interfaceName('a');
    const trace = join(lab.folder, 'trace');
    const say = `[[ ab == @(ab|cd) ]] && echo "$INTERFACE $CONFIG_FILE" >> ${trace}`;
    const running = await up(lab, a, name, clientFile('10.88.0.0/24', `PreUp = ${say}\nPostDown = ${say}`));
    expect(await running.stop()).toBe(0);
    expect(readFileSync(trace, 'utf8')).toBe(`${name} ${join(lab.folder, name)}.conf\n`.repeat(2));
  });

  it('end with a further signal when they hang on the way down, and the rest is undone', async () => {
    await using lab = await Lab.open();
    const { a } = await twoHosts(lab);
    const before = await systemOf(a);
    const name = lab.interfaceName('a');
    const mark = join(lab.folder, 'mark');
    const running = await up(lab, a, name, clientFile('0.0.0.0/0', `PreDown = touch ${mark}; sleep 600`));
    running.child.kill('SIGTERM');
    await until('PreDown to hang', () => existsSync(mark));
    expect(await running.stop('SIGTERM')).toBe(1);
    expect(running.stderr).toContain('conf:5: PreDown: the command was ended by a signal');
    expect(await systemOf(a)).toBe(before);
  });

  it('are ended by sealane down while the tunnel comes up, which it then does not', async () => {
    await using lab = await Lab.open();
    const { a } = await twoHosts(lab);
    const before = await systemOf(a);
    const name = lab.interfaceName('a');
    const mark = join(lab.folder, 'mark');
    const text = clientFile('0.0.0.0/0', `PreUp = touch ${mark}; sleep 600\nPostUp = rm ${mark}`);
    const file = await lab.file(`${name}.conf`, text);
    const running = a.start(process.execPath, [SEALANE, 'up', file], { STATE_DIRECTORY: lab.folder });
    await until('PreUp to run', () => existsSync(mark));
    // The file stands for the tunnel, as it does for wg-quick.
    const down = await runSealane(a, 'down', file);
    expect(down.stderr).toBe('');
    expect(down.code).toBe(0);
    expect(await running.exit).toBe(0);
    expect(running.stderr).not.toContain(' is up: ');
    expect(existsSync(mark)).toBe(true);
    expect(await systemOf(a)).toBe(before);
  });

  it('of a killed tunnel are ended by a signal, and the tunnel does not come up', async () => {
    await using lab = await Lab.open();
    const { a } = await twoHosts(lab);
    const before = await systemOf(a);
    const name = lab.interfaceName('a');
    const mark = join(lab.folder, 'mark');
    const text = clientFile('10.88.0.0/24', `PostDown = touch ${mark}; sleep 600`);
    await (await up(lab, a, name, text)).stop('SIGKILL');
    const again = a.start(process.execPath, [SEALANE, 'up', join(lab.folder, `${name}.conf`)], {
      STATE_DIRECTORY: lab.folder,
    });
    await until('PostDown to hang', () => existsSync(mark));
    expect(await again.stop('SIGTERM')).toBe(0);
    expect(again.stderr).toContain('cannot undo PostDown: ');
    expect(again.stderr).not.toContain(' is up: ');
    expect(await systemOf(a)).toBe(before);
  });

  it('run with all rights for a process that kept few, also those of a killed one, and leave no process behind', async () => {
    await using lab = await Lab.open();
    const { a } = await twoHosts(lab);
    const before = await systemOf(a);
    const name = lab.interfaceName('a');
    const told = join(lab.folder, 'told');
    const tell = (hook: string): string => `${hook} = echo ${hook} %i $(grep CapEff /proc/self/status) >> ${told}`;
    const hooks = ['PreUp', 'PostUp', 'PreDown', 'PostDown'];
    const all = /^CapEff:\t(\w+)$/m.exec(readFileSync('/proc/self/status', 'ascii'))![1]!;
    const lines = (...run: readonly string[]): string => run.map((hook) => `${hook} ${name} CapEff: ${all}\n`).join('');
    const text = clientFile('0.0.0.0/0', hooks.map(tell).join('\n'));

    const killed = await up(lab, a, name, text);
    await killed.stop('SIGKILL');
    expect(await readFile(told, 'utf8')).toBe(lines('PreUp', 'PostUp'));
    const here = await up(lab, a, name, text);
    const [ended, came] = [
      ['PreDown', 'PostDown'],
      ['PreUp', 'PostUp'],
    ];
    expect(await readFile(told, 'utf8')).toBe(lines(...came, ...ended, ...came));

    const [tunnel, helper] = [await processOf(a, SEALANE), await processOf(a, '_busy=')];
    for (const thread of readdirSync(`/proc/${tunnel}/task`)) {
      const status = readFileSync(`/proc/${tunnel}/task/${thread}/status`, 'ascii');
      for (const set of ['CapPrm', 'CapEff', 'CapBnd'])
        expect(status).toMatch(new RegExp(`^${set}:\t0000000000001000$`, 'm'));
      expect(status).toMatch(/^NoNewPrivs:\t1$/m);
    }
    // The tunnel itself waits for nobody who reads what it says.
    expect(isNonBlocking(readFileSync(`/proc/${tunnel}/fdinfo/2`, 'ascii'))).toBe(true);
    // As a service manager does that ends all processes of a service at once.
    process.kill(Number(helper), 'SIGTERM');
    expect(await here.stop(), here.stderr).toBe(0);
    expect(await readFile(told, 'utf8')).toBe(lines(...came, ...ended, ...came, ...ended));
    await until('no process to be left', async () => (await processOf(a, '_busy=')) === undefined);
    expect(await systemOf(a)).toBe(before);
  });

  it('are told nothing but their own environment, may wait for whoever reads what they say, and run where processes have other numbers', async () => {
    await using lab = await Lab.open();
    const { a } = await twoHosts(lab);
    const before = await systemOf(a);
    const name = lab.interfaceName('a');
    const told = join(lab.folder, 'told');
    const tell = `PostUp = printf '%s\\n' "$pid $i" > ${told}; grep flags: /proc/self/fdinfo/2 >> ${told}`;
    const file = await lab.file(`${name}.conf`, clientFile('10.88.0.0/24', tell));
    const env = { STATE_DIRECTORY: lab.folder, pid: 'P', i: 'I', 'BASH_FUNC_echo%%': '() { sleep 600; }' };
    const words = ['--pid', '--fork', '--kill-child', process.execPath, SEALANE, 'up', file];
    const here = a.start('unshare', words, env);
    await until('the tunnel to be up', () => here.stderr.includes(' is up: '), 45_000);
    const [names, flags] = (await readFile(told, 'utf8')).split('\n');
    expect(names).toBe('P I');
    expect(isNonBlocking(flags!)).toBe(false);
    const down = await runSealane(a, 'down', name);
    expect(down.code, down.stderr).toBe(0);
    expect(await here.exit).toBe(0);
    expect(await systemOf(a)).toBe(before);
  });

  it('run after hours in which there was nothing to run, and can be ended whoever they became', async () => {
    await using lab = await Lab.open();
    const { a } = await twoHosts(lab);
    const before = await systemOf(a);
    const name = lab.interfaceName('a');
    const [mark, down] = [join(lab.folder, 'mark'), join(lab.folder, 'down')];
    const gentle = `touch ${mark}; trap 'exit 0' TERM; sleep 600 & wait`;
    const other = `rm ${mark}; exec setpriv --reuid 65534 --clear-groups sleep 600`;
    const file = await lab.file(
      `${name}.conf`,
      clientFile('10.88.0.0/24', `PreDown = touch ${down}\nPreDown = ${gentle}\nPreDown = ${other}`),
    );
    // Some systems give such a limit to all of root's shells.
    const env = { STATE_DIRECTORY: lab.folder, TMOUT: '1' };
    const here = a.start(process.execPath, [SEALANE, 'up', file], env);
    await until('the tunnel to be up', () => here.stderr.includes(' is up: '), 45_000);
    await new Promise((resolve) => setTimeout(resolve, 2_000));
    here.child.kill('SIGTERM');
    await until('the second command to run', () => existsSync(mark));
    expect(existsSync(down)).toBe(true);
    here.child.kill('SIGTERM');
    await until('the last command to run', () => !existsSync(mark));
    expect(await here.stop('SIGTERM')).toBe(1);
    expect(here.stderr).toContain('conf:7: PreDown: the command was ended by a signal');
    for (const line of here.stderr.trimEnd().split('\n')) expect(line).toMatch(/^sealane: /);
    expect(await systemOf(a)).toBe(before);
  });

  it('that nobody could run any more are left to sealane down', async () => {
    await using lab = await Lab.open();
    const { a } = await twoHosts(lab);
    const before = await systemOf(a);
    const name = lab.interfaceName('a');
    const told = join(lab.folder, 'told');
    const hooks = ['PreDown', 'PostDown'].map((hook) => `${hook} = echo ${hook} >> ${told}`).join('\n');
    const here = await up(lab, a, name, clientFile('10.88.0.0/24', hooks));
    process.kill(Number(await processOf(a, '_busy=')), 'SIGKILL');
    expect(await here.stop()).toBe(1);
    expect(here.stderr).toContain('cannot undo PreDown: the process that runs commands is gone');
    expect(existsSync(told)).toBe(false);
    const down = await runSealane(a, 'down', name);
    expect(down.code, down.stderr).toBe(0);
    expect(await readFile(told, 'utf8')).toBe('PreDown\nPostDown\n');
    expect(await systemOf(a)).toBe(before);
  });
});
