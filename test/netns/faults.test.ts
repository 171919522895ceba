/** What a system does to a tunnel: routes that refuse trains, links that go, trains with bad datagrams, a thread that dies. */
import { existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { configureDevice, startServerIn } from '../proxy/namespaced.ts';
import { missingPrograms } from '../proxy/rootless.ts';
import { iperf, iperfServer } from '../support/iperf.ts';
import { Lab, until } from '../support/lab.ts';
import { processorShare, statusOf } from '../support/load.ts';
import { INNER, missingFor, OUTER, ping, socketPath, WireguardDevice, wireguardPair } from '../support/wireguard.ts';

const PEER = fileURLToPath(new URL('../netstack/peer.mjs', import.meta.url));
const ECHOES = fileURLToPath(new URL('../proxy/udp-echoes.mjs', import.meta.url));
const TRAIN_RELAY = fileURLToPath(new URL('../support/train-relay.mjs', import.meta.url));
const END_THREAD = fileURLToPath(new URL('../support/end-thread.mjs', import.meta.url));
const SEALANE = fileURLToPath(new URL('../../packages/client/bin/sealane.js', import.meta.url));
const RELAY_PORT = 51_900;

interface Fault {
  readonly name: string;
  readonly begin: string;
  readonly end: string;
  readonly counted: readonly string[];
}

interface Thread {
  readonly which: string;
  readonly lanes: number;
  readonly title: string;
}

describe('the Linux lane', () => {
  const reason = missingFor(['sealane'], 'ping', 'iperf3');

  it.for([4, 6] as const)('sends datagrams one by one where an IPv%i route refuses trains', async (outer, { skip }) => {
    if (reason !== undefined) skip(reason);
    await using lab = await Lab.open();
    const { a, b } = await wireguardPair(lab, ['sealane', 'sealane'], { outer });
    if (a.lane !== 'linux') skip('needs the Linux lane');
    // A segment longer than the route's MTU is refused (udp(7): EINVAL), while a single datagram is fragmented.
    const target = outer === 4 ? `${OUTER.b4}/32` : `${OUTER.b6}/128`;
    await a.host.must('ip', ['route', 'add', target, 'dev', 'va', 'mtu', '1300']);
    await iperfServer(b.host);
    const report = await iperf(a.host, INNER.b4, ['-n', '4M']);
    // The client ends when it has written: up to a socket's buffer is still on the way then.
    expect(report.end.sum_received.bytes).toBeGreaterThan(1e6);
    const note = 'A route refuses trains of datagrams: they are sent one by one there.';
    expect((await statusOf(a)).notes).toContain(note);
    await until('the log to say so', () => a.process.stderr.includes(note));
    expect((await ping(a.host, INNER.b6, { size: 1372 })).received).toBe(5);
  });

  it('says so in the log of a userspace server too', async ({ skip }) => {
    const lacking = reason ?? missingPrograms();
    if (lacking !== undefined) skip(lacking);
    await using lab = await Lab.open();
    const [client, host] = [await lab.host('client'), await lab.host('server')];
    await lab.join(client, 'vc', ['192.168.77.1/24'], host, 'vs', ['192.168.77.2/24']);
    await host.must('ip', ['route', 'add', '192.168.77.1/32', 'dev', 'vs', 'mtu', '1300']);
    await host.must('ip', ['addr', 'add', '10.98.0.1/32', 'dev', 'vs']);
    const echo = host.start('node', [PEER, JSON.stringify({ role: 'udpEcho', host: '10.98.0.1', port: 53 })]);
    await until('the echo to listen', () => echo.stdout.includes('ready'));
    const { process: server, peer } = await startServerIn(lab, host, {
      address: '192.168.77.2',
      pool: '10.77.0.0/24',
      allowedIps: '10.0.0.0/8',
    });
    const device = await WireguardDevice.open(lab, client, 'sealane', 'c');
    await configureDevice(lab, client, device.name, peer, 1_420);
    await client.must('ip', ['route', 'add', '10.0.0.0/8', 'dev', device.name]);
    // Larger than a packet: what comes back is a row of fragments, which leave as one train.
    const sizes = Array.from({ length: 20 }, () => 9_000);
    const echoed = await client.must('node', [ECHOES, JSON.stringify({ host: '10.98.0.1', port: 53, sizes })]);
    expect(JSON.parse(echoed)).toEqual(sizes);
    const text = 'A route refuses trains of datagrams: they are sent one by one there.';
    await until('the log to say so', () => server.stdout.includes(text));
    expect(server.stdout.split(text)).toHaveLength(2);
  });

  it('does not take a route that refuses everything for one that refuses trains', async ({ skip }) => {
    if (reason !== undefined) skip(reason);
    await using lab = await Lab.open();
    const { a, b } = await wireguardPair(lab, ['sealane', 'sealane']);
    if (a.lane !== 'linux') skip('needs the Linux lane');
    await iperfServer(b.host);
    const traffic = a.host.start('iperf3', ['-c', INNER.b4, '-P', '8', '-t', '60']);
    await until('traffic', async () => (await a.transfer()).tx > 1e6);
    await a.host.must('ip', ['route', 'add', 'blackhole', OUTER.b4]);
    await until('trains to be refused', async () => ((await statusOf(a)).faults['send-failed EINVAL'] ?? 0) > 8);
    await traffic.stop('SIGKILL');
    await a.host.must('ip', ['route', 'del', 'blackhole', OUTER.b4]);
    await until('the tunnel to carry again', async () => (await ping(a.host, INNER.b4)).received === 5, 40_000);
    expect((await statusOf(a)).notes).toEqual([]);
  });

  it('opens what is good of a train with a forged or a shortened datagram', async ({ skip }) => {
    if (reason !== undefined) skip(reason);
    await using lab = await Lab.open();
    const { a, b, bKeys } = await wireguardPair(lab, ['sealane', 'sealane']);
    if (a.lane !== 'linux') skip('needs the Linux lane');
    const relay = b.host.start('node', [TRAIN_RELAY, String(RELAY_PORT), '127.0.0.1', '51002']);
    await until('the relay to be ready', () => relay.stdout.includes('ready'));
    await a.wg('set', a.name, 'peer', bKeys.publicKey, 'endpoint', `${OUTER.b4}:${RELAY_PORT}`);
    await iperfServer(b.host);
    const report = await iperf(a.host, INNER.b4, ['-n', '24M', '-P', '4']);
    expect(report.end.sum_received.bytes).toBeGreaterThan(10e6);
    expect((await ping(a.host, INNER.b4)).received).toBe(5);
    await relay.stop();
    const counts = JSON.parse(relay.stdout.split('\n')[1]!) as Record<string, number>;
    expect(counts['forged']).toBeGreaterThan(5);
    expect(counts['shortened']).toBeGreaterThan(5);
    const drops = [(await statusOf(a)).drops, (await statusOf(b)).drops];
    const bad = drops.reduce((sum, of) => sum + of['bad-tag']!, 0);
    // One datagram each and no more; a train may have been cut and forged at once.
    expect(bad).toBeGreaterThan(5);
    expect(bad).toBeLessThanOrEqual(counts['forged']! + counts['shortened']!);
  });

  const FAULTS: readonly Fault[] = [
    {
      name: 'its link is down',
      begin: 'link set va down',
      end: 'link set va up',
      counted: ['send-failed ENETUNREACH'],
    },
    {
      name: 'its route is gone',
      begin: 'route del 192.168.77.0/24 dev va',
      end: `route add 192.168.77.0/24 dev va src ${OUTER.a4}`,
      counted: ['send-failed ENETUNREACH'],
    },
    {
      name: 'its route refuses',
      begin: `route add prohibit ${OUTER.b4}`,
      end: `route del prohibit ${OUTER.b4}`,
      counted: ['send-failed EACCES'],
    },
    {
      name: 'nobody is at the other end',
      begin: `neigh replace ${OUTER.b4} lladdr 02:00:00:00:00:01 dev va`,
      end: `neigh del ${OUTER.b4} dev va`,
      counted: [],
    },
  ];
  it.for(FAULTS)('counts, rests and goes on when $name', async ({ begin, end, counted }, { skip }) => {
    if (reason !== undefined) skip(reason);
    await using lab = await Lab.open();
    const { a } = await wireguardPair(lab, ['sealane', 'sealane']);
    if (a.lane !== 'linux') skip('needs the Linux lane');
    expect((await ping(a.host, INNER.b4)).received).toBe(5);
    const pid = a.process.child.pid!;
    await a.host.must('ip', begin.split(' '));
    const used = await processorShare(pid, () =>
      ping(a.host, INNER.b4, { count: 20, interval: 0.2, extra: ['-w', '5'] }),
    );
    // Whatever lasts for 4 s must not keep a core busy.
    expect(used).toBeLessThan(0.05);
    const { faults } = await statusOf(a);
    expect(Object.keys(faults).filter((fault) => fault.startsWith('send-failed'))).toEqual(counted);
    await a.host.must('ip', end.split(' '));
    await until(
      'the tunnel to carry again',
      async () => (await ping(a.host, INNER.b4, { count: 2 })).received === 2,
      40_000,
    );
    expect(a.process.child.exitCode).toBeNull();
  });

  const THREADS: readonly Thread[] = [
    { which: 'the packet thread', lanes: 1, title: '' },
    { which: 'packet thread 0', lanes: 3, title: ' 0' },
    { which: 'packet thread 2', lanes: 3, title: ' 2' },
  ];
  it.for(THREADS)(
    'ends with a clear error when $which of $lanes dies',
    { timeout: 90_000 },
    async (thread, { skip }) => {
      const { which, lanes, title } = thread;
      if (reason !== undefined) skip(reason);
      await using lab = await Lab.open();
      const host = await lab.host('a');
      const name = lab.interfaceName('a');
      const device = host.start('node', ['--inspect=127.0.0.1:0', SEALANE, 'device', name, '--lanes', String(lanes)]);
      await until('the device to be ready', () => device.stderr.includes('is ready'), 45_000);
      if (!device.stderr.includes('lane linux')) skip('needs the Linux lane');
      // The program started itself anew with less privilege: the last one listens.
      const url = [...device.stderr.matchAll(/ws:\S+/g)].at(-1)![0];
      const debuggers = host.run('node', [END_THREAD, url, `${name}${title}`]);
      // A thread hears of it when something wakes it.
      let ended = false;
      void device.exit.then(() => (ended = true));
      for (let mark = 1; !ended; mark++) {
        await host.run('wg', ['set', name, 'fwmark', String(mark)]);
        await sleep(50);
      }
      expect((await debuggers).stdout).toBe('1\n');
      expect(await device.exit).toBe(1);
      expect(device.stderr).toContain(`sealane: ${name} ended: ${which} ended`);
      expect(existsSync(socketPath(name))).toBe(false);
      expect(await host.must('ip', ['link'])).not.toContain(name);
    },
  );
});
