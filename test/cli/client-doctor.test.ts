/** `sealane doctor` on a host with faults that the test makes. */
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { client, clientFile, SERVER, twoHosts, up } from './client-lab.ts';
import { newKeyPair, SEALANE } from './client-support.ts';
import { type Host, type Lab as LabType, Lab, missing } from '../support/lab.ts';

const reason = missing('ping', 'nft');

interface Finding {
  readonly state: 'good' | 'hint' | 'bad';
  readonly subject: string;
  readonly what: string;
  readonly remedy?: string;
}

async function findings(lab: LabType, host: Host, file: string, code: number): Promise<readonly Finding[]> {
  const args = [
    `STATE_DIRECTORY=${lab.folder}`,
    process.execPath,
    SEALANE,
    'doctor',
    file,
    '--json',
    '--timeout',
    '1.5',
  ];
  const outcome = await host.run('env', args);
  expect(outcome.stderr).toBe('');
  expect(outcome.code).toBe(code);
  return JSON.parse(outcome.stdout) as readonly Finding[];
}

function about(list: readonly Finding[], subject: string): readonly Finding[] {
  return list.filter((finding) => finding.subject === subject);
}

describe.skipIf(reason !== undefined)(`sealane doctor (${reason ?? 'between two namespaces'})`, () => {
  it('finds a black hole for large packets and the MTU that fits', async () => {
    await using lab = await Lab.open();
    const { a, b } = await twoHosts(lab);
    await up(lab, b, lab.interfaceName('b'), SERVER);
    const file = await lab.file(`${lab.interfaceName('a')}.conf`, clientFile('10.88.0.0/24'));
    const before = await findings(lab, a, file, 0);
    expect(about(before, 'tunnel')[0]).toMatchObject({ state: 'good' });
    expect(about(before, 'path MTU')[0]).toMatchObject({ state: 'good', what: 'packets of 1400 bytes come through' });
    expect(about(before, 'routes')[0]).toMatchObject({ state: 'good' });

    // What is larger than 1300 bytes vanishes without a word.
    await b.must('nft', ['-f', '-'], {
      input:
        'table ip hole { chain in { type filter hook prerouting priority 0; udp dport 51888 ip length > 1300 drop; }; }\n',
    });
    const after = await findings(lab, a, file, 1);
    const [hole] = about(after, 'path MTU');
    expect(hole?.state).toBe('bad');
    const mtu = Number(/^write MTU = (\d+)$/.exec(hole?.remedy ?? '')?.[1]);
    // 1300 less IP, UDP and the protocol's own 32 bytes, at the padding's grain of 16.
    expect(mtu).toBeGreaterThan(1_300 - 60 - 16 - 8);
    expect(mtu).toBeLessThanOrEqual(1_300 - 60);
  });

  it('sees that an address translation stands between', { timeout: 120_000 }, async () => {
    await using lab = await Lab.open();
    const { a } = await twoHosts(lab);
    const natOf = async (address: string, text: string): Promise<readonly Finding[]> => {
      await a.must('ip', ['route', 'replace', '203.0.113.0/24', 'dev', 'va', 'src', address]);
      const file = await lab.file(`${lab.interfaceName('a')}.conf`, text.replace('192.168.88.2:', '203.0.113.9:'));
      return about(await findings(lab, a, file, 1), 'NAT');
    };
    const text = clientFile('10.88.0.0/24');
    const [found] = await natOf('192.168.88.1', text);
    expect(found).toMatchObject({
      state: 'hint',
      what: expect.stringContaining('192.168.88.1 is a private address') as string,
      remedy: expect.stringContaining('PersistentKeepalive = 25') as string,
    });
    expect((await natOf('192.168.88.1', `${text}PersistentKeepalive = 25\n`))[0]?.state).toBe('good');
    await a.must('ip', ['address', 'add', '100.64.3.4/32', 'dev', 'va']);
    expect((await natOf('100.64.3.4', text))[0]?.what).toContain('a carrier-grade NAT');
    await a.must('ip', ['address', 'add', '198.51.100.4/32', 'dev', 'va']);
    expect((await natOf('198.51.100.4', text))[0]?.what).toMatch(/^behind a NAT/);
  });

  it("asks for the way of the tunnel's own datagrams while its default route is in place", async () => {
    await using lab = await Lab.open();
    const { a } = await twoHosts(lab);
    await a.must('ip', ['address', 'add', '198.51.100.4/32', 'dev', 'va']);
    await a.must('ip', ['route', 'add', 'default', 'via', '192.168.88.2', 'src', '198.51.100.4']);
    const text = clientFile('0.0.0.0/0').replace('192.168.88.2:', '203.0.113.9:');
    const name = lab.interfaceName('a');
    const ways = async (file: string, code: number): Promise<readonly string[]> =>
      about(await findings(lab, a, file, code), 'NAT').map(({ what }) => what);
    const running = await up(lab, a, name, text);
    // The way without the mark begins at the tunnel's own address, which is a private one.
    expect(await a.must('ip', ['route', 'get', '203.0.113.9'])).toContain('src 10.88.0.2');
    const file = join(lab.folder, `${name}.conf`);
    expect(await ways(file, 0)).toEqual([expect.stringMatching(/^behind a NAT /) as string]);
    await running.stop();

    // A mark of the file's own, which the rules of this host send another way.
    await a.must('ip', ['rule', 'add', 'fwmark', '77', 'table', '77']);
    await a.must('ip', ['route', 'add', 'default', 'via', '192.168.88.2', 'src', '192.168.88.1', 'table', '77']);
    const marked = await lab.file('marked.conf', text.replace('[Peer]', 'FwMark = 77\n[Peer]'));
    expect(await ways(marked, 1)).toEqual([expect.stringContaining('192.168.88.1 is a private address') as string]);
  });

  it('finds routes that take traffic away, and says what is wrong with a file', async () => {
    await using lab = await Lab.open();
    const { a } = await twoHosts(lab);
    await a.must('ip', ['route', 'add', '10.88.0.128/25', 'dev', 'va']);
    const file = await lab.file(`${lab.interfaceName('a')}.conf`, clientFile('10.88.0.0/24'));
    const list = await findings(lab, a, file, 1);
    expect(about(list, 'routes')).toEqual([
      {
        state: 'bad',
        subject: 'routes',
        what: '10.88.0.128/25 goes to va although the tunnel is to have it',
        remedy: 'remove that route, or take the network out of AllowedIPs',
      },
    ]);
    expect(about(list, 'tunnel')[0]?.state).toBe('bad');

    const wrong = await lab.file('wrong.conf', '[Interface]\nPrivatKey = x\nMTU = 9\n');
    const all = about(await findings(lab, a, wrong, 1), 'file');
    expect(all.map(({ state, what }) => [state, what.slice(wrong.length, wrong.length + 2)])).toEqual([
      ['bad', ':2'],
      ['bad', ':3'],
      ['bad', ':1'],
    ]);
    expect(all[0]?.remedy).toContain('did you mean PrivateKey?');
  });

  it('lets the links keep their networks beside a default route in halves, and finds the loop that those make', async () => {
    await using lab = await Lab.open();
    const { a } = await twoHosts(lab);
    await a.must('ip', ['route', 'add', 'default', 'via', '192.168.88.2']);
    const text = clientFile('0.0.0.0/1, 128.0.0.0/1')
      .replace('192.168.88.2:', '203.0.113.9:')
      .replace('.2/32', '.2/24');
    const file = await lab.file(`${lab.interfaceName('a')}.conf`, text);
    const looped = await findings(lab, a, file, 1);
    expect(about(looped, 'endpoint').filter(({ state }) => state === 'bad')).toEqual([
      {
        state: 'bad',
        subject: 'endpoint',
        what: "203.0.113.9 lies in 128.0.0.0/1 of AllowedIPs: the tunnel's own datagrams would go into it",
        remedy: 'write 0.0.0.0/0, which leaves them out, or add a route to 203.0.113.9 itself',
      },
    ]);
    const warned = await up(lab, a, lab.interfaceName('a'), text);
    expect(warned.stderr).toContain(
      "203.0.113.9 lies in 128.0.0.0/1 of AllowedIPs: the tunnel's own datagrams would go into it: write 0.0.0.0/0",
    );
    expect(await warned.stop()).toBe(0);
    await a.must('ip', ['route', 'add', '203.0.113.9', 'via', '192.168.88.2']);
    const unwarned = await up(lab, a, lab.interfaceName('a'), text);
    expect(unwarned.stderr).not.toContain('lies in');
    expect(await unwarned.stop()).toBe(0);
    const routed = await findings(lab, a, file, 1);
    for (const subject of ['endpoint', 'routes']) expect(about(routed, subject)[0]).toMatchObject({ state: 'good' });
    expect(about(routed, 'endpoint').length).toBe(1);
    // The host that is asked is one of ours, not the first of a half.
    expect(about(routed, 'tunnel')[0]?.what).toMatch(/^no answer from 203\.0\.113\.9/);
  });

  it('finds routes that refuse, IPv6 that is switched off, and a tunnel that seems to be up', async () => {
    await using lab = await Lab.open();
    const { a } = await twoHosts(lab);
    await a.must('ip', ['route', 'add', 'blackhole', '10.88.0.0/24']);
    await a.must('sysctl', ['-qw', 'net.ipv6.conf.default.disable_ipv6=1']);
    await a.must('ip', ['address', 'add', '10.88.0.2/32', 'dev', 'va']);
    const file = await lab.file(`${lab.interfaceName('a')}.conf`, clientFile('10.88.0.0/24'));
    const list = await findings(lab, a, file, 1);
    expect(about(list, 'routes').map(({ what }) => what)).toContain(
      '10.88.0.0/24 goes to blackhole although the tunnel is to have it',
    );
    expect(about(list, 'IPv6')).toMatchObject([
      { state: 'bad', what: 'fd08::2/128 cannot be set: IPv6 is switched off for new interfaces' },
    ]);
    expect(about(list, 'tunnel')).toMatchObject([
      { state: 'hint', remedy: expect.stringContaining('va is up with 10.88.0.2') as string },
    ]);
  });

  it('knows the tunnel of a file that is up under another name', async () => {
    await using lab = await Lab.open();
    const { a } = await twoHosts(lab);
    for (const allowed of ['10.88.0.0/24', '0.0.0.0/0']) {
      // Keys of its own: others may be up with those of the other tests.
      const own = newKeyPair();
      const text = clientFile(allowed).replace(client.privateText, own.privateText);
      const name = lab.interfaceName('x');
      const running = await up(lab, a, lab.interfaceName('a'), text, '--name', name);
      const list = await findings(lab, a, join(lab.folder, `${lab.interfaceName('a')}.conf`), 0);
      expect(list.filter(({ state }) => state === 'bad')).toEqual([]);
      expect(about(list, 'routes')).toMatchObject([{ state: 'good' }]);
      expect(about(list, 'tunnel')).toMatchObject([
        { state: 'hint', remedy: expect.stringContaining(`${name} is up with this key`) as string },
      ]);
      expect(await running.stop(), running.stderr).toBe(0);
    }
  });

  it('finds nothing wrong with the file of a side that waits', async () => {
    await using lab = await Lab.open();
    const { b } = await twoHosts(lab);
    const file = await lab.file(`${lab.interfaceName('b')}.conf`, SERVER);
    const list = await findings(lab, b, file, 0);
    expect(about(list, 'file')).toMatchObject([{ state: 'good' }]);
    expect(about(list, 'tunnel')).toMatchObject([
      { state: 'hint', what: expect.stringContaining('no peer has') as string },
    ]);
  });
});
