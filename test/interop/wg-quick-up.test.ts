/** One file brought up by the real wg-quick with wireguard-go, and by `sealane up`: both do the same to the system. */
import { describe, expect, it } from 'vitest';
import { clientFile, SERVER, systemOf, twoHosts, up } from '../cli/client-lab.ts';
import { type Host, Lab, missing, until } from '../support/lab.ts';
import { ping } from '../support/wireguard.ts';

const reason = missing('wg-quick', 'wg', 'wireguard-go', 'bash', 'nft', 'ping');
/** Behind host b, by a route of 1380 bytes. */
const FAR = '203.0.113.9:51888';

interface Kind {
  readonly kind: string;
  readonly text: string;
  /** Whether its routes lead to the server. */
  readonly reaches: boolean;
}

const file = (allowedIps: string, extra = ''): string => clientFile(allowedIps, `ListenPort = 51777\n${extra}`);

const KINDS: readonly Kind[] = [
  { kind: 'some prefixes', text: file('10.88.0.0/24, 10.99.0.0/16, fd08::/64'), reaches: true },
  { kind: 'default routes', text: file('0.0.0.0/0, ::/0'), reaches: true },
  { kind: 'Table = off', text: file('0.0.0.0/0', 'Table = off'), reaches: false },
  { kind: 'Table = 1234', text: file('0.0.0.0/0, 10.99.0.0/16', 'Table = 1234'), reaches: false },
  { kind: 'FwMark and a default route', text: file('0.0.0.0/0, ::/0', 'FwMark = 77'), reaches: true },
  { kind: 'FwMark and a prefix', text: file('10.88.0.0/24', 'FwMark = 0x4d'), reaches: true },
  {
    kind: 'the MTU of the route to the endpoint',
    text: file('0.0.0.0/0, ::/0').replace('MTU = 1400\n', '').replace('192.168.88.2:51888', FAR),
    reaches: false,
  },
];

/** Sorted lines of an output; what the kernel does by itself for every interface is no concern of either program. */
function linesOf(text: string): readonly string[] {
  const lines = text.split('\n').map((line) => line.trim());
  return lines.filter((line) => line !== '' && !/fe80|ff00::\/8/.test(line)).toSorted();
}

/** What a tunnel is to the system, each thing by its name. */
async function stateOf(host: Host, name: string): Promise<Readonly<Record<string, unknown>>> {
  const link = await host.must('ip', ['-o', 'link', 'show', 'dev', name]);
  const addresses = await host.must('ip', ['-o', 'address', 'show', 'dev', name]);
  const config = await host.must('wg', ['showconf', name]);
  const rules = (await host.must('nft', ['list', 'ruleset'])).split('\n');
  return {
    link: [/\bUP\b/.test(link), /mtu \d+/.exec(link)?.[0]],
    addresses: linesOf(addresses).map((line) => /inet6? \S+/.exec(line)?.[0]),
    routes4: linesOf(await host.must('ip', ['-4', 'route', 'show', 'table', 'all'])),
    routes6: linesOf(await host.must('ip', ['-6', 'route', 'show', 'table', 'all'])),
    rules4: linesOf(await host.must('ip', ['-4', 'rule'])),
    rules6: linesOf(await host.must('ip', ['-6', 'rule'])),
    config: linesOf(config.replace(/^AllowedIPs = .*$/m, (line) => line.split(/[ ,]+/).toSorted().join(' '))),
    srcValidMark: (await host.must('cat', ['/proc/sys/net/ipv4/conf/all/src_valid_mark'])).trim(),
    // wg-quick has a table for each family with a default route, and we one for both in any case.
    firewall: new Set(linesOf(rules.filter((line) => !line.startsWith('table')).join('\n'))),
  };
}

describe.skipIf(reason !== undefined)(
  `sealane up (${reason ?? 'beside the real wg-quick'})`,
  { timeout: 90_000 },
  () => {
    it.each(KINDS)('does to the system what wg-quick does, and undoes it: $kind', async ({ text, reaches }) => {
      await using lab = await Lab.open();
      const { a, b } = await twoHosts(lab);
      await a.must('ip', ['route', 'add', 'default', 'via', '192.168.88.2']);
      await a.must('ip', ['route', 'add', '203.0.113.0/24', 'via', '192.168.88.2', 'mtu', '1380']);
      if (reaches) await up(lab, b, lab.interfaceName('b'), SERVER);
      const before = await systemOf(a);
      const name = lab.interfaceName('a');
      const look = async (): Promise<Readonly<Record<string, unknown>>> => {
        if (reaches) expect((await ping(a, '10.88.0.1', { count: 2 })).received).toBe(2);
        return stateOf(a, name);
      };

      const path = await lab.file(`${name}.conf`, text);
      await a.must('wg-quick', ['up', path]);
      const theirs = await look();
      await a.must('wg-quick', ['down', path]);
      await until('the interface to be gone', async () => (await a.run('ip', ['link', 'show', name])).code !== 0);
      // This one wg-quick leaves as it is.
      await a.must('sysctl', ['-qw', 'net.ipv4.conf.all.src_valid_mark=0']);
      expect(await systemOf(a)).toBe(before);

      const here = await up(lab, a, name, text);
      expect(await look()).toEqual(theirs);
      expect(await here.stop()).toBe(0);
      expect(await systemOf(a)).toBe(before);
    });
  },
);
