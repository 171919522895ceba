/**
 * What the system refuses, by every call of the data path: counted under its name, shown by status, without a busy loop, and over
 * when its cause is. What no namespace provokes on a current kernel is refused by strace, at the system call itself: Linux keeps
 * ENOBUFS of a full queue from UDP sockets (udp_send_skb, without IP_RECVERR), answers ENETDOWN only in a race, since a link that
 * goes down takes its routes along, and finds nothing wrong (EINVAL) with a header that the lane wrote.
 */
import { describe, expect, it } from 'vitest';
import { Lab, until, type Host, type Running } from '../support/lab.ts';
import { processorShare, statusOf } from '../support/load.ts';
import { INNER, missingFor, OUTER, ping, wireguardPair, type Pair } from '../support/wireguard.ts';

const reason = missingFor(['sealane'], 'ping', 'tc');
/** What lasts must not keep a core busy. */
const MOST_PROCESSOR = 0.05;
/** Of 20 echo requests, as a busy machine may not send all in time. */
const LEAST = 10;

/** Echo requests from `from`, slow enough to cost nothing by themselves, as nobody answers. */
function slowPings(from: Host, target: string, size = 56): Promise<unknown> {
  return ping(from, target, { count: 20, interval: 0.2, size, extra: ['-w', '5'] });
}

async function carriesAgain(from: Host, target: string): Promise<void> {
  await until('the tunnel to carry again', async () => (await ping(from, target, { count: 2 })).received === 2, 40_000);
}

/** The faults of that call. */
async function faultsOf({ a }: Pair, call: string): Promise<Readonly<Record<string, number>>> {
  const { faults } = await statusOf(a);
  return Object.fromEntries(Object.entries(faults).filter(([name]) => name.startsWith(call)));
}

/** The calls of `a` fail with this error until the tracer ends; `skip` is told where nobody may trace. */
async function refuse({ a }: Pair, { calls, error, path }: Injection, skip: (why: string) => never): Promise<Running> {
  const { pid } = a.process.child;
  const only = path === undefined ? [] : ['-P', path];
  const inject = ['-e', `trace=${calls}`, '-e', `inject=${calls}:error=${error}`];
  const tracer = a.host.start('strace', ['-f', '-q', '-o', '/dev/null', ...only, ...inject, '-p', String(pid)]);
  let ended = false;
  void tracer.exit.then(() => (ended = true));
  // Every thread is stopped once as it is seized; the first refusal shows that all of it works.
  const refused = async (): Promise<boolean> => {
    await ping(a.host, INNER.b4, { count: 1, extra: ['-w', '1'] });
    return Object.keys((await statusOf(a)).faults).some((name) => name.endsWith(error));
  };
  await until(`${calls} to be refused`, async () => ended || (await refused()), 30_000);
  return ended ? skip(`strace: ${tracer.stderr.trim()}`) : tracer;
}

interface Injection {
  readonly error: string;
  /** What the lane names the fault after. */
  readonly call: string;
  readonly calls: string;
  /** Only calls on this file. */
  readonly path?: string;
}

/** Datagrams that the kernel took from a socket and had no room for. */
async function unsentDatagrams(host: Host): Promise<number> {
  const lines = (await host.must('cat', ['/proc/net/snmp'])).split('\n').filter((line) => line.startsWith('Udp: '));
  const [names, values] = lines.map((line) => line.split(' '));
  return Number(values![names!.indexOf('SndbufErrors')]);
}

interface Refusal {
  readonly name: string;
  readonly begin: string;
  readonly end: string;
  readonly counted: readonly string[];
}

const REFUSALS: readonly Refusal[] = [
  {
    name: 'its route swallows everything',
    begin: `ip route add blackhole ${OUTER.b4}`,
    end: `ip route del blackhole ${OUTER.b4}`,
    counted: ['send-failed EINVAL'],
  },
  {
    name: 'the queue of its link is full',
    begin: 'tc qdisc add dev va root tbf rate 8bit burst 10 limit 10',
    end: 'tc qdisc del dev va root',
    counted: [],
  },
];

