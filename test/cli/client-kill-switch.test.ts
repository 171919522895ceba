/** `sealane up --kill-switch`: what leaves host a on the outer link is counted there, by nftables and by port. */
import { existsSync } from 'node:fs';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { clientFile, rulesOf, runSealane, SERVER, systemOf, tryUp, twoHosts, up } from './client-lab.ts';
import { SEALANE } from './client-support.ts';
import { type Host, Lab, missing, until } from '../support/lab.ts';
import { ping } from '../support/wireguard.ts';

const reason = missing('ping', 'wg', 'nft');
const FLAPS = 100;

/** Counts, on the far end of the link, everything that is neither a datagram of the tunnel, between its two ends, nor neighbour discovery. */
async function countClear(host: Host): Promise<void> {
  await host.must('nft', ['-f', '-'], {
    input: `table netdev count {
  chain in {
    type filter hook ingress device "vb" priority 0; policy accept;
    ip saddr 192.168.88.1 ip daddr 192.168.88.2 udp dport 51888 accept
    ether type arp accept
    icmpv6 type { nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert, mld2-listener-report } accept
    counter
  }
}
`,
  });
}

async function clearPackets(host: Host): Promise<number> {
  return Number(/counter packets (\d+)/.exec(await host.must('nft', ['list', 'table', 'netdev', 'count']))?.[1]);
}

/** Tries to get out by every way that a program has. */
async function tryToLeave(host: Host): Promise<void> {
  await Promise.all([
    host.run('ping', ['-c', '3', '-i', '0.2', '-W', '1', '203.0.113.1']),
    host.run('ping', ['-c', '3', '-i', '0.2', '-W', '1', '192.168.88.2']),
    host.run('ping', ['-6', '-c', '3', '-i', '0.2', '-W', '1', 'fd88::2']),
    host.run('ping', ['-I', 'va', '-c', '2', '-W', '1', '203.0.113.1']),
    host.run('bash', [
      '-c',
      'for i in 1 2 3; do echo x > /dev/udp/203.0.113.1/53; echo x > /dev/udp/192.168.88.2/51889; done',
    ]),
  ]);
}

/** One way to what lies behind host b, in each address family. */
function tryToReachOver(host: Host, family: 4 | 6): Promise<unknown> {
  const target = family === 4 ? '203.0.113.1' : '2001:db8:5::1';
  return Promise.all([
    host.run('ping', [`-${family}`, '-c', '2', '-i', '0.2', '-W', '1', target]),
    host.run('bash', ['-c', `for i in 1 2; do echo x > /dev/udp/${target}/53; done`]),
  ]);
}

