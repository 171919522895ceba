/** Two hosts with `sealane up` on both, as real processes. */
import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { client, clientFile, SERVER, server, systemOf, twoHosts, up, tryUp } from './client-lab.ts';
import { sealane, SEALANE } from './client-support.ts';
import { Lab, missing, until } from '../support/lab.ts';
import { ping } from '../support/wireguard.ts';

const reason = missing('ping', 'wg', 'bash');

describe.skipIf(reason !== undefined)(`sealane up (${reason ?? 'between two namespaces'})`, () => {
  it('sets addresses, MTU and routes, carries traffic, and undoes everything', async () => {
    await using lab = await Lab.open();
    const { a, b } = await twoHosts(lab);
    const before = [await systemOf(a), await systemOf(b)];
    const [nameA, nameB] = [lab.interfaceName('a'), lab.interfaceName('b')];
    const there = await up(lab, b, nameB, SERVER);
    const here = await up(lab, a, nameA, clientFile('10.88.0.0/24, fd08::/64, 10.99.0.0/16'));

    const address = await a.must('ip', ['address', 'show', nameA]);
    expect(address).toContain('mtu 1400');
    expect(address).toContain('inet 10.88.0.2/32');
    expect(address).toContain('inet6 fd08::2/128');
    const routes = (await a.must('ip', ['route'])) + (await a.must('ip', ['-6', 'route']));
    for (const prefix of ['10.88.0.0/24', '10.99.0.0/16', 'fd08::/64'])
      expect(routes).toContain(`${prefix} dev ${nameA}`);
    expect(await ping(a, '10.88.0.1', { count: 5 })).toEqual({ sent: 5, received: 5, duplicates: 0 });
    expect(await ping(b, 'fd08::2', { count: 5, size: 1_300 })).toEqual({ sent: 5, received: 5, duplicates: 0 });

    expect(await here.stop('SIGINT')).toBe(0);
    expect(await there.stop('SIGTERM')).toBe(0);
    expect([await systemOf(a), await systemOf(b)]).toEqual(before);
    for (const name of [nameA, nameB]) expect(existsSync(`/var/run/wireguard/${name}.sock`)).toBe(false);
    expect(here.stderr).not.toContain(client.privateText);
  });

  it('refuses an interface that somebody else made, and leaves it as it is', async () => {
    await using lab = await Lab.open();
    const { a } = await twoHosts(lab);
    const name = lab.interfaceName('a');
    await a.must('ip', ['tuntap', 'add', name, 'mode', 'tun']);
    const before = await systemOf(a);
    const file = await lab.file(`${name}.conf`, clientFile('10.88.0.0/24'));
    const { code, stderr } = await tryUp(lab, a, file);
    expect(stderr).toBe(
      `sealane: the interface ${name} exists already: remove it, or choose another name with --name\n`,
    );
    expect(code).toBe(1);
    expect(await systemOf(a)).toBe(before);
  });

  it('is shown by status, rekeyed by rekey and ended by down', async () => {
    await using lab = await Lab.open();
    const { a, b } = await twoHosts(lab);
    const name = lab.interfaceName('a');
    const there = await up(lab, b, lab.interfaceName('b'), SERVER);
    const here = await up(lab, a, name, clientFile('10.88.0.0/24, fd08::/64'));
    expect((await ping(a, '10.88.0.1', { count: 2 })).received).toBe(2);

    const text = (await sealane(['status', name])).stdout;
    expect(text).toContain(`${name}  up, lane `);
    expect(text).toMatch(/endpoint +192\.168\.88\.2:51888\n/);
    expect(text).toMatch(/session +initiator, .* old, rekey due in .*, expires in .*, 0 rekeys so far\n/);
    expect(text).toMatch(/handshake +.* ago, took [\d.]+ ms\n/);

    const rekeyed = await sealane(['rekey', name]);
    expect(rekeyed.stdout).toMatch(
      new RegExp(`^${server.publicText.replaceAll('+', '\\+')}: session 2 in [\\d.]+ ms\n$`),
    );
    expect(rekeyed.code).toBe(0);
    const status = JSON.parse((await sealane(['status', name, '--json'])).stdout) as { peers: { sessions: number }[] };
    expect(status.peers[0]?.sessions).toBe(2);

    const watch = await a.run('timeout', [
      '-s',
      'INT',
      '6',
      process.execPath,
      SEALANE,
      'status',
      name,
      '--watch',
      '--json',
    ]);
    const lines = watch.stdout
      .trim()
      .split('\n')
      .map((line) => (JSON.parse(line) as { name: string }).name);
    expect(lines.length).toBeGreaterThanOrEqual(2);
    expect(new Set(lines)).toEqual(new Set([name]));

    const file = `${lab.folder}/${name}.conf`;
    const second = await sealane(['ping', file], '', { STATE_DIRECTORY: lab.folder });
    expect(second.stderr).toContain(`${name} is up with this key`);
    expect(second.code).toBe(1);

    expect((await sealane(['down', name])).code).toBe(0);
    expect(await here.exit).toBe(0);
    expect(await there.stop()).toBe(0);
  });

  it.each(['linux', 'portable'])('does not come up without its port in the %s lane', async (lane) => {
    await using lab = await Lab.open();
    const { a } = await twoHosts(lab);
    const before = await systemOf(a);
    const other = a.start(process.execPath, [
      '-e',
      "require('node:dgram').createSocket('udp4').bind(51999, () => console.log('bound'))",
    ]);
    await until('the port to be taken', () => other.stdout.includes('bound'));
    const name = lab.interfaceName('a');
    const file = await lab.file(`${name}.conf`, clientFile('10.88.0.0/24', 'ListenPort = 51999'));
    for (const how of [[], ['--detach']]) {
      const { code, stderr } = await tryUp(lab, a, file, '--lane', lane, ...how);
      expect(stderr).toMatch(/^sealane: UDP port 51999 \(IPv4\) is in use[^\n]*$/m);
      expect(stderr).not.toContain(' is up');
      expect(code).toBe(1);
      expect(await systemOf(a)).toBe(before);
    }
  });

  it('undoes what it did when a step fails', async () => {
    await using lab = await Lab.open();
    const { a } = await twoHosts(lab);
    const name = lab.interfaceName('a');
    await a.must('ip', ['route', 'add', '10.99.0.0/16', 'dev', 'va']);
    const before = await systemOf(a);
    const file = await lab.file(`${name}.conf`, clientFile('10.88.0.0/24, 10.99.0.0/16'));
    const outcome = await tryUp(lab, a, file);
    expect(outcome.stderr).toMatch(
      new RegExp(`^sealane: 'ip route add 10.99.0.0/16 dev ${name}' failed: File exists: another route [^\\n]*\\n$`),
    );
    expect(outcome.code).toBe(1);
    expect(await systemOf(a)).toBe(before);
    expect(existsSync(`/var/run/wireguard/${name}.sock`)).toBe(false);
  });

  it('takes its name by --name, adds no routes with Table = off, and uses another table when told', async () => {
    await using lab = await Lab.open();
    const { a } = await twoHosts(lab);
    const before = await systemOf(a);
    const name = lab.interfaceName('n');
    const off = await up(lab, a, 'office', clientFile('10.99.0.0/16, 0.0.0.0/0', 'Table = off'), '--name', name);
    expect(await a.must('ip', ['route'])).not.toContain(name);
    await off.stop();
    const own = await up(lab, a, 'office', clientFile('10.99.0.0/16, 0.0.0.0/0', 'Table = 4711'), '--name', name);
    const table = await a.must('ip', ['route', 'show', 'table', '4711']);
    expect(table).toContain(`10.99.0.0/16 dev ${name}`);
    expect(table).toContain(`default dev ${name}`);
    await own.stop();
    expect(await systemOf(a)).toBe(before);
  });

  it('takes the names of routing tables as ip(8) does, and refuses others', async (context) => {
    if (!existsSync('/etc/iproute2')) context.skip('needs /etc/iproute2 to put another one over it');
    await using lab = await Lab.open();
    const { a } = await twoHosts(lab);
    const folder = join(lab.folder, 'iproute2');
    await mkdir(join(folder, 'rt_tables.d'), { recursive: true });
    await writeFile(join(folder, 'rt_tables'), '# ours\n0x1267 office # by hexadecimal\n9 twice\n5 twice\n');
    await writeFile(join(folder, 'rt_tables.d', 'vpn.conf'), '4711\tvpn\n');
    // What `ip netns exec` runs has mounts of its own.
    const within = (...words: readonly string[]): readonly string[] => [
      '-c',
      'mount --bind "$0" /etc/iproute2 && exec "$@"',
      folder,
      ...words,
    ];
    const name = lab.interfaceName('a');
    for (const table of ['vpn', 'office', 'twice']) {
      const file = await lab.file(`${name}.conf`, clientFile('10.99.0.0/16', `Table = ${table}`));
      const words = within(process.execPath, SEALANE, 'up', file);
      const here = a.start('bash', words, { STATE_DIRECTORY: lab.folder });
      await until(`the tunnel to be up with Table = ${table}`, () => here.stderr.includes(' is up: '), 45_000);
      expect(await a.must('bash', within('ip', 'route', 'show', 'table', table))).toContain(`10.99.0.0/16 dev ${name}`);
      expect(await here.stop()).toBe(0);
    }
    const file = await lab.file(`${name}.conf`, clientFile('10.99.0.0/16', 'Table = offise'));
    const refused = await a.run('bash', within(process.execPath, SEALANE, 'up', file));
    expect(refused.stderr).toBe(
      `sealane: ${file}:5: Table: 'offise' is not 'auto', 'off', or a routing table's number or name (/etc/iproute2/rt_tables)\n`,
    );
    expect(refused.code).toBe(2);
  });

  it('refuses a default route in a lane that cannot mark its datagrams', async () => {
    await using lab = await Lab.open();
    const { a } = await twoHosts(lab);
    const before = await systemOf(a);
    const file = await lab.file(`${lab.interfaceName('a')}.conf`, clientFile('0.0.0.0/0'));
    const outcome = await tryUp(lab, a, file, '--lane', 'portable');
    expect(outcome.stderr).toMatch(
      /^sealane: a default route .* needs marked datagrams, which only the Linux lane sends[^\n]*\n$/,
    );
    expect(outcome.code).toBe(1);
    expect(await systemOf(a)).toBe(before);
  });

  it('sends everything through the tunnel but its own datagrams and what the main table knows', async (context) => {
    await using lab = await Lab.open();
    const { a, b } = await twoHosts(lab);
    await b.must('ip', ['address', 'add', '203.0.113.1/32', 'dev', 'lo']);
    const before = await systemOf(a);
    const name = lab.interfaceName('a');
    await up(lab, b, lab.interfaceName('b'), SERVER);
    const file = await lab.file(`${name}.conf`, clientFile('0.0.0.0/0, ::/0'));
    const here = a.start(process.execPath, [SEALANE, 'up', file], { STATE_DIRECTORY: lab.folder });
    await until('the tunnel to be up or refused', () => /is up: |Linux lane/.test(here.stderr));
    if (here.stderr.includes('only the Linux lane')) context.skip('the Linux lane does not run here');

    expect(here.stderr).toContain('all IPv4 traffic, all IPv6 traffic');
    expect(await a.must('ip', ['route', 'get', '203.0.113.1'])).toContain(`dev ${name}`);
    expect(await a.must('ip', ['route', 'get', '192.168.88.2'])).toContain('dev va');
    const mark = (await a.must('wg', ['show', name, 'fwmark'])).trim();
    expect(await a.must('ip', ['-4', 'rule'])).toContain(`not from all fwmark ${mark}`);
    expect(await ping(a, '203.0.113.1', { count: 5 })).toEqual({ sent: 5, received: 5, duplicates: 0 });
    expect(await ping(a, 'fd08::1', { count: 5 })).toEqual({ sent: 5, received: 5, duplicates: 0 });

    // A killed one leaves its rules; the next run undoes them first, and its own in the end.
    await here.stop('SIGKILL');
    expect(await systemOf(a)).not.toBe(before);
    const again = await up(lab, a, name, clientFile('0.0.0.0/0, ::/0'));
    expect(again.stderr).toContain(`left of ${name}: `);
    expect(await ping(a, '203.0.113.1', { count: 5 })).toEqual({ sent: 5, received: 5, duplicates: 0 });
    expect(await again.stop()).toBe(0);
    expect(await systemOf(a)).toBe(before);
  });
});
