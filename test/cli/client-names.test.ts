/** Several starts of `sealane up` on one name: one of them has it, and the others touch nothing of its. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { clientFile, runSealane, systemOf, twoHosts } from './client-lab.ts';
import { SEALANE } from './client-support.ts';
import { type Host, Lab, missing, type Running, until } from '../support/lab.ts';

const reason = missing('nft', 'bash');

function start(lab: Lab, host: Host, ...words: readonly string[]): Running {
  return host.start(process.execPath, [SEALANE, 'up', ...words], { STATE_DIRECTORY: lab.folder });
}

function filesOf(name: string): readonly string[] {
  return readdirSync('/run/sealane-client').filter((file) => file.startsWith(`${name}.`));
}

describe.skipIf(reason !== undefined)(`two starts of one tunnel (${reason ?? 'in a namespace'})`, () => {
  it('the second is refused while the first still runs its commands, and down undoes the first after kill -9', async () => {
    await using lab = await Lab.open();
    const { a } = await twoHosts(lab);
    const before = await systemOf(a);
    const name = lab.interfaceName('a');
    const [entered, go] = [join(lab.folder, 'entered'), join(lab.folder, 'go')];
    const hook = `PreUp = : > ${entered}; while [ ! -e ${go} ]; do sleep 0.05; done`;
    const slow = await lab.file('slow.conf', clientFile('0.0.0.0/0', hook));
    const first = start(lab, a, slow, '--name', name, '--kill-switch');
    await until('the first to be at its command', () => existsSync(entered) || first.child.exitCode !== null, 45_000);

    const quick = await lab.file(`${name}.conf`, clientFile('0.0.0.0/0'));
    for (const options of [['--kill-switch'], ['--kill-switch', '--detach']]) {
      const second = await runSealane(a, 'up', quick, ...options);
      expect(second.stderr).toBe(`sealane: ${name} is in use: another process is at work on it\n`);
      expect(second.code).toBe(1);
    }
    expect(await a.must('nft', ['list', 'tables'])).toContain(`sealane-kill-${name}`);

    await lab.file('go', '');
    await until('the first to be up', () => first.stderr.includes(' is up: '), 45_000);
    await first.stop('SIGKILL');
    const down = await runSealane(a, 'down', name);
    expect(down.stderr).toContain(`${name} had been killed; undone: `);
    expect(down.code).toBe(0);
    expect(await systemOf(a)).toBe(before);
    expect(filesOf(name)).toEqual([]);
  });

  it('a process that ended and that nobody waits for holds nothing', async () => {
    await using lab = await Lab.open();
    const { a } = await twoHosts(lab);
    const before = await systemOf(a);
    const name = lab.interfaceName('a');
    const file = await lab.file(`${name}.conf`, clientFile('0.0.0.0/0'));
    // exec: the sleep is the parent then, and waits for no child.
    const words = [process.execPath, SEALANE, 'up', file].map((word) => `'${word}'`).join(' ');
    const parent = a.start('bash', ['-c', `${words} & echo $!; exec sleep 1000`], { STATE_DIRECTORY: lab.folder });
    await until('the tunnel to be up', () => parent.stderr.includes(' is up: '), 45_000);
    const pid = Number(parent.stdout);
    process.kill(pid, 'SIGKILL');
    await until('a zombie', async () => (await a.run('cat', [`/proc/${pid}/stat`])).stdout.includes(') Z '));
    const down = await runSealane(a, 'down', name);
    expect(down.stderr).toContain(`${name} had been killed; undone: `);
    expect(down.code).toBe(0);
    expect(await systemOf(a)).toBe(before);
  });
});
