/** Commands of a file: as wg-quick runs them, and ended when somebody wants to go. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { clientFile, runSealane, systemOf, twoHosts, up } from './client-lab.ts';
import { SEALANE } from './client-support.ts';
import { Lab, missing, until } from '../support/lab.ts';

const reason = missing('nft', 'bash');

describe.skipIf(reason !== undefined)(`commands of sealane up (${reason ?? 'between two namespaces'})`, () => {
  it.for(['false; touch MARK', 'false | true', 'touch MARK; false'])(
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
      expect(outcome.stderr).toBe(`sealane: ${file}:5: PostUp: the command failed with status 1\n`);
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
});
