/** Tunnels on several threads: no counter is used twice, no packet accepted twice, and what is configured holds on every lane. */
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { iperf, iperfServer } from '../support/iperf.ts';
import { Lab, until } from '../support/lab.ts';
import type { Host } from '../support/lab.ts';
import { firewall, sendAllTwice } from '../support/packets.ts';
import { control, INNER, missingFor, OUTER, ping, wireguardPair } from '../support/wireguard.ts';
import type { Implementation, Pair, WireguardDevice } from '../support/wireguard.ts';

const LANES = 4;
const FLAGS = ['--lanes', String(LANES)];
const RELAY = fileURLToPath(new URL('../support/relay.mjs', import.meta.url));
const RELAY_PORT = 51_900;
const REFUSE_STEERING = new URL('../support/refuse-steering.mjs', import.meta.url).href;
const PAIRS: readonly (readonly [Implementation, Implementation])[] = [
  ['sealane', 'sealane'],
  ['sealane', 'wireguard-go'],
  ['wireguard-go', 'sealane'],
];

/** What iperf3 sends; the kernel chooses a lane for each flow, by what it heard of it or by its addresses and ports. */
interface Flows {
  readonly name: string;
  readonly args: readonly string[];
  /** Lanes that send at least. */
  readonly least: number;
}

const FLOWS: readonly Flows[] = [
  { name: '24 TCP flows', args: ['-P', '12'], least: LANES },
  { name: '32 UDP flows', args: ['-u', '-P', '16', '-b', '3M', '-l', '1200'], least: 2 },
];

const FLOODS = [
  { name: 'TCP', args: ['-P', '20'], share: 0.5 },
  // Nothing slows UDP down: what finds no room is lost.
  { name: 'UDP', args: ['-u', '-P', '16', '-b', '4M', '-l', '1200'], share: 0.1 },
] as const;

interface Status {
  readonly lane: string;
  /** With several lanes. */
  readonly lanes: readonly { readonly received: number; readonly sent: number; readonly handedOver: number }[];
  readonly notes: readonly string[];
  readonly drops: Readonly<Record<string, number>>;
  readonly faults: Readonly<Record<string, number>>;
  readonly peers: readonly { readonly rxBytes: number; readonly txBytes: number; readonly sessions: number }[];
}

async function statusOf(device: WireguardDevice): Promise<Status> {
  const answer = await control(device.socketPath, ['status=1\n\n']);
  return JSON.parse(/^json=(.*)$/m.exec(answer)![1]!) as Status;
}

const ours = ({ a, b }: Pair): readonly WireguardDevice[] => [a, b].filter((device) => device.lane !== undefined);

/** Renews the sessions from these ends again and again while there is traffic; resolves to how often. */
async function renewWhile(devices: readonly WireguardDevice[], traffic: Promise<unknown>): Promise<number> {
  const running = { yes: true };
  void traffic.finally(() => (running.yes = false)).catch(() => undefined);
  let renewals = 0;
  while (running.yes) {
    for (const device of devices) await control(device.socketPath, ['rekey=all\n\n']);
    renewals += 1;
    await sleep(400);
  }
  await traffic;
  return renewals;
}

/** iperf3 opens each UDP flow by a datagram that it does not repeat, and handshakes that cross may lose one: they come later. */
async function untilBusy(device: WireguardDevice, traffic: Promise<unknown>): Promise<void> {
  await Promise.race([traffic, until('traffic', async () => (await device.transfer()).tx > 1e6, 60_000)]);
}

/** Datagrams that left a host by UDP sockets. */
async function datagramsSent(host: Host): Promise<number> {
  const { stdout } = await host.run('cat', ['/proc/net/snmp']);
  const [names, values] = stdout.split('\n').filter((line) => line.startsWith('Udp: '));
  return Number(values!.split(' ')[names!.split(' ').indexOf('OutDatagrams')]);
}

