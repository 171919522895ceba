/**
 * `sealaned run` with a TUN interface as a router:
 *
 *   alice, bob [192.168.66.x] ==veth== [192.168.66.1] server [203.0.113.1, LAN 10.55.0.1] ==veth== [203.0.113.2, 10.55.0.2] outside
 */
import { readFileSync, statSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { SEALANE } from './client-support.ts';
import { SEALANED } from './server-support.ts';
import { type Host, Lab, missing, type Running, until } from '../support/lab.ts';
import { expectFewPrivileges, NET_ADMIN_AND_BIND } from '../support/privileges.ts';
import { ping } from '../support/wireguard.ts';

const reason = missing('ping', 'nft', 'iperf3');
const TIMEOUT = 120_000;
const KILL_AFTER_WRITE = fileURLToPath(new URL('../support/kill-after-write.cjs', import.meta.url));

class Network {
  readonly lab: Lab;
  readonly server: Host;
  readonly alice: Host;
  readonly bob: Host;
  readonly outside: Host;
  readonly state: string;

  private constructor(lab: Lab, server: Host, alice: Host, bob: Host, outside: Host) {
    this.lab = lab;
    this.server = server;
    this.alice = alice;
    this.bob = bob;
    this.outside = outside;
    this.state = join(lab.folder, 'state');
  }

  static async open(lab: Lab): Promise<Network> {
    const network = new Network(
      lab,
      await lab.host('s'),
      await lab.host('a'),
      await lab.host('b'),
      await lab.host('o'),
    );
    const { server, alice, bob, outside } = network;
    await lab.join(alice, 'wa', ['192.168.66.2/30'], server, 'va', ['192.168.66.1/30']);
    await lab.join(bob, 'wa', ['192.168.67.2/30'], server, 'vb', ['192.168.67.1/30']);
    await lab.join(outside, 'vo', ['203.0.113.2/24', '10.55.0.2/24', 'fd55::2/64'], server, 'wan', [
      '203.0.113.1/24',
      '10.55.0.1/24',
      'fd55::1/64',
    ]);
    await network.sealaned('init', '--endpoint', '192.168.66.1:51820', '--pool', '10.7.0.0/24,fd07::/64');
    for (const name of ['alice', 'bob']) {
      await network.sealaned(
        'peer',
        'add',
        name,
        '--allowed-ips',
        '10.7.0.0/24,fd07::/64,203.0.113.0/24,10.55.0.0/24,fd55::/64',
        '--out',
        join(lab.folder, `${name}.conf`),
      );
    }
    return network;
  }

  async sealaned(...args: readonly string[]): Promise<void> {
    await this.server.must(process.execPath, [SEALANED, ...args, '--state', this.state]);
  }

  /** Starts it and waits for nothing. */
  start(options: readonly string[], node: readonly string[] = [], env: Record<string, string> = {}): Running {
    const name = this.lab.interfaceName('s');
    const words = [SEALANED, 'run', '--state', this.state, '--interface', name, '--json', ...options];
    return this.server.start(process.execPath, [...node, ...words], env);
  }

  async run(...options: readonly string[]): Promise<Running> {
    const running = this.start(options);
    let ended = false;
    void running.exit.then(() => (ended = true));
    await until(
      'the server to be ready',
      () => {
        if (ended) throw new Error(running.stderr);
        return running.stdout.includes('"event":"ready"');
      },
      90_000,
    );
    return running;
  }

  async connect(host: Host, name: string): Promise<Running> {
    const path = join(this.lab.folder, `${name}.conf`);
    const text = readFileSync(path, 'utf8').replace(
      '192.168.66.1:',
      name === 'bob' ? '192.168.67.1:' : '192.168.66.1:',
    );
    const file = await this.lab.file(`${this.lab.interfaceName(name[0]!)}.conf`, text);
    const running = host.start(process.execPath, [SEALANE, 'up', file], { STATE_DIRECTORY: this.lab.folder });
    await until('the client to be up', () => running.stderr.includes(' is up: '), 90_000);
    await until('a session', () => running.stderr.includes('first session'));
    return running;
  }

  /** Everything on the server that hosting changes. */
  async system(): Promise<string> {
    const settings = await this.server.must('bash', [
      '-c',
      'grep -r . /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv*/conf/*/forwarding /proc/sys/net/ipv6/conf/*/accept_ra | sort',
    ]);
    const rules = await this.server.must('nft', ['list', 'ruleset']);
    // Link-local addresses appear when the kernel has settled them.
    const addresses = (await this.server.must('ip', ['-o', 'address'])).replaceAll(
      /^.* inet6 fe80:.*\n| tentative/gm,
      '',
    );
    return `${settings}${rules}${addresses}`;
  }
}

async function reaches(from: Host, to: string): Promise<boolean> {
  return (await ping(from, to, { count: 2 })).received > 0;
}

describe.skipIf(reason !== undefined)(`sealaned run as a router (${reason ?? 'between four namespaces'})`, () => {
  it(
    'takes peers outside under its own address, keeps them apart, and puts everything back',
    async () => {
      await using lab = await Lab.open();
      const network = await Network.open(lab);
      const { server, alice, bob, outside } = network;
      const before = await network.system();
      const running = await network.run('--deny', '10.55.0.0/24');
      await network.connect(alice, 'alice');
      await network.connect(bob, 'bob');

      // The outside knows no way back to the peers' own addresses.
      expect(await reaches(alice, '203.0.113.2')).toBe(true);
      expect(await reaches(alice, 'fd55::2')).toBe(true);
      expect(await reaches(alice, '10.7.0.1')).toBe(true);
      expect(await reaches(alice, '10.55.0.2')).toBe(false);
      expect(await reaches(alice, '10.7.0.3')).toBe(false);
      await outside.must('ip', ['route', 'add', '10.7.0.0/24', 'via', '203.0.113.1']);
      await outside.must('ip', ['route', 'add', '192.168.67.0/30', 'via', '203.0.113.1']);
      expect(await reaches(outside, '10.7.0.2')).toBe(false);
      // Forwarding is on for the peers alone.
      expect(await reaches(outside, '192.168.67.2')).toBe(false);

      expect(await running.stop()).toBe(0);
      expect(await network.system()).toBe(before);
      expect(running.stderr).toBe('');
      expect(await server.must('ls', [network.state])).not.toContain('hosting.json');
    },
    TIMEOUT,
  );

  it(
    'tells a peer by ICMP, in both families, that it may not go to another one',
    async () => {
      await using lab = await Lab.open();
      const network = await Network.open(lab);
      const { alice } = network;
      await network.run();
      await network.connect(alice, 'alice');
      for (const [to, family, error] of [
        ['10.7.0.3', 'ip', 'ip saddr 10.7.0.1 icmp type destination-unreachable icmp code 13'],
        ['fd07::3', 'ip6', 'ip6 saddr fd07::1 icmpv6 type destination-unreachable icmpv6 code 1'],
      ] as const) {
        const input = `table ${family} seen { chain in { type filter hook input priority 0; ${error} counter; }; }\n`;
        await alice.must('nft', ['-f', '-'], { input });
        const seen = async (): Promise<number> =>
          Number(/packets (\d+)/.exec(await alice.must('nft', ['list', 'table', family, 'seen']))?.[1]);
        const ways = [`ping -c 1 -W 1 ${to}`, `timeout 1 bash -c '</dev/tcp/${to}/80'`, `echo x >/dev/udp/${to}/80`];
        for (const way of ways) {
          const before = await seen();
          // Some of them may be held back: the kernel sends few errors a second.
          await until(`an error for ${way}`, async () => {
            await alice.run('bash', ['-c', way]);
            return (await seen()) > before;
          });
          expect(await reaches(alice, to)).toBe(false);
        }
      }
    },
    TIMEOUT,
  );

  it(
    'keeps peers from this host as well when --allow names what they reach, but for what it names',
    async () => {
      await using lab = await Lab.open();
      const network = await Network.open(lab);
      const { server, alice, bob } = network;
      const services = [server.start('iperf3', ['-s', '-p', '2222']), server.start('iperf3', ['-s', '-p', '2223'])];
      await network.run('--allow', '203.0.113.2/32:80', '--allow', '10.7.0.1/32:2223');
      await network.connect(alice, 'alice');
      const connects = async (host: Host, address: string, port: number): Promise<boolean> =>
        (await host.run('bash', ['-c', `timeout 3 bash -c '</dev/tcp/${address}/${port}'`])).code === 0;
      await until('the service to listen', () => connects(bob, '192.168.67.1', 2_222));
      for (const address of ['10.7.0.1', '203.0.113.1', '10.55.0.1']) {
        expect(await connects(alice, address, 2_222), address).toBe(false);
      }
      expect(await connects(alice, '10.7.0.1', 2_223)).toBe(true);
      // Outside of the tunnel nothing is different.
      expect(await connects(bob, '192.168.67.1', 2_222)).toBe(true);
      for (const service of services) await service.stop();
    },
    TIMEOUT,
  );

  it.each([
    { on: 'net.ipv4.ip_forward', open: '192.168.67.2', shut: 'fd67::2' },
    { on: 'net.ipv6.conf.all.forwarding', open: 'fd67::2', shut: '192.168.67.2' },
  ])(
    'forwards for nobody else what the host did not forward before, with $on on',
    async ({ on, open, shut }) => {
      await using lab = await Lab.open();
      const network = await Network.open(lab);
      const { server, bob, outside } = network;
      await server.must('ip', ['address', 'add', 'fd67::1/64', 'dev', 'vb', 'nodad']);
      await bob.must('ip', ['address', 'add', 'fd67::2/64', 'dev', 'wa', 'nodad']);
      for (const [host, to, via] of [
        [bob, '203.0.113.0/24', '192.168.67.1'],
        [bob, 'fd55::/64', 'fd67::1'],
        [outside, '192.168.67.0/30', '203.0.113.1'],
        [outside, 'fd67::/64', 'fd55::1'],
      ] as const) {
        await host.must('ip', ['route', 'add', to, 'via', via]);
      }
      await server.must('sysctl', ['-qw', `${on}=1`]);
      expect(await reaches(outside, open)).toBe(true);
      expect(await reaches(outside, shut)).toBe(false);
      const running = await network.run();
      expect(await reaches(outside, open)).toBe(true);
      expect(await reaches(outside, shut)).toBe(false);
      expect(await running.stop()).toBe(0);
      expect(await reaches(outside, open)).toBe(true);
    },
    TIMEOUT,
  );

  it(
    'lets peers reach each other when told to, leaves a strict firewall as it is, and undoes what a killed one left',
    async () => {
      await using lab = await Lab.open();
      const network = await Network.open(lab);
      const { server, alice, bob } = network;
      await server.must('sysctl', ['-qw', 'net.ipv4.ip_forward=1']);
      const before = await network.system();
      const first = await network.run('--peer-to-peer');
      await network.connect(alice, 'alice');
      await network.connect(bob, 'bob');
      expect(await reaches(alice, '10.7.0.3')).toBe(true);
      await first.stop('SIGKILL');
      expect(await network.system()).not.toBe(before);

      await server.must('nft', ['-f', '-'], {
        input:
          'table ip strict {\n chain forward { type filter hook forward priority 0; policy drop; }\n}\n' +
          'table ip last {\n chain forward { type filter hook forward priority 0; ct state established accept; counter reject; }\n' +
          ' chain other { type filter hook forward priority 0; tcp dport 25 drop; }\n}\n',
      });
      const second = await network.run();
      expect(second.stdout).toContain(
        "the firewall chain 'ip strict forward' drops forwarded packets: it is left as it is",
      );
      expect(second.stdout).toContain("the firewall chain 'ip last forward' drops forwarded packets");
      expect(second.stdout).not.toContain("'ip last other'");
      await until('the session to be back', () => reaches(alice, '10.7.0.1'));
      expect(await reaches(alice, '203.0.113.2')).toBe(false);
      expect(await second.stop()).toBe(0);
      for (const table of ['strict', 'last']) await server.must('nft', ['delete', 'table', 'ip', table]);
      expect(await network.system()).toBe(before);
    },
    TIMEOUT,
  );

  it.each([
    '/proc/sys/net/ipv4/ip_forward',
    '/proc/sys/net/ipv6/conf/wan/accept_ra',
    '/proc/sys/net/ipv6/conf/all/forwarding',
    'nft',
  ])(
    'has noted what it changes before it does: killed right after %s, it leaves nothing that the next one does not undo',
    async (last) => {
      await using lab = await Lab.open();
      const network = await Network.open(lab);
      const { server } = network;
      await server.must('sysctl', ['-qw', 'net.ipv6.conf.wan.accept_ra=1']);
      const before = await network.system();
      const bin = join(lab.folder, 'bin');
      await mkdir(bin);
      const real = (await server.must('bash', ['-c', 'command -v nft'])).trim();
      await writeFile(
        join(bin, 'nft'),
        `#!/bin/sh\ntest "$1" = -f || exec ${real} "$@"\n${real} "$@"\nkill -9 $PPID\n`,
        { mode: 0o755 },
      );
      const env = last === 'nft' ? { PATH: `${bin}:${process.env['PATH']}` } : { KILL_AFTER: last };
      const killed = network.start([], ['--require', KILL_AFTER_WRITE], env);
      expect(await killed.exit, killed.stderr).toBe(128);
      expect(await network.system()).not.toBe(before);
      // Of another name: it replaces nothing by chance.
      const next = await network.run('--interface', lab.interfaceName('t'));
      expect(await next.stop()).toBe(0);
      expect(await network.system()).toBe(before);
    },
    TIMEOUT,
  );

  it('undoes nothing of what was noted in a network namespace that is gone, whatever its number', async () => {
    await using lab = await Lab.open();
    const network = await Network.open(lab);
    const { server } = network;
    const first = await network.run();
    await first.stop('SIGKILL');
    const record = join(network.state, 'hosting.json');
    const [noted] = JSON.parse(readFileSync(record, 'utf8')) as [{ place: { inode: string } }];

    await using later = await Lab.open();
    const host = await later.host('s');
    await host.must('sysctl', ['-qw', 'net.ipv4.ip_forward=1']);
    const inodeOf = async (at: Host): Promise<string> =>
      /\d+/.exec(await at.must('readlink', ['/proc/self/ns/net']))![0];
    expect(noted.place.inode).toBe(await inodeOf(server));
    await writeFile(record, JSON.stringify([{ ...noted, place: { ...noted.place, inode: await inodeOf(host) } }]));
    const words = ['run', '--state', network.state, '--interface', later.interfaceName('s'), '--json'];
    const second = host.start(process.execPath, [SEALANED, ...words]);
    await until('the server to be ready', () => second.stdout.includes('"event":"ready"'), 90_000);
    expect(await second.stop(), second.stderr).toBe(0);
    expect(await host.must('sysctl', ['-n', 'net.ipv4.ip_forward'])).toBe('1\n');
  });

  it.each([[], ['multi_queue']])(
    'refuses an interface that somebody else made, and changes nothing',
    async (...kind) => {
      await using lab = await Lab.open();
      const host = await lab.host('s');
      const name = lab.interfaceName('s');
      const state = join(lab.folder, 'state');
      const sealaned = (...words: readonly string[]): ReturnType<Host['run']> =>
        host.run('timeout', ['-s', 'KILL', '60', process.execPath, SEALANED, ...words, '--state', state]);
      await sealaned('init', '--endpoint', '127.0.0.1:51820', '--pool', '10.7.0.0/24');
      await host.must('ip', ['tuntap', 'add', name, 'mode', 'tun', ...kind]);
      const system = async (): Promise<string> =>
        (await host.must('ip', ['-d', 'address', 'show'])) +
        (await host.must('nft', ['list', 'ruleset'])) +
        (await host.must('sysctl', ['net.ipv4.ip_forward']));
      const before = await system();
      const { code, stderr } = await sealaned('run', '--interface', name);
      expect(stderr).toBe(
        `sealaned: the interface ${name} exists already: remove it, or choose another name with --interface\n`,
      );
      expect(code).toBe(1);
      expect(await system()).toBe(before);
    },
  );

  it('begins the handshakes itself when it was killed and comes back, with few privileges', async () => {
    await using lab = await Lab.open();
    const network = await Network.open(lab);
    const { alice } = network;
    const first = await network.run();
    await network.connect(alice, 'alice');
    expect(await reaches(alice, '10.7.0.1')).toBe(true);
    const endpoints = join(network.state, 'endpoints.json');
    await until('the endpoint to be noted', () => statSync(endpoints, { throwIfNoEntry: false }) !== undefined);
    expect(statSync(endpoints).mode & 0o777).toBe(0o600);
    await first.stop('SIGKILL');
    const second = await network.run();
    await until('a session that the server began', () => second.stdout.includes('"role":"initiator"'));
    expect(await reaches(alice, '10.7.0.1')).toBe(true);
    const { pid } = JSON.parse(second.stdout.split('\n').find((line) => line.includes('"ready"'))!) as { pid: number };
    expectFewPrivileges(pid, NET_ADMIN_AND_BIND);
    expect(await second.stop()).toBe(0);
  });

  it(
    'puts its rules back when somebody flushes all of nftables or its table',
    async () => {
      await using lab = await Lab.open();
      const network = await Network.open(lab);
      const { server } = network;
      const before = await network.system();
      const running = await network.run();
      const rules = (): Promise<string> => server.must('nft', ['--stateless', 'list', 'ruleset']);
      const whole = await rules();
      expect(whole).toContain('masquerade');
      const table = /table inet sealaned-\S+/.exec(whole)![0];
      for (const change of ['flush ruleset', `flush ${table}`]) {
        await server.must('nft', change.split(' '));
        await until(`the rules to be back after ${change}`, async () => (await rules()) === whole);
      }
      expect(running.stdout).toContain('somebody changed our nftables table');
      expect(await running.stop()).toBe(0);
      expect(await network.system()).toBe(before);
    },
    TIMEOUT,
  );

  it(
    'is undone by sealaned down when it was killed, which status names, and not while it runs',
    async () => {
      await using lab = await Lab.open();
      const network = await Network.open(lab);
      const { server, state } = network;
      const sealaned = (...words: readonly string[]): ReturnType<Host['run']> =>
        server.run(process.execPath, [SEALANED, ...words, '--state', state]);
      const before = await network.system();
      const running = await network.run();
      const table = `sealaned-${lab.interfaceName('s')}`;
      const refused = await sealaned('down');
      expect(refused.stderr).toBe(
        `sealaned: another sealaned runs on ${state}: stop it first, or use another --state\n`,
      );
      expect(refused.code).toBe(1);
      expect(await network.system()).toContain(table);
      await running.stop('SIGKILL');
      const { stdout } = await sealaned('status');
      expect(stdout).toContain('was killed');
      expect(stdout).toContain(`nftables table inet ${table}`);
      expect(stdout).toContain(`'sealaned down --state ${state}' undoes it`);
      const { left } = JSON.parse((await sealaned('status', '--json')).stdout) as { left: readonly string[] };
      expect(left[0]).toBe(`nftables table inet ${table}`);
      const down = await sealaned('down');
      expect(down.stdout).toBe(`undone: ${left.join(', ')}\n`);
      expect(down.code).toBe(0);
      expect(await network.system()).toBe(before);
      const files = await server.must('ls', [state]);
      for (const file of ['hosting.json', 'control.sock']) expect(files).not.toContain(file);
      expect(JSON.parse((await sealaned('status', '--json')).stdout)).toMatchObject({ running: false, left: [] });
      expect(await sealaned('down')).toMatchObject({ code: 0, stdout: 'nothing to undo\n' });
    },
    TIMEOUT,
  );

  it.each(['--no-forwarding', '--userspace'])(
    'undoes what a killed one left although it is run with %s',
    async (option) => {
      await using lab = await Lab.open();
      const network = await Network.open(lab);
      const { server } = network;
      const before = await network.system();
      await (await network.run()).stop('SIGKILL');
      expect(await network.system()).not.toBe(before);
      const words = ['run', '--state', network.state, '--json', '--listen', '0', option];
      const interfaceName = option === '--userspace' ? [] : ['--interface', lab.interfaceName('s')];
      const second = server.start(process.execPath, [SEALANED, ...words, ...interfaceName]);
      await until(
        'the server to be ready',
        () => second.stdout.includes('"event":"ready"') || second.child.exitCode !== null,
        90_000,
      );
      expect(await second.stop(), second.stderr).toBe(0);
      expect(await network.system()).toBe(before);
      expect(await server.must('ls', [network.state])).not.toContain('hosting.json');
    },
    TIMEOUT,
  );

  it(
    'says what to do where /proc/sys is read-only, and writes nowhere else for what was noted',
    async () => {
      await using lab = await Lab.open();
      const network = await Network.open(lab);
      const { server } = network;
      const before = await network.system();
      const words = ['run', '--state', network.state, '--interface', lab.interfaceName('s')];
      const readOnly = 'mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && exec "$@"';
      const refused = await server.run('unshare', [
        '--mount',
        'bash',
        '-c',
        readOnly,
        'bash',
        process.execPath,
        SEALANED,
        ...words,
      ]);
      expect(refused.stderr).toBe(
        "sealaned: net.ipv4.ip_forward cannot be set to 1 (EROFS): where /proc/sys is read-only, start the container with '--sysctl net.ipv4.ip_forward=1', or set up forwarding yourself and add '--no-forwarding'\n",
      );
      expect(refused.code).toBe(1);
      expect(await network.system()).toBe(before);

      const running = await network.run();
      const record = join(network.state, 'hosting.json');
      const [noted] = JSON.parse(readFileSync(record, 'utf8')) as [{ settings: unknown }];
      await running.stop();
      const other = await lab.file('other', 'mine');
      await writeFile(record, JSON.stringify([{ ...noted, settings: [[`ipv4/conf/../../../../..${other}`, '1']] }]), {
        mode: 0o600,
      });
      const strange = network.start([]);
      expect(await strange.exit).toBe(1);
      expect(strange.stdout + strange.stderr).toContain(
        `${record} is not what sealaned writes: look at it and remove it`,
      );
      expect(readFileSync(other, 'utf8')).toBe('mine');
    },
    TIMEOUT,
  );
});
