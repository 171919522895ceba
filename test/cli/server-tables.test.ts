/** The nftables table of `sealaned run`, and what was before it, while others change nftables or servers come, go and are killed. */
import { existsSync, readFileSync } from 'node:fs';
import { rm, writeFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { State, systemOf, untilReady } from './server-lab.ts';
import { type Host, Lab, missing, until } from '../support/lab.ts';
import { NftShim, stir } from '../support/nft-shim.ts';
import { ping } from '../support/wireguard.ts';

const reason = missing('ping', 'nft');
const RESTORED = 'somebody changed our nftables table';

function rulesOf(host: Host): Promise<string> {
  return host.must('nft', ['--stateless', 'list', 'ruleset']);
}

async function forwarding(host: Host, setting = 'net.ipv4.ip_forward'): Promise<string> {
  return (await host.must('sysctl', ['-n', setting])).trim();
}

/** Runs a server there once: what its rules are. */
async function wholeRules(state: State, host: Host, name: string): Promise<string> {
  const running = await state.run(host, name);
  const rules = await rulesOf(host);
  expect(rules).toContain('masquerade');
  expect(await running.stop(), running.stderr).toBe(0);
  return rules;
}

describe.skipIf(reason !== undefined)(
  `the table of a server (${reason ?? 'in namespaces'})`,
  { timeout: 240_000 },
  () => {
    it.each([
      ['right after it was set', '"$1" = -f'],
      ['before anybody looks after it', '"$*" = "-j list ruleset"'],
    ])('is there although somebody flushes nftables %s', async (_, call) => {
      await using lab = await Lab.open();
      const host = await lab.host('s');
      const name = lab.interfaceName('s');
      const state = await State.make(lab, host, 'state');
      const before = await systemOf(host);
      const whole = await wholeRules(state, host, name);
      const body = `if [ ${call} ] && take flush; then $real "$@" && exec $real flush ruleset; fi`;
      const shim = await NftShim.make(lab, host, body);
      await shim.put('flush');
      const running = state.start(host, name, [], shim.env);
      await untilReady(running);
      expect(shim.has('flush')).toBe(false);
      await until('the rules to be there', async () => (await rulesOf(host)) === whole, 30_000);
      expect(await running.stop(), running.stderr).toBe(0);
      expect(await systemOf(host)).toBe(before);
    });

    it('is left alone while nft cannot list it', async () => {
      await using lab = await Lab.open();
      const host = await lab.host('s');
      const name = lab.interfaceName('s');
      const state = await State.make(lab, host, 'state');
      const body = 'if [ "$1" = --stateless ] && has broken; then echo "Error: busy" >&2; exit 1; fi';
      const shim = await NftShim.make(lab, host, body);
      const running = state.start(host, name, [], shim.env);
      await untilReady(running);
      await shim.put('broken');
      const isTold = (): boolean => running.stdout.includes('firewall-failed');
      await until('the failure to be told', async () => (await stir(host)) === '' && isTold(), 30_000);
      await shim.remove('broken');
      const next = shim.calls('--stateless') + 2;
      await until('it to look', async () => (await stir(host)) === '' && shim.calls('--stateless') >= next, 30_000);
      expect(shim.calls('-f -')).toBe(1);
      expect(running.stdout).not.toContain(RESTORED);
      expect(await running.stop(), running.stderr).toBe(0);
    });

    it('lets through what a server that comes carries, also when nft fails at first', async () => {
      await using lab = await Lab.open();
      const host = await lab.host('s');
      const [name, otherName] = [lab.interfaceName('s'), lab.interfaceName('t')];
      const [one, other] = [await State.make(lab, host, 'one'), await State.make(lab, host, 'other', '10.8.0.0/24')];
      const before = await systemOf(host);
      const shim = await NftShim.make(
        lab,
        host,
        'if [ "$1" = -f ] && take broken; then echo "Error: busy" >&2; exit 1; fi',
      );
      const first = one.start(host, name, [], shim.env);
      await untilReady(first);
      await shim.put('broken');
      const second = await other.run(host, otherName);
      await until('it to fail', () => !shim.has('broken'), 30_000);
      const lets = async (): Promise<boolean> =>
        (await host.must('nft', ['list', 'table', 'inet', `sealaned-${name}`])).includes(
          `iifname "${otherName}" accept`,
        );
      await until('the other one to be let through', lets, 30_000);
      expect(await first.stop(), first.stderr).toBe(0);
      expect(await second.stop(), second.stderr).toBe(0);
      expect(await systemOf(host)).toBe(before);
    });

    it('still drops what is not of the peers when a killed server of another folder had the interface', async () => {
      await using lab = await Lab.open();
      const [host, inside, outside] = [await lab.host('s'), await lab.host('i'), await lab.host('o')];
      await lab.join(inside, 'vi', ['192.168.66.2/24'], host, 'lan', ['192.168.66.1/24']);
      await lab.join(outside, 'vo', ['203.0.113.2/24'], host, 'wan', ['203.0.113.1/24']);
      await inside.must('ip', ['route', 'add', '203.0.113.0/24', 'via', '192.168.66.1']);
      await outside.must('ip', ['route', 'add', '192.168.66.0/24', 'via', '203.0.113.1']);
      const reaches = async (): Promise<boolean> => (await ping(inside, '203.0.113.2', { count: 2 })).received > 0;
      const name = lab.interfaceName('s');
      const one = await State.make(lab, host, 'one', '10.7.0.0/24,fd07::/64');
      const other = await State.make(lab, host, 'other', '10.8.0.0/24');
      const before = await systemOf(host);
      expect(await forwarding(host)).toBe('0');
      await one.killed(host, name);
      expect(await reaches()).toBe(false);
      const second = await other.run(host, name);
      expect(second.stdout).toContain(
        `a killed server of another --state left the nftables table inet sealaned-${name}`,
      );
      expect(await forwarding(host)).toBe('1');
      expect(await reaches()).toBe(false);
      // Nor in the family that this server has nothing to do with.
      expect(await rulesOf(host)).toContain('meta nfproto ipv6 counter drop');
      expect(await second.stop(), second.stderr).toBe(0);
      expect(await systemOf(host)).toBe(before);
      expect(await forwarding(host, 'net.ipv6.conf.all.forwarding')).toBe('0');
      expect(await one.call(host, 'down')).toMatchObject({ code: 0 });
      expect(await systemOf(host)).toBe(before);
    });

    it('goes with the server, and so does forwarding, when the note of it was removed meanwhile or cannot be read', async () => {
      await using lab = await Lab.open();
      const host = await lab.host('s');
      const name = lab.interfaceName('s');
      const state = await State.make(lab, host, 'state');
      const before = await systemOf(host);
      const first = await state.run(host, name);
      await rm(state.record);
      expect(await first.stop(), first.stderr).toBe(0);
      expect(await systemOf(host)).toBe(before);
      expect(existsSync(state.record)).toBe(false);

      const second = await state.run(host, name);
      await writeFile(state.record, '[{"place":');
      expect(await second.stop()).toBe(1);
      expect(second.stdout + second.stderr).toContain(`${state.record} is not what sealaned writes`);
      expect(await systemOf(host)).toBe(before);
      expect(readFileSync(state.record, 'utf8')).toBe('[{"place":');
      await rm(state.record);
      expect((await state.call(host, 'status')).stdout).toContain('not running');
      const third = await state.run(host, name);
      expect(await third.stop(), third.stderr).toBe(0);
      expect(await systemOf(host)).toBe(before);
    });

    it('knows of a server that began while it looked for others', async () => {
      await using lab = await Lab.open();
      const host = await lab.host('s');
      const [one, other] = [await State.make(lab, host, 'one'), await State.make(lab, host, 'other', '10.8.0.0/24')];
      const before = await systemOf(host);
      const late =
        'if [ "$*" = "-j list tables inet" ] && take hold; then $real "$@"; until has go; do sleep 0.1; done; exit 0; fi';
      const shim = await NftShim.make(lab, host, late);
      await shim.put('hold');
      const first = one.start(host, lab.interfaceName('s'), [], shim.env);
      await until('the first to look', () => !shim.has('hold'), 90_000);
      const second = await other.run(host, lab.interfaceName('t'));
      await shim.put('go');
      await untilReady(first);
      expect(await second.stop(), second.stderr).toBe(0);
      expect(await forwarding(host)).toBe('1');
      expect(await first.stop(), first.stderr).toBe(0);
      expect(await systemOf(host)).toBe(before);
    });
  },
);