describe.for(PAIRS)('%s begins, %s answers', (implementations) => {
  const reason = missingFor(implementations, 'ping', 'nft', 'iperf3');

  it.for(FLOWS)(
    'uses no counter twice in $name both ways and through renewals',
    { timeout: 120_000 },
    async ({ args, least }, { skip }) => {
      if (reason !== undefined) skip(reason);
      await using lab = await Lab.open();
      const pair = await wireguardPair(lab, implementations, { flags: FLAGS });
      const { a, b, bKeys } = pair;
      const relay = a.host.start('node', [RELAY, String(RELAY_PORT), OUTER.b4, '51002']);
      await until('the relay', () => relay.stdout.startsWith('ready'));
      await a.wg('set', a.name, 'peer', bKeys.publicKey, 'endpoint', `127.0.0.1:${RELAY_PORT}`);
      expect((await ping(a.host, INNER.b4, { count: 3 })).received).toBe(3);
      await iperfServer(b.host);
      const flows = iperf(a.host, INNER.b4, [...args, '--bidir', '-t', '6']);
      await untilBusy(a, flows);
      expect(await renewWhile(ours(pair), flows)).toBeGreaterThan(2);
      const { sum_received, sum_received_bidir_reverse } = (await flows).end;
      for (const received of [sum_received, sum_received_bidir_reverse!]) expect(received.bytes).toBeGreaterThan(1e5);
      for (const device of ours(pair)) {
        const { lanes, peers, drops } = await statusOf(device);
        expect(lanes).toHaveLength(LANES);
        expect(lanes.filter(({ sent }) => sent > 0).length).toBeGreaterThanOrEqual(least);
        expect(peers[0]!.sessions).toBeGreaterThan(2);
        expect(drops['bad-tag']).toBe(0);
      }
      await relay.stop();
      const counts = JSON.parse(relay.stdout.split('\n')[1]!) as { data: number; repeated: number; sessions: number };
      expect(counts.repeated).toBe(0);
      expect(counts.data).toBeGreaterThan(2_000);
      expect(counts.sessions).toBeGreaterThan(5);
    },
  );

  it.for(FLOODS)(
    'accepts no packet of $name twice when every datagram comes twice, through renewals',
    { timeout: 120_000 },
    async (flood, { skip }) => {
      if (reason !== undefined) skip(reason);
      await using lab = await Lab.open();
      const pair = await wireguardPair(lab, implementations, { flags: FLAGS });
      const { a, b } = pair;
      await sendAllTwice(pair, implementations);
      const pings = await ping(a.host, INNER.b4, { count: 50, interval: 0.02 });
      expect(pings).toEqual({ sent: 50, received: 50, duplicates: 0 });
      await iperfServer(b.host);
      const flows = iperf(a.host, INNER.b4, [...flood.args, '--bidir', '-t', '5']);
      await untilBusy(a, flows);
      await renewWhile(ours(pair), flows);
      await sleep(500);
      const [sentByA, sentByB] = [await a.transfer(), await b.transfer()];
      expect(sentByB.rx).toBeLessThanOrEqual(sentByA.tx);
      expect(sentByA.rx).toBeLessThanOrEqual(sentByB.tx);
      expect(sentByB.rx).toBeGreaterThan(sentByA.tx * flood.share);
      for (const device of ours(pair)) {
        const { drops, lanes } = await statusOf(device);
        const received = lanes.reduce((sum, lane) => sum + lane.received, 0);
        expect(drops['replay']).toBeGreaterThan(received / 4);
        expect(drops['bad-tag']).toBe(0);
      }
    },
  );
});

it('loses no ping when sessions are renewed, on any lane', async ({ skip }) => {
  const reason = missingFor(['sealane'], 'ping');
  if (reason !== undefined) skip(reason);
  await using lab = await Lab.open();
  const pair = await wireguardPair(lab, ['sealane', 'sealane'], { flags: FLAGS });
  const pings = ping(pair.a.host, INNER.b4, { count: 1_500, interval: 0.005 });
  expect(await renewWhile([pair.a], pings)).toBeGreaterThan(10);
  expect(await pings).toEqual({ sent: 1_500, received: 1_500, duplicates: 0 });
  // Sessions are divided by their random indexes: that one lane had all of so many does not happen.
  const { lanes } = await statusOf(pair.b);
  expect(lanes.filter((lane) => lane.received > 20).length).toBeGreaterThan(1);
  // Each datagram comes in on the lane that opens it.
  expect(lanes.reduce((sum, lane) => sum + lane.handedOver, 0)).toBeLessThan(150);
}, 60_000);

it('begins handshakes with a dead peer no more often than every five seconds, whichever lanes have packets for it', async ({
  skip,
}) => {
  const reason = missingFor(['sealane'], 'ping');
  if (reason !== undefined) skip(reason);
  await using lab = await Lab.open();
  const { a, b } = await wireguardPair(lab, ['sealane', 'sealane'], { flags: FLAGS });
  await b.process.stop('SIGKILL');
  const before = await datagramsSent(a.host);
  const begun = Date.now();
  // Each flow is another lane's; lane 0 has nothing of its own to do meanwhile.
  for (let i = 0; i < 16; i++) {
    await ping(a.host, INNER.b4, { count: 1, extra: ['-W', '0.1', '-e', String(1_000 + i)] });
    await sleep(700);
  }
  const initiations = (await datagramsSent(a.host)) - before;
  expect(initiations).toBeGreaterThan(0);
  expect(initiations).toBeLessThanOrEqual(1 + (Date.now() - begun) / 5_000);
}, 60_000);

