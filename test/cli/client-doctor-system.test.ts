/** What `sealane doctor` says of a system that the test makes: a user, mounts, a kernel's name and a clock of its own. */
import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { SEALANE } from './client-support.ts';
import { execute, Lab, missing } from '../support/lab.ts';

const reason = missing('unshare', 'setpriv', 'setarch', 'nft', 'bash');
const CLOCK = fileURLToPath(new URL('../support/clock.cjs', import.meta.url));
/** An ordinary user, who may read this folder wherever it lies. */
const nobody = (...others: readonly string[]): readonly string[] => {
  const capabilities = ['dac_read_search', ...others].map((name) => `+${name}`).join(',');
  const user = ['--reuid', '65534', '--regid', '65534', '--clear-groups'];
  return ['setpriv', ...user, '--inh-caps', capabilities, '--ambient-caps', capabilities];
};

interface Finding {
  readonly state: 'good' | 'hint' | 'bad';
  readonly subject: string;
  readonly what: string;
  readonly remedy?: string;
}

interface System {
  /** Commands of sh(1) that come first, in mount and network namespaces of their own with an empty /run. */
  readonly prepare?: string;
  /** What starts the program. */
  readonly by?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly node?: readonly string[];
}

async function doctor(system: System): Promise<{ readonly code: number; readonly findings: readonly Finding[] }> {
  const { prepare = ':', by = [], env = {}, node = [] } = system;
  const words = Object.entries(env).map(([name, value]) => `${name}=${value}`);
  const script = `set -e; mount -t tmpfs none /run; ${prepare}; exec "$@"`;
  const command = [...by, '/usr/bin/env', ...words, process.execPath, ...node, SEALANE, 'doctor', '--json'];
  const { code, stdout, stderr } = await execute('unshare', ['-mn', 'sh', '-c', script, 'sh', ...command]);
  expect(stderr).toBe('');
  return { code, findings: JSON.parse(stdout) as readonly Finding[] };
}

/** The one finding about this. */
async function about(subject: string, system: System): Promise<Finding> {
  const { findings } = await doctor(system);
  const found = findings.filter((finding) => finding.subject === subject);
  expect(found).toHaveLength(1);
  return found[0]!;
}

describe.skipIf(reason !== undefined)(`sealane doctor on a system (${reason ?? 'in namespaces of its own'})`, () => {
  it('that has everything finds nothing that stands in the way', async () => {
    const { code, findings } = await doctor({});
    expect(findings.filter(({ state }) => state === 'bad')).toEqual([]);
    expect(code).toBe(0);
    expect(findings.map(({ subject }) => subject)).toEqual(
      expect.arrayContaining(['permission', 'TUN', 'kernel', 'programs', 'DNS', 'buffers', 'crypto', 'clock']),
    );
  });

  it('whose user may make no interface says what needs no permission', async () => {
    expect(await about('permission', {})).toMatchObject({ state: 'good' });
    const prepare = 'mkdir -m 700 /run/user; chown 65534 /run/user';
    const env = { XDG_RUNTIME_DIR: '/run/user' };
    expect(await about('permission', { prepare, by: nobody(), env })).toMatchObject({
      state: 'hint',
      what: 'this user may make no interface (CAP_NET_ADMIN)',
      remedy: expect.stringContaining("'sealane proxy'") as string,
    });
    // One capability is enough.
    expect(await about('permission', { prepare, by: nobody('net_admin'), env })).toMatchObject({ state: 'good' });
  });

  it('without /dev/net/tun fails and says how to have it', async () => {
    const { code, findings } = await doctor({ prepare: 'mount -t tmpfs none /dev/net' });
    expect(findings.filter(({ state }) => state === 'bad')).toEqual([
      {
        state: 'bad',
        subject: 'TUN',
        what: 'there is no /dev/net/tun',
        remedy: "load the kernel module: 'modprobe tun'; in a container add --device /dev/net/tun",
      },
    ]);
    expect(code).toBe(1);
  });

  it('with an old kernel says what that lacks', async () => {
    const [now, old] = [await about('kernel', {}), await about('kernel', { by: ['setarch', '--uname-2.6'] })];
    expect(old).toMatchObject({
      state: 'hint',
      what: expect.stringMatching(/^2\.6\..* lacks UDP_SEGMENT, UDP_GRO, UDP offloads of TUN$/) as string,
    });
    expect(now.what).not.toContain('UDP_SEGMENT');
  });

  it('with a clock of the past fails; with one that is not synchronized yet it says so', async () => {
    const node = ['--require', CLOCK];
    const at = (...date: [number, number]): System => ({ node, env: { CLOCK: String(Date.UTC(...date)) } });
    const { code, findings } = await doctor(at(1970, 0));
    expect(findings.find(({ subject }) => subject === 'clock')).toMatchObject({
      state: 'bad',
      what: expect.stringContaining('1970-01-01') as string,
      remedy: 'set the clock: servers refuse handshakes older than the last',
    });
    expect(code).toBe(1);
    expect(await about('clock', at(2027, 0))).toMatchObject({ state: 'good' });
    const prepare = 'mkdir -p /run/systemd/timesync';
    expect(await about('clock', { prepare })).toMatchObject({ state: 'hint', what: 'it is not synchronized yet' });
    const synchronized = `${prepare}; touch /run/systemd/timesync/synchronized`;
    expect(await about('clock', { prepare: synchronized })).toMatchObject({ state: 'good' });
  });

  it('without programs says what cannot be done, and which one sets name servers', async () => {
    await using lab = await Lab.open();
    const bin = join(lab.folder, 'bin');
    await mkdir(bin);
    const system = { env: { PATH: bin } };
    const none = await doctor(system);
    expect(none.findings.filter(({ subject }) => subject === 'programs').map(({ what }) => what)).toEqual([
      "ip is missing: 'sealane up' cannot work",
      'nft is missing: there is no --kill-switch',
      'bash is missing: PostUp and its like fail',
    ]);
    expect(none.findings.find(({ subject }) => subject === 'DNS')).toMatchObject({
      state: 'hint',
      what: 'nothing here manages name servers: DNS lines cannot be followed',
      remedy: 'install openresolv or systemd-resolved',
    });
    for (const name of ['ip', 'nft', 'bash']) {
      const { stdout } = await execute('sh', ['-c', `command -v ${name}`]);
      await symlink(stdout.trim(), join(bin, name));
    }
    expect(await about('programs', system)).toMatchObject({ state: 'good' });
    for (const name of ['resolvconf', 'resolvectl']) await writeFile(join(bin, name), '#!/bin/sh\n', { mode: 0o755 });
    expect(await about('DNS', system)).toMatchObject({
      state: 'good',
      what: 'name servers are set through resolvconf',
    });
    const prepare = 'mkdir -p /run/systemd/resolve';
    expect((await about('DNS', { ...system, prepare })).what).toBe('name servers are set through resolvectl');
  });
});
