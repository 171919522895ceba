/** The nftables tables of `sealane up` while others, or its own commands, change nftables as it comes up. */
import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { clientFile, rulesOf, systemOf, twoHosts, up } from './client-lab.ts';
import { SEALANE } from './client-support.ts';
import { type Host, Lab, missing, type Running, until } from '../support/lab.ts';
import { NftShim, stir } from '../support/nft-shim.ts';

const reason = missing('ping', 'nft');

async function start(
  lab: Lab,
  host: Host,
  name: string,
  extra: string,
  env: Readonly<Record<string, string>> = {},
): Promise<Running> {
  const file = await lab.file(`${name}.conf`, clientFile('0.0.0.0/0', extra));
  const words = [SEALANE, 'up', file, '--kill-switch'];
  return host.start(process.execPath, words, { STATE_DIRECTORY: lab.folder, ...env });
}

async function untilUp(running: Running): Promise<void> {
  await until(
    'the tunnel to be up',
    () => {
      if (running.child.exitCode !== null) throw new Error(running.stderr);
      return running.stderr.includes(' is up: ');
    },
    45_000,
  );
}

/** What the tables of such a tunnel are. */
async function wholeRules(lab: Lab, host: Host, name: string): Promise<string> {
  const running = await up(lab, host, name, clientFile('0.0.0.0/0'), '--kill-switch');
  const rules = await rulesOf(host);
  expect(rules).toContain(`table inet sealane-kill-${name}`);
  expect(rules).toContain(`table inet sealane-guard-${name}`);
  expect(await running.stop(), running.stderr).toBe(0);
  return rules;
}

describe.skipIf(reason !== undefined)(
  `the tables of a tunnel (${reason ?? 'in namespaces'})`,
  { timeout: 240_000 },
  () => {
    it.each([
      'PostUp = nft flush ruleset',
      'PostUp = nft delete table inet sealane-kill-%i',
      'PostUp = nft insert rule inet sealane-kill-%i output ip daddr 192.168.88.0/24 accept',
    ])('are what they are to be when it is up, with %s', async (command) => {
      await using lab = await Lab.open();
      const { a } = await twoHosts(lab);
      const name = lab.interfaceName('a');
      const before = await systemOf(a);
      const whole = await wholeRules(lab, a, name);
      const shim = await NftShim.make(lab, a, '');
      const here = await start(lab, a, name, command, shim.env);
      await untilUp(here);
      expect(await rulesOf(a)).toBe(whole);
      expect(here.stderr).toContain(`somebody changed our nftables table sealane-kill-${name}`);

      await a.must('nft', ['flush', 'ruleset']);
      await until('the rules to be back', async () => (await rulesOf(a)) === whole, 30_000);
      // Then they are left alone, whatever else changes: it looks, and sets nothing.
      const look = `--stateless list table inet sealane-kill-${name}`;
      const several = shim.calls(look) + 8;
      const sets = shim.calls('-f -');
      await until('it to look', async () => (await stir(a)) === '' && shim.calls(look) >= several, 60_000);
      expect(shim.calls('-f -')).toBe(sets);
      expect(await here.stop(), here.stderr).toBe(0);
      expect(await systemOf(a)).toBe(before);
    });

    it.each(['PreUp', 'PostUp'])('come back while a command of its file still runs, %s', async (hook) => {
      await using lab = await Lab.open();
      const { a } = await twoHosts(lab);
      const name = lab.interfaceName('a');
      const before = await systemOf(a);
      const whole = await wholeRules(lab, a, name);
      const [ran, go] = [join(lab.folder, 'ran'), join(lab.folder, 'go')];
      const command = `${hook} = touch ${ran}; until [ -e ${go} ]; do sleep 0.1; done`;
      const here = await start(lab, a, name, command);
      await until('the command to run', () => existsSync(ran), 45_000);
      const standing = await rulesOf(a);
      expect(standing).toContain(`table inet sealane-kill-${name}`);
      await a.must('nft', ['flush', 'ruleset']);
      await until('the rules to be back', async () => (await rulesOf(a)) === standing, 30_000);
      expect(here.stderr).not.toContain(' is up: ');
      await writeFile(go, '');
      await untilUp(here);
      expect(await rulesOf(a)).toBe(whole);
      expect(await here.stop(), here.stderr).toBe(0);
      expect(await systemOf(a)).toBe(before);
    });

    it('are set again when somebody flushes nftables right after that', async () => {
      await using lab = await Lab.open();
      const { a } = await twoHosts(lab);
      const name = lab.interfaceName('a');
      const whole = await wholeRules(lab, a, name);
      const body = 'if [ "$1" = -f ] && take flush; then $real "$@" && exec $real flush ruleset; fi';
      const shim = await NftShim.make(lab, a, body);
      await shim.put('flush');
      const here = await start(lab, a, name, '', shim.env);
      await untilUp(here);
      expect(shim.has('flush')).toBe(false);
      expect(await rulesOf(a)).toBe(whole);
      await a.must('nft', ['flush', 'ruleset']);
      await until('the rules to be back', async () => (await rulesOf(a)) === whole, 30_000);
      expect(await here.stop(), here.stderr).toBe(0);
    });

    it('are left alone while nft cannot list them', async () => {
      await using lab = await Lab.open();
      const { a } = await twoHosts(lab);
      const name = lab.interfaceName('a');
      const body = 'if [ "$1" = --stateless ] && has broken; then echo "Error: busy" >&2; exit 1; fi';
      const shim = await NftShim.make(lab, a, body);
      const here = await start(lab, a, name, '', shim.env);
      await untilUp(here);
      const sets = shim.calls('-f -');
      await shim.put('broken');
      await until(
        'the failure to be told',
        async () => (await stir(a)) === '' && here.stderr.includes('does not list the table'),
        30_000,
      );
      await shim.remove('broken');
      const look = `--stateless list table inet sealane-guard-${name}`;
      const next = shim.calls(look) + 2;
      await until('it to look again', async () => (await stir(a)) === '' && shim.calls(look) >= next, 30_000);
      expect(shim.calls('-f -')).toBe(sets);
      expect(here.stderr).not.toContain('somebody changed');
      expect(await here.stop(), here.stderr).toBe(0);
    });
  },
);