it('is served by one lane, and says so once, where the kernel refuses to steer sockets', async ({ skip }) => {
  const reason = missingFor(['sealane'], 'ping', 'iperf3');
  if (reason !== undefined) skip(reason);
  await using lab = await Lab.open();
  const pair = await wireguardPair(lab, ['sealane', 'sealane'], {
    flags: FLAGS,
    nodeFlags: ['--import', REFUSE_STEERING],
  });
  await iperfServer(pair.b.host);
  const report = await iperf(pair.a.host, INNER.b4, ['-P', '8', '-n', '16M']);
  expect(report.end.sum_received.bytes).toBeGreaterThan(4e6);
  for (const device of [pair.a, pair.b]) {
    const status = await statusOf(device);
    expect(status.lane).toBe('linux');
    expect(status).not.toHaveProperty('lanes');
    expect(status.notes).toEqual(['This kernel cannot steer a group of sockets (older than 4.5): one lane serves.']);
  }
  await pair.a.wg('set', pair.a.name, 'listen-port', '51111');
  expect((await ping(pair.a.host, INNER.b4)).received).toBe(5);
}, 60_000);

it('follows roaming and configuration on every lane, under traffic', async ({ skip }) => {
  const reason = missingFor(['sealane'], 'ping', 'iperf3', 'nft');
  if (reason !== undefined) skip(reason);
  await using lab = await Lab.open();
  const { a, b, bKeys, aKeys } = await wireguardPair(lab, ['sealane', 'sealane'], { flags: FLAGS });
  expect((await ping(a.host, INNER.b4, { count: 2 })).received).toBe(2);
  await iperfServer(b.host);
  // Its own end matters less than what goes on meanwhile: on a busy machine it may give up.
  const traffic = a.host.run('iperf3', ['-c', INNER.b4, '-P', '20', '--bidir', '-t', '10']);
  await until('traffic', async () => (await statusOf(a)).lanes.filter(({ sent }) => sent > 100).length > 1);
  // TCP may have to wait before it repeats what a move lost; the other end can only follow what is sent.
  const pinging = a.host.start('ping', ['-q', '-i', '0.02', INNER.b4]);

  // The one moves, the other follows with all of its lanes.
  for (const port of [51_101, 51_102, 51_101, 51_103]) {
    await a.wg('set', a.name, 'listen-port', String(port));
    await until('the other end to follow', async () => (await b.endpoint()) === `${OUTER.a4}:${port}`, 30_000);
  }
  await pinging.stop();
  // Datagrams without the mark do not get out: a mark that a lane has not taken on would stop its flows.
  await a.wg('set', a.name, 'fwmark', '0x77');
  await firewall(
    a.host,
    `table ip marked {
      counter unmarked {}
      chain out { type filter hook output priority 0
        ip daddr ${OUTER.b4} udp dport 51002 meta mark != 0x77 counter name unmarked drop
      }
    }`,
  );
  await sleep(1_000);
  expect(await a.host.must('nft', ['list', 'counter', 'ip', 'marked', 'unmarked'])).toContain('packets 0');
  await a.setMtu(1_300);
  await b.setMtu(1_300);
  await traffic;
  expect((await ping(a.host, INNER.b4, { count: 20, size: 1_272 })).received).toBe(20);
  expect((await ping(b.host, INNER.a6, { count: 20 })).received).toBe(20);

  await a.host.must('ip', ['link', 'set', a.name, 'down']);
  expect((await ping(b.host, INNER.a4, { count: 1, extra: ['-w', '1'] })).received).toBe(0);
  await a.host.must('ip', ['link', 'set', a.name, 'up']);
  await a.host.must('ip', ['addr', 'add', `${INNER.a6}/64`, 'dev', a.name, 'nodad']);
  await until('the way back', async () => (await ping(a.host, INNER.b4, { count: 1 })).received === 1);
  expect((await ping(a.host, INNER.b6, { count: 20 })).received).toBe(20);

  // From the answer on, nothing goes to a peer that was removed, although programs go on sending.
  void a.host.run('iperf3', ['-c', INNER.b4, '-P', '20', '-t', '6']);
  await until('traffic', async () => (await statusOf(a)).lanes.every(({ sent }) => sent > 100));
  await a.wg('set', a.name, 'peer', bKeys.publicKey, 'remove');
  const left = await datagramsSent(a.host);
  await sleep(1_000);
  expect(await datagramsSent(a.host)).toBe(left);
  await a.wg(
    'set',
    a.name,
    'peer',
    bKeys.publicKey,
    'endpoint',
    `${OUTER.b4}:51002`,
    'allowed-ips',
    `${INNER.b4}/32,${INNER.b6}/128`,
  );
  expect((await ping(a.host, INNER.b4, { count: 20 })).received).toBe(20);
  expect((await b.transfer(aKeys.publicKey)).rx).toBeGreaterThan(0);
}, 180_000);