describe.skipIf(reason !== undefined)(`sealane up --kill-switch (${reason ?? 'between two namespaces'})`, () => {
  it('lets nothing out in the clear: server down, foreign routes, client killed', async () => {
    await using lab = await Lab.open();
    const { a, b } = await twoHosts(lab);
    await b.must('ip', ['address', 'add', '203.0.113.1/32', 'dev', 'lo']);
    await a.must('ip', ['route', 'add', 'default', 'via', '192.168.88.2']);
    await countClear(b);
    await tryToLeave(a);
    const free = await clearPackets(b);
    expect(free).toBeGreaterThan(10);
    await a.must('sysctl', ['-q', '-w', 'net.ipv6.conf.va.keep_addr_on_down=1']);
    const before = await systemOf(a);

    const name = lab.interfaceName('a');
    const there = await up(lab, b, lab.interfaceName('b'), SERVER);
    const here = await up(lab, a, name, clientFile('0.0.0.0/0, ::/0'), '--kill-switch');
    expect(here.stderr).toContain('kill switch');
    expect(await ping(a, '203.0.113.1', { count: 5 })).toEqual({ sent: 5, received: 5, duplicates: 0 });
    expect((await a.run('ping', ['-c', '1', '127.0.0.1'])).code).toBe(0);

    // A route that is more specific than the tunnel's wins, and its packets still do not leave (CVE-2024-3661).
    await a.must('ip', ['route', 'add', '203.0.113.0/24', 'via', '192.168.88.2']);
    await tryToLeave(a);
    expect(await clearPackets(b)).toBe(free);
    await a.must('ip', ['route', 'delete', '203.0.113.0/24']);
    expect((await ping(a, '203.0.113.1', { count: 2 })).received).toBe(2);

    // The tunnel's interface and the link go down and up, and programs never stop trying.
    const trying = a.start('ping', ['-i', '0.01', '203.0.113.1']);
    for (let flap = 0; flap < FLAPS; flap++) {
      const flapping = flap % 2 === 0 ? 'va' : name;
      await a.must('ip', ['link', 'set', 'down', 'dev', flapping]);
      await a.must('ip', ['link', 'set', 'up', 'dev', flapping]);
      // The kernel takes routes away with the link.
      await a.run('ip', ['route', 'replace', 'default', 'via', '192.168.88.2']);
      await a.run('ip', ['route', 'replace', '203.0.113.0/24', 'via', '192.168.88.2']);
    }
    await a.must('ip', ['route', 'delete', '203.0.113.0/24']);
    await trying.stop('SIGINT');
    expect(Number(/(\d+) packets transmitted/.exec(trying.stdout)?.[1])).toBeGreaterThan(FLAPS);
    await tryToLeave(a);
    expect(await clearPackets(b)).toBe(free);

    await there.stop();
    await tryToLeave(a);
    expect(await clearPackets(b)).toBe(free);

    await here.stop('SIGKILL');
    await tryToLeave(a);
    expect(await clearPackets(b)).toBe(free);

    // Coming up again leaves no gap, nor does failing to.
    const missingKey = await lab.file(`${name}.conf`, clientFile('0.0.0.0/0, ::/0', 'PostUp = false'));
    const failed = await tryUp(lab, a, missingKey, '--kill-switch');
    expect(failed.stderr).toContain('the kill switch stays');
    await tryToLeave(a);
    expect(await clearPackets(b)).toBe(free);

    const down = await runSealane(a, 'down', name);
    expect(down.code).toBe(0);
    expect(await systemOf(a)).toBe(before);
    await tryToLeave(a);
    expect(await clearPackets(b)).toBeGreaterThan(free);
  }, 240_000);

  it('lets nothing out that it forwards for others, nor IPv6, also on foreign routes and when the client is killed', async () => {
    await using lab = await Lab.open();
    const { a, b } = await twoHosts(lab);
    // Host c is behind host a, which is its router.
    const c = await lab.host('c');
    await lab.join(c, 'vc', ['192.168.90.2/24', 'fd90::2/64'], a, 'vac', ['192.168.90.1/24', 'fd90::1/64']);
    await a.must('sysctl', ['-qw', 'net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1']);
    for (const [host, next4, next6] of [
      [c, '192.168.90.1', 'fd90::1'],
      [a, '192.168.88.2', 'fd88::2'],
    ] as const) {
      await host.must('ip', ['route', 'add', 'default', 'via', next4]);
      await host.must('ip', ['-6', 'route', 'add', 'default', 'via', next6]);
    }
    await b.must('ip', ['address', 'add', '203.0.113.1/32', 'dev', 'lo']);
    await b.must('ip', ['address', 'add', '2001:db8:5::1/128', 'dev', 'lo', 'nodad']);
    await countClear(b);
    const ways = [a, c].flatMap((host) => ([4, 6] as const).map((family) => () => tryToReachOver(host, family)));
    for (const way of ways) {
      const before = await clearPackets(b);
      await way();
      expect(await clearPackets(b)).toBeGreaterThan(before);
    }
    await until('link-local addresses to settle', async () => !(await a.must('ip', ['address'])).includes('tentative'));
    const before = await systemOf(a);
    const free = await clearPackets(b);

    const behind = SERVER.replace('fd08::2/128', 'fd08::2/128, 192.168.90.0/24, fd90::/64');
    await up(lab, b, lab.interfaceName('b'), behind);
    const name = lab.interfaceName('a');
    const here = await up(lab, a, name, clientFile('0.0.0.0/0, ::/0'), '--kill-switch');
    for (const target of ['203.0.113.1', '2001:db8:5::1']) {
      expect((await ping(c, target, { count: 2 })).received, target).toBe(2);
    }
    expect(await clearPackets(b)).toBe(free);

    await a.must('ip', ['route', 'add', '203.0.113.0/24', 'via', '192.168.88.2']);
    await a.must('ip', ['-6', 'route', 'add', '2001:db8:5::/48', 'via', 'fd88::2']);
    for (const way of ways) await way();
    expect(await clearPackets(b)).toBe(free);

    await here.stop('SIGKILL');
    for (const way of ways) await way();
    expect(await clearPackets(b)).toBe(free);

    await a.must('ip', ['route', 'delete', '203.0.113.0/24']);
    await a.must('ip', ['-6', 'route', 'delete', '2001:db8:5::/48']);
    expect((await runSealane(a, 'down', name)).code).toBe(0);
    expect(await systemOf(a)).toBe(before);
    for (const way of ways) {
      const stopped = await clearPackets(b);
      await way();
      expect(await clearPackets(b)).toBeGreaterThan(stopped);
    }
  }, 120_000);

  it('of a killed tunnel stays until one without it is up', async () => {
    await using lab = await Lab.open();
    const { a } = await twoHosts(lab);
    const before = await systemOf(a);
    const name = lab.interfaceName('a');
    const here = await up(lab, a, name, clientFile('10.88.0.0/24'), '--kill-switch');
    const tables = (): Promise<string> => a.must('nft', ['list', 'tables']);
    const standing = await tables();
    expect(standing).not.toBe('');
    await here.stop('SIGKILL');
    const failing = await lab.file(`${name}.conf`, clientFile('10.88.0.0/24', 'PostUp = false'));
    expect((await tryUp(lab, a, failing)).stderr).toContain('the kill switch stays');
    expect(await tables()).toBe(standing);
    const mark = join(lab.folder, 'mark');
    const slow = await lab.file(`${name}.conf`, clientFile('10.88.0.0/24', `PostUp = touch ${mark}; sleep 600`));
    for (const options of [[], ['--kill-switch']]) {
      const interrupted = a.start(process.execPath, [SEALANE, 'up', slow, ...options], { STATE_DIRECTORY: lab.folder });
      await until('PostUp to run', () => existsSync(mark));
      expect(await interrupted.stop('SIGTERM')).toBe(0);
      expect(interrupted.stderr.match(/the kill switch stays/g), interrupted.stderr).toHaveLength(1);
      expect(await tables()).toBe(standing);
      await rm(mark);
    }
    const again = await up(lab, a, name, clientFile('10.88.0.0/24'));
    const said = /has no kill switch: that of process \d+ is taken away/;
    await until('the kill switch to be gone', () => said.test(again.stderr));
    expect(await tables()).toBe('');
    await again.stop();
    expect(await systemOf(a)).toBe(before);
  });

  it('of a killed tunnel does not stay when somebody has taken it away meanwhile', async () => {
    await using lab = await Lab.open();
    const { a } = await twoHosts(lab);
    const before = await systemOf(a);
    const name = lab.interfaceName('a');
    const here = await up(lab, a, name, clientFile('0.0.0.0/0'), '--kill-switch');
    await here.stop('SIGKILL');
    await a.must('nft', ['flush', 'ruleset']);
    const failing = await lab.file(`${name}.conf`, clientFile('0.0.0.0/0', 'PostUp = false'));
    const failed = await tryUp(lab, a, failing, '--kill-switch');
    expect(failed.stderr).toContain('PostUp: the command failed with status 1');
    expect(failed.stderr).not.toContain('the kill switch');
    expect(await systemOf(a)).toBe(before);
  });

  it.each(['SIGKILL', 'SIGTERM'] as const)(
    'is taken away later when it could not be at first, after %s',
    async (signal) => {
      await using lab = await Lab.open();
      const { a } = await twoHosts(lab);
      const before = await systemOf(a);
      const programs = join(lab.folder, 'programs');
      await a.must('bash', ['-c', 'mkdir "$0" && ln -s "$(command -v ip)" "$(command -v nft)" "$0"', programs]);
      const name = lab.interfaceName('a');
      const file = await lab.file(`${name}.conf`, clientFile('10.88.0.0/24'));
      const sealane = [`PATH=${programs}`, `STATE_DIRECTORY=${lab.folder}`, process.execPath, SEALANE];
      const here = a.start('env', [...sealane, 'up', file, '--kill-switch']);
      await until('the tunnel to be up', () => here.stderr.includes(' is up: '), 45_000);
      await rm(join(programs, 'nft'));
      await here.stop(signal);
      for (let attempt = 0; attempt < 2; attempt++) {
        const failed = await a.run('env', [...sealane, 'down', name]);
        expect(failed.stderr).toMatch(/cannot undo nftables table .*: cannot run the program nft: it is missing/);
        expect(failed.code).toBe(1);
      }
      expect((await runSealane(a, 'down', name)).code).toBe(0);
      expect(await systemOf(a)).toBe(before);
      expect((await runSealane(a, 'down', name)).stderr).toContain(`no tunnel ${name} is running here`);
    },
  );

  it('keeps what is meant for a narrower tunnel in it, and nothing else', async () => {
    await using lab = await Lab.open();
    const { a, b } = await twoHosts(lab);
    await b.must('ip', ['address', 'add', '203.0.113.1/32', 'dev', 'lo']);
    await a.must('ip', ['route', 'add', 'default', 'via', '192.168.88.2']);
    const before = await systemOf(a);
    const name = lab.interfaceName('a');
    const here = await up(lab, a, name, clientFile('10.88.0.0/24, 203.0.113.0/24'), '--kill-switch');
    await countClear(b);
    expect((await a.run('ping', ['-c', '1', '-W', '1', '192.168.88.2'])).code).toBe(0);
    const free = await clearPackets(b);
    await here.stop('SIGKILL');
    await a.run('ping', ['-c', '3', '-i', '0.2', '-W', '1', '203.0.113.1']);
    expect(await clearPackets(b)).toBe(free);
    expect((await runSealane(a, 'down', name)).code).toBe(0);
    expect(await systemOf(a)).toBe(before);
  });

  it('refuses the other family too when the default route is written as halves', async () => {
    await using lab = await Lab.open();
    const { a, b } = await twoHosts(lab);
    await a.must('ip', ['-6', 'route', 'add', 'default', 'via', 'fd88::2']);
    await countClear(b);
    const pingOut = (): Promise<unknown> => a.run('ping', ['-6', '-c', '3', '-i', '0.2', '-W', '1', '2001:db8:5::1']);
    await pingOut();
    const free = await clearPackets(b);
    expect(free).toBeGreaterThan(0);
    const here = await up(lab, a, lab.interfaceName('a'), clientFile('0.0.0.0/1, 128.0.0.0/1'), '--kill-switch');
    await pingOut();
    expect(await clearPackets(b)).toBe(free);
    expect(await here.stop()).toBe(0);
  });

  it('comes back when somebody flushes all of nftables or a table of ours, with the rules of the tunnel', async () => {
    await using lab = await Lab.open();
    const { a } = await twoHosts(lab);
    const before = await systemOf(a);
    const name = lab.interfaceName('a');
    const here = await up(lab, a, name, clientFile('0.0.0.0/0'), '--kill-switch');
    const rules = (): Promise<string> => rulesOf(a);
    const whole = await rules();
    expect(whole).toContain('table inet sealane-kill-');
    const changes = [
      'flush ruleset',
      'flush ruleset',
      `flush table inet sealane-kill-${name}`,
      `flush table inet sealane-guard-${name}`,
    ];
    for (const change of changes) {
      await a.must('nft', change.split(' '));
      await until(`the rules to be back after ${change}`, async () => (await rules()) === whole, 15_000);
    }
    expect(here.stderr).toContain('somebody changed our nftables table');
    expect(await here.stop()).toBe(0);
    expect(await systemOf(a)).toBe(before);
  });

  it('comes back a little later when that fails at first', async () => {
    await using lab = await Lab.open();
    const { a } = await twoHosts(lab);
    const name = lab.interfaceName('a');
    const [programs, broken] = [join(lab.folder, 'bin'), join(lab.folder, 'broken')];
    await mkdir(programs);
    const real = (await a.must('bash', ['-c', 'command -v nft'])).trim();
    const shim = `#!/bin/sh\n[ "$1" = -f ] && [ -e ${broken} ] && { echo out of order >&2; exit 1; }\nexec ${real} "$@"\n`;
    await writeFile(join(programs, 'nft'), shim, { mode: 0o755 });
    const file = await lab.file(`${name}.conf`, clientFile('0.0.0.0/0'));
    const env = { STATE_DIRECTORY: lab.folder, PATH: `${programs}:${process.env['PATH']}` };
    const here = a.start(process.execPath, [SEALANE, 'up', file, '--kill-switch'], env);
    await until('the tunnel to be up', () => here.stderr.includes(' is up: '), 45_000);
    const rules = (): Promise<string> => rulesOf(a);
    const whole = await rules();

    await writeFile(broken, '');
    await a.must('nft', ['flush', 'ruleset']);
    await until('the failure to be told', () => here.stderr.includes('cannot be put back: '), 15_000);
    await rm(broken);
    await until('the rules to be back', async () => (await rules()) === whole, 30_000);
    expect(await here.stop()).toBe(0);
  });
});
