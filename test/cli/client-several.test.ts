/** Several tunnels with a default route each on one host, and what they share: one setting, and the way out. */
import { mkdtemp, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { clientFile, runSealane, systemOf, twoHosts, up } from './client-lab.ts';
import { newKeyPair, SEALANE } from './client-support.ts';
import { type Host, Lab, missing, until } from '../support/lab.ts';

const reason = missing('nft', 'bash', 'unshare');
const SETTING = 'net.ipv4.conf.all.src_valid_mark';

function anotherFile(extra = ''): string {
  return clientFile('0.0.0.0/0, ::/0', extra).replace(/PrivateKey = .*/, `PrivateKey = ${newKeyPair().privateText}`);
}

async function rulesOf(host: Host): Promise<readonly string[]> {
  const texts = await Promise.all(['-4', '-6'].map((family) => host.must('ip', [family, 'rule'])));
  return texts.flatMap((text, i) => text.split('\n').map((line) => `IPv${[4, 6][i]} ${line}`));
}

async function linkTo(host: Host, address: string): Promise<string | undefined> {
  return / dev (\S+)/.exec(await host.must('ip', ['route', 'get', address]))?.[1];
}

async function settingOf(host: Host): Promise<string> {
  return (await host.must('sysctl', ['-n', SETTING])).trim();
}

describe.skipIf(reason !== undefined)(`tunnels with a default route (${reason ?? 'in a namespace'})`, () => {
  it.each(['the first', 'the second', 'the first, which was killed,'])(
    `leave ${SETTING}, the rules and the way to the own network to the other when %s goes, and put all back in the end`,
    async (which) => {
      await using lab = await Lab.open();
      const { a } = await twoHosts(lab);
      await a.must('sysctl', ['-qw', `${SETTING}=0`]);
      const before = await systemOf(a);
      const rules = [await rulesOf(a)];
      const names = [lab.interfaceName('a'), lab.interfaceName('b')];
      const first = await up(lab, a, names[0]!, clientFile('0.0.0.0/0, ::/0'));
      rules.push(await rulesOf(a));
      const second = await up(lab, a, names[1]!, anotherFile());
      rules.push(await rulesOf(a));
      const own = [1, 2].map((i) => rules[i]!.filter((line) => !rules[i - 1]!.includes(line)));
      expect(own.map((lines) => lines.length)).toEqual([4, 4]);
      const leaves = which === 'the second' ? 1 : 0;
      const [going, staying] = leaves === 0 ? [first, second] : [second, first];
      if (which.includes('killed')) await going.stop('SIGKILL');
      const down = await runSealane(a, 'down', names[leaves]!);
      expect(down.code, down.stderr).toBe(0);
      await going.exit;
      expect(await settingOf(a)).toBe('1');
      expect((await rulesOf(a)).filter((line) => !rules[0]!.includes(line))).toEqual(own[1 - leaves]);
      for (const [address, link] of [
        ['192.168.88.77', 'va'],
        ['fd88::77', 'va'],
        ['203.0.113.1', names[1 - leaves]],
        ['2001:db8::1', names[1 - leaves]],
      ] as const) {
        expect([address, await linkTo(a, address)]).toEqual([address, link]);
      }
      expect(await staying.stop()).toBe(0);
      expect(await systemOf(a)).toBe(before);
    },
  );

  it('have a table and rules of their own when they start at the same moment', async () => {
    await using lab = await Lab.open();
    const { a } = await twoHosts(lab);
    const before = await systemOf(a);
    const rules = await rulesOf(a);
    // Each waits in PreUp for the other, which has chosen its table by then, and sets its two rules with a pause between them.
    const [one, two] = [join(lab.folder, 'one'), join(lab.folder, 'two')];
    const wait = `for i in {1..300}; do [[ -s ${one} && -s ${two} ]] && break; sleep 0.1; done`;
    const real = (await a.must('sh', ['-c', 'command -v ip'])).trim();
    const folder = await mkdtemp(join(lab.folder, 'bin-'));
    const slow = `#!/bin/sh
case "$*" in
-[46]" -batch -") while read -r line; do ${real} $1 $line || exit; sleep 0.3; done ;;
*) exec ${real} "$@" ;;
esac
`;
    await writeFile(join(folder, 'ip'), slow, { mode: 0o755 });
    const env = [`STATE_DIRECTORY=${lab.folder}`, `PATH=${folder}:${process.env['PATH']}`];
    const files = [
      await lab.file(`${lab.interfaceName('a')}.conf`, clientFile('0.0.0.0/0, ::/0', `PreUp = echo > ${one}; ${wait}`)),
      await lab.file(`${lab.interfaceName('b')}.conf`, anotherFile(`PreUp = echo > ${two}; ${wait}`)),
    ];
    const [first, second] = files.map((file) => a.start('env', [...env, process.execPath, SEALANE, 'up', file]));
    for (const tunnel of [first!, second!])
      await until('both to be up', () => tunnel.stderr.includes(' is up: ') || tunnel.child.exitCode !== null, 45_000);
    const own = (await rulesOf(a)).filter((line) => !rules.includes(line));
    expect(own, first!.stderr + second!.stderr).toHaveLength(8);
    const tables = own.flatMap((line) => /fwmark (\w+) lookup (\w+)/.exec(line)?.slice(1).join() ?? []);
    expect(tables.toSorted()).toEqual(['0xca6c,51820', '0xca6c,51820', '0xca6d,51821', '0xca6d,51821']);
    // As they were set: one's beside each other, and with the one they go.
    expect(await first!.stop()).toBe(0);
    const left = (await rulesOf(a)).filter((line) => !rules.includes(line));
    const priorities = left.map((line) => Number(/^IPv[46] (\d+):/.exec(line)![1]));
    expect(priorities).toHaveLength(4);
    expect([priorities[1]! - priorities[0]!, priorities[3]! - priorities[2]!]).toEqual([1, 1]);
    expect(await second!.stop()).toBe(0);
    expect(await systemOf(a)).toBe(before);
  });

  it('leaves the setting to wg-quick', async () => {
    await using lab = await Lab.open();
    const { a } = await twoHosts(lab);
    const here = await up(lab, a, lab.interfaceName('a'), clientFile('0.0.0.0/0'));
    await a.must('ip', ['-4', 'rule', 'add', 'not', 'fwmark', '77', 'table', '77']);
    expect(await here.stop()).toBe(0);
    expect(await settingOf(a)).toBe('1');
  });

  it('are refused a second kill switch: each would refuse the datagrams of the other', async () => {
    await using lab = await Lab.open();
    const { a } = await twoHosts(lab);
    const [one, two] = [lab.interfaceName('a'), lab.interfaceName('b')];
    const narrow = await up(lab, a, lab.interfaceName('n'), clientFile('10.88.0.0/24'), '--kill-switch');
    const first = await up(lab, a, one, clientFile('0.0.0.0/0'), '--kill-switch');
    const before = await systemOf(a);
    const file = await lab.file(`${two}.conf`, anotherFile());
    const refused = await runSealane(a, 'up', file, '--kill-switch');
    expect(refused.stderr).toBe(
      `sealane: the kill switch of ${one} lets out nothing but that tunnel, and ours would refuse it in turn: 'sealane down ${one}' first\n`,
    );
    expect(refused.code).toBe(1);
    expect(await systemOf(a)).toBe(before);
    expect(await first.stop()).toBe(0);
    expect(await narrow.stop()).toBe(0);
  });

  it('say what to do where /proc/sys is read-only, and leave nothing behind', async () => {
    await using lab = await Lab.open();
    const { a } = await twoHosts(lab);
    await a.must('sysctl', ['-qw', `${SETTING}=0`]);
    const before = await systemOf(a);
    const name = lab.interfaceName('a');
    const file = await lab.file(`${name}.conf`, clientFile('0.0.0.0/0'));
    const readOnly = 'mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && exec "$@"';
    const command = [`STATE_DIRECTORY=${lab.folder}`, process.execPath, SEALANE];
    const within = (...words: readonly string[]) =>
      a.run('unshare', ['--mount', 'bash', '-c', readOnly, 'bash', 'env', ...command, ...words]);
    const refused = await within('up', file);
    expect(refused.stderr).toBe(
      `sealane: ${SETTING} cannot be set to 1 (EROFS): where /proc/sys is read-only, start the container with '--sysctl ${SETTING}=1'\n`,
    );
    expect(refused.code).toBe(1);
    expect(await systemOf(a)).toBe(before);
    expect((await within('down', name)).stderr).toBe(`sealane: no tunnel ${name} is running here\n`);
  });
});
