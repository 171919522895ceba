/** How a device begins and ends: signals, deletion, a second start, death without warning, and silence while it is down. */
import { existsSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { Lab, until } from '../support/lab.ts';
import { counter, firewall } from '../support/packets.ts';
import {
  INNER,
  keyPair,
  missingFor,
  OUTER,
  PAIRS,
  ping,
  WireguardDevice,
  wireguardPair,
} from '../support/wireguard.ts';
import type { Implementation } from '../support/wireguard.ts';

const OURS: readonly Implementation[] = ['sealane', 'sealane portable'];
/** The side under test comes last. */
const ANSWERED_BY_OURS: readonly (readonly [Implementation, Implementation])[] = [
  ['wireguard-go', 'sealane'],
  ['sealane', 'sealane portable'],
];
const FOR_OTHERS = 0o077;

describe.for(OURS)('%s alone', (implementation) => {
  const reason = missingFor([implementation]);

  it('keeps its socket to itself and is refused a name that lives', async ({ skip }) => {
    if (reason !== undefined) skip(reason);
    await using lab = await Lab.open();
    const host = await lab.host('a');
    const device = await WireguardDevice.open(lab, host, implementation, 'a');
    expect((await stat(device.socketPath)).mode & FOR_OTHERS).toBe(0);
    await expect(WireguardDevice.open(lab, host, implementation, 'a')).rejects.toThrow('is in use');
    // In another namespace the interface's name is free, but the control socket's is not.
    await expect(WireguardDevice.open(lab, await lab.host('b'), implementation, 'a')).rejects.toThrow('is in use');
    await device.wg('set', device.name, 'private-key', await lab.file('key', (await keyPair()).privateKey));
    await host.must('ip', ['link', 'show', device.name]);

    expect(await device.process.stop('SIGTERM')).toBe(0);
    expect(existsSync(device.socketPath)).toBe(false);
    expect((await host.run('ip', ['link', 'show', device.name])).code).toBe(1);
  });

  it('ends with its socket when its link is deleted, configured and up', async ({ skip }) => {
    if (reason !== undefined) skip(reason);
    await using lab = await Lab.open();
    const { a } = await wireguardPair(lab, [implementation, implementation]);
    expect((await ping(a.host, INNER.b4, { count: 1 })).received).toBe(1);
    await a.host.must('ip', ['link', 'del', a.name]);
    await until('the process to end', () => a.process.child.exitCode !== null, 5_000);
    expect(await a.process.exit).toBe(0);
    expect(existsSync(a.socketPath)).toBe(false);
  });

  it('starts again on the name of one that was killed', async ({ skip }) => {
    if (reason !== undefined) skip(reason);
    await using lab = await Lab.open();
    const host = await lab.host('a');
    for (let round = 0; round < 3; round++) {
      const device = await WireguardDevice.open(lab, host, implementation, 'a');
      await device.wg('set', device.name, 'private-key', await lab.file('key', (await keyPair()).privateKey));
      await host.must('ip', ['link', 'set', 'up', 'dev', device.name]);
      await device.process.stop('SIGKILL');
      expect(existsSync(device.socketPath)).toBe(true);
    }
    const last = await WireguardDevice.open(lab, host, implementation, 'a');
    expect(await last.process.stop()).toBe(0);
    expect(existsSync(last.socketPath)).toBe(false);
  });
});

it('loses no packet that waits when it hears that its link is up', async ({ skip }) => {
  const reason = missingFor(['sealane'], 'ping');
  if (reason !== undefined) skip(reason);
  await using lab = await Lab.open();
  const { a } = await wireguardPair(lab, ['sealane', 'sealane']);
  if (a.lane !== 'linux') skip('needs the Linux lane');
  expect((await ping(a.host, INNER.b4, { count: 1 })).received).toBe(1);
  const listens = async (): Promise<boolean> => (await a.host.must('ss', ['-Hlun', 'sport', '=', ':51001'])) !== '';
  const sent = async (): Promise<string> => {
    const lines = (await a.host.must('cat', ['/proc/net/snmp']))
      .split('\n')
      .filter((line) => line.startsWith('Icmp: '));
    const [names, values] = lines.map((line) => line.split(' '));
    return values![names!.indexOf('OutEchos')]!;
  };
  await a.host.must('ip', ['link', 'set', 'down', 'dev', a.name]);
  await until('its sockets to close', async () => !(await listens()));
  // The news and the packet are there when it looks.
  a.process.child.kill('SIGSTOP');
  await a.host.must('ip', ['link', 'set', 'up', 'dev', a.name]);
  const before = await sent();
  const traffic = a.host.run('ping', ['-n', '-c', '1', '-W', '20', INNER.b4]);
  await until('the ping to be sent', async () => (await sent()) !== before);
  a.process.child.kill('SIGCONT');
  expect((await traffic).stdout).toContain(' 1 received');
});

describe.for(ANSWERED_BY_OURS)('%s begins, %s answers', (implementations) => {
  const reason = missingFor(implementations, 'ping', 'nft');

  it('is silent while its link is down, and back when it is up', async ({ skip }) => {
    if (reason !== undefined) skip(reason);
    await using lab = await Lab.open();
    const { a, b, aKeys } = await wireguardPair(lab, implementations, { bothEndpoints: true });
    expect((await ping(a.host, INNER.b4, { count: 2 })).received).toBe(2);
    await b.wg('set', b.name, 'peer', aKeys.publicKey, 'persistent-keepalive', '1');
    await b.host.must('ip', ['link', 'set', 'down', 'dev', b.name]);
    await until('its socket to be closed', async () => !(await listens(b, 51_002)));
    await firewall(
      b.host,
      `table inet lab {
        counter heard {}
        counter said {}
        chain in { type filter hook input priority 0
          udp dport 51002 counter name heard
        }
        chain out { type filter hook output priority 0
          udp sport 51002 counter name said
        }
      }`,
    );
    expect((await ping(a.host, INNER.b4, { count: 5, interval: 0.2, extra: ['-W', '1'] })).received).toBe(0);
    // A new session is asked for in vain, too, and keepalives are due.
    await a.wg('set', a.name, 'private-key', await lab.file('again.key', aKeys.privateKey));
    await ping(a.host, INNER.b4, { count: 1, extra: ['-W', '1'] });
    await sleep(1_500);
    expect((await counter(b.host, 'heard')).packets).toBeGreaterThanOrEqual(5);
    expect((await counter(b.host, 'said')).packets).toBe(0);
    await b.host.must('ip', ['link', 'set', 'up', 'dev', b.name]);
    await b.host.must('ip', ['addr', 'replace', `${INNER.b6}/64`, 'dev', b.name, 'nodad']);
    await until(
      'both to be connected',
      async () => (await ping(b.host, INNER.a4, { count: 1 })).received === 1,
      30_000,
    );
    expect((await counter(b.host, 'said')).packets).toBeGreaterThan(0);
  });

  it('is back at once after kill -9 when it knows where its peer was', async ({ skip }) => {
    if (reason !== undefined) skip(reason);
    await using lab = await Lab.open();
    const { a, b, aKeys, bKeys } = await wireguardPair(lab, implementations);
    expect((await ping(a.host, INNER.b4, { count: 3 })).received).toBe(3);
    await b.process.stop('SIGKILL');
    const again = await WireguardDevice.start(lab, b.host, implementations[1], 'b', {
      keys: bKeys,
      port: 51_002,
      addresses: [`${INNER.b4}/24`, `${INNER.b6}/64`],
      peers: [
        {
          publicKey: aKeys.publicKey,
          allowedIps: [`${INNER.a4}/32`, `${INNER.a6}/128`],
          endpoint: `${OUTER.a4}:51001`,
          keepalive: 25,
        },
      ],
    });
    // Without it the initiator notices only 15 s after its first unanswered packet: 75 of these pings.
    expect((await ping(a.host, INNER.b4, { count: 20, interval: 0.2 })).received).toBeGreaterThanOrEqual(15);
    expect(await again.latestHandshake()).toBeGreaterThan(0);
  });
});

describe.for(PAIRS)('%s begins, %s answers', (implementations) => {
  it('begins at once after kill -9', async ({ skip }) => {
    const reason = missingFor(implementations, 'ping');
    if (reason !== undefined) skip(reason);
    await using lab = await Lab.open();
    const { a, b, aKeys, bKeys } = await wireguardPair(lab, implementations);
    expect((await ping(a.host, INNER.b4, { count: 3 })).received).toBe(3);
    await a.process.stop('SIGKILL');
    await WireguardDevice.start(lab, a.host, implementations[0], 'a', {
      keys: aKeys,
      port: 51_001,
      addresses: [`${INNER.a4}/24`, `${INNER.a6}/64`],
      peers: [
        {
          publicKey: bKeys.publicKey,
          endpoint: `${OUTER.b4}:51002`,
          allowedIps: [`${INNER.b4}/32`, `${INNER.b6}/128`],
        },
      ],
    });
    // The first packet waits for the handshake and is not lost; the link's coming up may take the lane a moment to see.
    expect((await ping(a.host, INNER.b4, { count: 10, interval: 0.2 })).received).toBeGreaterThanOrEqual(6);
    expect((await ping(b.host, INNER.a6, { count: 3 })).received).toBe(3);
  });
});

async function listens(device: WireguardDevice, port: number): Promise<boolean> {
  return (await device.host.must('ss', ['-Hlun', 'sport', '=', String(port)])).trim() !== '';
}