describe.skipIf(reason !== undefined)(`the Linux lane (${reason ?? 'between two namespaces'})`, () => {
  it.for(REFUSALS)('counts, rests and goes on when $name', async ({ begin, end, counted }, { skip }) => {
    await using lab = await Lab.open();
    const pair = await wireguardPair(lab, ['sealane', 'sealane']);
    const { a } = pair;
    if (a.lane !== 'linux') skip('needs the Linux lane');
    expect((await ping(a.host, INNER.b4)).received).toBe(5);
    const run = (command: string): Promise<string> => {
      const [program, ...args] = command.split(' ');
      return a.host.must(program!, args);
    };
    await run(begin);
    const used = await processorShare(a.process.child.pid!, () => slowPings(a.host, INNER.b4));
    expect(used).toBeLessThan(MOST_PROCESSOR);
    const faults = await faultsOf(pair, 'send-failed');
    expect(Object.keys(faults)).toEqual(counted);
    for (const fault of counted) expect(faults[fault]).toBeGreaterThan(LEAST);
    // The kernel counts what it keeps to itself.
    if (counted.length === 0) expect(await unsentDatagrams(a.host)).toBeGreaterThan(LEAST);
    await run(end);
    await carriesAgain(a.host, INNER.b4);
    expect((await statusOf(a)).notes.join()).not.toContain('one by one');
  });

  it('counts, rests and goes on when a packet of its interface is longer than any datagram', async ({ skip }) => {
    await using lab = await Lab.open();
    const pair = await wireguardPair(lab, ['sealane', 'sealane']);
    const { a } = pair;
    if (a.lane !== 'linux') skip('needs the Linux lane');
    await a.setMtu(65_535);
    expect((await ping(a.host, INNER.b4, { count: 2, size: 60_000 })).received).toBe(2);
    const used = await processorShare(a.process.child.pid!, () => slowPings(a.host, INNER.b4, 65_507));
    expect(used).toBeLessThan(MOST_PROCESSOR);
    const faults = await faultsOf(pair, 'send-failed');
    expect(Object.keys(faults)).toEqual(['send-failed EMSGSIZE']);
    expect(faults['send-failed EMSGSIZE']).toBeGreaterThan(LEAST);
    await carriesAgain(a.host, INNER.b4);
  });

  it('counts, rests and goes on when its interface went down where it cannot be asked', async ({ skip }) => {
    await using lab = await Lab.open();
    const pair = await wireguardPair(lab, ['sealane', 'sealane']);
    const { a, b } = pair;
    if (a.lane !== 'linux') skip('needs the Linux lane');
    expect((await ping(a.host, INNER.b4)).received).toBe(5);
    // What comes in is written to it: it moved away, and a moved interface is down.
    const elsewhere = await lab.host('elsewhere');
    await a.host.must('ip', ['link', 'set', a.name, 'netns', elsewhere.name]);
    const used = await processorShare(a.process.child.pid!, () => slowPings(b.host, INNER.a4));
    expect(used).toBeLessThan(MOST_PROCESSOR);
    const faults = await faultsOf(pair, 'device-write-failed');
    expect(Object.keys(faults)).toEqual(['device-write-failed EIO']);
    expect(faults['device-write-failed EIO']).toBeGreaterThan(LEAST);
    await elsewhere.must('ip', ['address', 'add', `${INNER.a4}/24`, 'dev', a.name]);
    await elsewhere.must('ip', ['link', 'set', a.name, 'up']);
    await carriesAgain(b.host, INNER.a4);
  });

  const INJECTED: readonly Injection[] = [
    { error: 'ENOBUFS', call: 'send-failed', calls: 'sendmsg' },
    { error: 'ENETDOWN', call: 'send-failed', calls: 'sendmsg' },
    { error: 'EINVAL', call: 'device-write-failed', calls: 'write,writev', path: '/dev/net/tun' },
  ];
  it.for(INJECTED)('counts, rests and goes on when $calls answers $error', async (fault, { skip }) => {
    if (missingFor(['sealane'], 'strace') !== undefined) skip('needs strace');
    await using lab = await Lab.open();
    const pair = await wireguardPair(lab, ['sealane', 'sealane']);
    const { a, b } = pair;
    if (a.lane !== 'linux') skip('needs the Linux lane');
    expect((await ping(a.host, INNER.b4)).received).toBe(5);
    const tracer = await refuse(pair, fault, skip);
    const name = `${fault.call} ${fault.error}`;
    const before = (await faultsOf(pair, fault.call))[name]!;
    const used = await processorShare(a.process.child.pid!, () => slowPings(a.host, INNER.b4));
    expect(used).toBeLessThan(MOST_PROCESSOR);
    const faults = await faultsOf(pair, fault.call);
    expect(Object.keys(faults)).toEqual([name]);
    expect(faults[name]! - before).toBeGreaterThan(LEAST);
    await tracer.stop('SIGINT');
    await carriesAgain(a.host, INNER.b4);
    expect((await ping(b.host, INNER.a4)).received).toBe(5);
    expect(a.process.child.exitCode).toBeNull();
  });
});
