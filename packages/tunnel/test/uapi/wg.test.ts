/** The stock `wg`, and wireguard-go as the measure: what it prints and answers, ours must. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { formatKey } from '@sealane/protocol';
import { parseConfig, resolveEndpoints, serveControl, toUpdate } from '@sealane/tunnel';
import { missing } from '../../../../test/support/lab.ts';
import { CORPUS, KEYS, PRESHARED_KEY } from '../config/corpus.ts';
import { openEnds, SERVER4 } from '../support/tunnels.ts';
import { ask, type Ran, runIsolated, type Served, serveTunnel, temporaryFolder } from './support.ts';

const { alice, bob, carol } = KEYS;
const withoutWg = missing('wg', 'wg-quick', 'unshare');
const withoutGo = missing('wg', 'unshare', 'wireguard-go');

async function wg(served: { readonly folder: string }, args: readonly string[], input = ''): Promise<string> {
  const { code, stdout, stderr } = await runIsolated(served.folder, 'wg', args, input);
  if (code !== 0) throw new Error(`wg ${args.join(' ')}: ${stderr}`);
  return stdout;
}

/** What `wg showconf` says but the port, which the system chooses where the file has none. */
async function configurationOf(served: Served): Promise<string> {
  return (await wg(served, ['showconf', 'wg0'])).replace(/^ListenPort = .*\n/m, '');
}

describe.skipIf(withoutWg !== undefined)(
  `the stock wg${withoutWg === undefined ? '' : ` (skipped: ${withoutWg})`}`,
  () => {
    it('sets and shows', async () => {
      await using served = await serveTunnel();
      await wg(served, ['set', 'wg0', 'private-key', '/dev/stdin'], alice.private);
      await wg(served, ['set', 'wg0', 'peer', carol.public, 'allowed-ips', '']);
      await wg(
        served,
        `set wg0 peer ${bob.public} preshared-key /dev/stdin endpoint 127.9.9.9:51820 allowed-ips 10.0.0.0/24,fd00::/64`.split(
          ' ',
        ),
        PRESHARED_KEY,
      );
      const { listenPort } = await served.tunnel.status();
      expect(await wg(served, ['show', 'wg0'])).toBe(
        `interface: wg0
  public key: ${alice.public}
  private key: (hidden)
  listening port: ${listenPort}

peer: ${carol.public}
  allowed ips: (none)

peer: ${bob.public}
  preshared key: (hidden)
  endpoint: 127.9.9.9:51820
  allowed ips: 10.0.0.0/24, fd00::/64
`.replace(listenPort === 0 ? '  listening port: 0\n' : '', ''),
      );
      expect(await wg(served, ['show', 'wg0', 'dump'])).toBe(
        [
          [alice.private, alice.public, listenPort, 'off'],
          [carol.public, '(none)', '(none)', '(none)', 0, 0, 0, 'off'],
          [bob.public, PRESHARED_KEY, '127.9.9.9:51820', '10.0.0.0/24,fd00::/64', 0, 0, 0, 'off'],
        ]
          .map((row) => `${row.join('\t')}\n`)
          .join(''),
      );
      expect(await wg(served, ['show', 'interfaces'])).toBe('wg0\n');
      expect(await wg(served, ['show', 'wg0', 'endpoints'])).toContain('127.9.9.9:51820');
      await wg(served, ['set', 'wg0', 'peer', bob.public, 'remove']);
      expect(await wg(served, ['show', 'wg0', 'peers'])).toBe(`${carol.public}\n`);
    });

    // A byte order mark is more than wg itself can read.
    const files = Object.entries(CORPUS).filter(([, text]) => !text.startsWith('\uFEFF'));

    it.each(files)('reads as we do: %s', async (_name, original) => {
      // Ports belong to whoever runs beside this test, marks to root's lane; keepalives are sent at once, and stay on loopback.
      const text = original
        .replaceAll(/^(ListenPort|FwMark)\b.*\n/gm, '')
        .replaceAll(/\b(?:192\.0\.2|198\.51\.100|203\.0\.113)\./g, '127.9.9.');
      await using theirs = await serveTunnel();
      await using ours = await serveTunnel();
      const folder = await mkdtemp(join(tmpdir(), 'sealane-wg-'));
      const path = join(folder, 'wg0.conf');
      await writeFile(path, text, { mode: 0o600 });
      const stripped = await runIsolated(folder, 'wg-quick', ['strip', path]);
      expect(stripped).toMatchObject({ code: 0, stderr: '' });
      await wg(theirs, ['setconf', 'wg0', '/dev/stdin'], stripped.stdout);
      const config = parseConfig(text, path);
      await ours.tunnel.configure(toUpdate(config, await resolveEndpoints(config)));
      expect(await configurationOf(ours)).toBe(await configurationOf(theirs));
      await rm(folder, { recursive: true });
    });

    it('sets its own showconf again and changes nothing', async () => {
      await using served = await serveTunnel();
      const config = parseConfig(CORPUS['phone, all traffic']!.replace('PersistentKeepalive = 25', ''), 'f');
      await served.tunnel.configure(toUpdate(config, await resolveEndpoints(config)));
      const before = await wg(served, ['showconf', 'wg0']);
      await wg(served, ['setconf', 'wg0', '/dev/stdin'], before);
      expect(await wg(served, ['showconf', 'wg0'])).toBe(before);
      await wg(served, ['addconf', 'wg0', '/dev/stdin'], `[Peer]\nPublicKey = ${carol.public}\n`);
      expect(await wg(served, ['showconf', 'wg0'])).toBe(
        `${before.trimEnd()}\n\n[Peer]\nPublicKey = ${carol.public}\n`,
      );
    });

    it('keeps sessions over syncconf and starts afresh with setconf', async () => {
      const folder = await temporaryFolder();
      const ends = await openEnds();
      const control = await serveControl(ends.client, join(folder, 'wg0.sock'));
      try {
        await ends.echo.ping({ target: SERVER4 });
        const served = { folder };
        const before = await wg(served, ['showconf', 'wg0']);
        const [transfer] = (await ends.client.status()).device.peers;
        expect(transfer?.sessions).toBe(1);
        const edited = before.replace(/^AllowedIPs = .*$/m, 'AllowedIPs = 127.77.0.0/24');
        await wg(served, ['syncconf', 'wg0', '/dev/stdin'], edited);
        const [kept] = (await ends.client.status()).device.peers;
        expect(kept).toMatchObject({ sessions: 1, rxBytes: transfer?.rxBytes });
        expect(kept?.session).toBeDefined();
        await ends.echo.ping({ target: SERVER4 });
        const shown = await wg(served, ['show', 'wg0', 'transfer']);
        const [now] = (await ends.client.status()).device.peers;
        expect(shown).toBe(`${formatKey(ends.serverKeys.publicKey)}\t${now?.rxBytes}\t${now?.txBytes}\n`);
        const stamp = Number((await wg(served, ['show', 'wg0', 'latest-handshakes'])).split('\t')[1]);
        expect(stamp).toBe(Math.floor(now!.lastHandshake! / 1_000));
        await wg(served, ['setconf', 'wg0', '/dev/stdin'], edited);
        expect((await ends.client.status()).device.peers).toMatchObject([{ sessions: 0, rxBytes: 0, txBytes: 0 }]);
      } finally {
        await control.close();
        await ends.close();
        await rm(folder, { recursive: true });
      }
    });

    it('prints the reason of a refusal', async () => {
      await using other = await serveTunnel();
      await other.tunnel.configure({ listenPort: 0 });
      await using served = await serveTunnel();
      const { listenPort } = await other.tunnel.status();
      const ran: Ran = await runIsolated(served.folder, 'wg', ['set', 'wg0', 'listen-port', String(listenPort)]);
      expect(ran).toEqual({ code: 1, stdout: '', stderr: 'Unable to modify interface: Address already in use\n' });
    });

    it('takes 130,560 allowed IPs by setconf', { timeout: 60_000 }, async () => {
      await using served = await serveTunnel();
      const ips: string[] = [];
      for (let i = 0; i < 65_280; i++)
        ips.push(`10.${i >> 8}.${i & 255}.0/24`, `fd00:${((i >> 8) + 1).toString(16)}:${i & 255}::/48`);
      const lines: string[] = [];
      for (let i = 0; i < ips.length; i += 64) lines.push(`AllowedIPs = ${ips.slice(i, i + 64).join(', ')}`);
      const file = `[Interface]\nPrivateKey = ${alice.private}\n[Peer]\nPublicKey = ${bob.public}\n${lines.join('\n')}\n`;
      await wg(served, ['setconf', 'wg0', '/dev/stdin'], file);
      const shown = await wg(served, ['show', 'wg0', 'allowed-ips']);
      expect(new Set(shown.trim().split(/\s/).slice(1))).toEqual(new Set(ips.map((ip) => ip.replace(/:0::/, '::'))));
    });
  },
);

describe.skipIf(withoutGo !== undefined)(
  `wireguard-go as the measure${withoutGo === undefined ? '' : ` (skipped: ${withoutGo})`}`,
  () => {
    const hex = (key: string): string => Buffer.from(key, 'base64').toString('hex');
    const BOB = `public_key=${hex(bob.public)}\n`;

    // Blank lines end each; wireguard-go answers refusals at once and hangs up at what follows, so each has a connection.
    const requests = [
      'get=1\n\n',
      'set=1\n\n',
      'set=1\nnonsense\n\n',
      'set=1\n=\n\n',
      'set=1\nfrobnicate=1\n\n',
      'set=1\nprivate_key=00\n\n',
      `set=1\nprivate_key=${'0'.repeat(64)}\n\n`,
      `set=1\nprivate_key=${'G'.repeat(64)}\n\n`,
      `set=1\nprivate_key=${hex(alice.private).toUpperCase()}\n\n`,
      'set=1\nlisten_port=65536\n\n',
      'set=1\nlisten_port=+1\n\n',
      'set=1\nlisten_port=1_000\n\n',
      'set=1\nfwmark=0x1\n\n',
      'set=1\nfwmark=4294967296\n\n',
      'set=1\nreplace_peers=false\n\n',
      'set=1\nallowed_ip=10.0.0.0/8\n\n',
      'set=1\npublic_key=\n\n',
      `set=1\n${BOB}frobnicate=1\n\n`,
      `set=1\n${BOB}remove=false\n\n`,
      `set=1\n${BOB}update_only=1\n\n`,
      `set=1\n${BOB}update_only=true\nallowed_ip=10.9.0.0/16\n\n`,
      `set=1\n${BOB}preshared_key=1\n\n`,
      `set=1\n${BOB}endpoint=127.0.0.1\n\n`,
      `set=1\n${BOB}endpoint=localhost:1\n\n`,
      `set=1\n${BOB}endpoint=[127.0.0.1]:1\n\n`,
      `set=1\n${BOB}endpoint=127.0.0.1:65536\n\n`,
      `set=1\n${BOB}persistent_keepalive_interval=65536\n\n`,
      `set=1\n${BOB}persistent_keepalive_interval=-1\n\n`,
      `set=1\n${BOB}replace_allowed_ips=no\n\n`,
      `set=1\n${BOB}allowed_ip=10.0.0.0/33\n\n`,
      `set=1\n${BOB}allowed_ip=10.0.0.0\n\n`,
      `set=1\n${BOB}allowed_ip=fd00::/129\n\n`,
      `set=1\n${BOB}protocol_version=2\n\n`,
      `set=1\n${BOB}protocol_version=1\n\n`,
      `set=1\npublic_key=${hex(alice.public)}\nallowed_ip=10.1.0.0/16\nremove=true\nremove=true\n\n`,
      `set=1\n${BOB}remove=true\nallowed_ip=10.3.0.0/16\n\n`,
      `set=1\n${BOB}endpoint=[::1]:9\nallowed_ip=10.2.3.4/16\nallowed_ip=fd00::1/64\nallowed_ip=0.0.0.0/0\n\n`,
      `set=1\n${BOB}update_only=true\nreplace_allowed_ips=true\nallowed_ip=::ffff:1.2.3.4/128\nallowed_ip=1::/16\n\n`,
      'get=1\n\n',
    ];

    it('gives the same answers, and stands in the same state', { timeout: 60_000 }, async () => {
      const folder = await temporaryFolder();
      const go = await startWireguardGo(folder);
      await using served = await serveTunnel();
      try {
        const theirs = join(folder, 'wg0.sock');
        // Ours never applies a half: refused requests that create the peer on the way would leave it there with theirs.
        const state = async (path: string): Promise<string> =>
          (await ask(path, 'get=1\n\n'))
            .replace(/listen_port=\d+\n/, '')
            .split('\n')
            .toSorted()
            .join('\n');
        for (const request of requests) {
          const [expected, got] = [await ask(theirs, request), await ask(served.path, request)];
          expect([request, errnoOf(got)]).toEqual([request, errnoOf(expected)]);
        }
        expect(await state(served.path)).toBe(await state(theirs));
        for (const args of [
          ['show', 'wg0'],
          ['showconf', 'wg0'],
          ['show', 'wg0', 'dump'],
        ]) {
          const normal = (text: string): string =>
            text
              .replaceAll(/listening port: \d+|ListenPort = \d+|\t\d+\toff\n/g, 'port')
              .split(/[\n,\s]+/)
              .toSorted()
              .join('\n');
          expect(normal(await wg(served, args))).toBe(normal(await wg({ folder }, args)));
        }
      } finally {
        await go.stop();
        await rm(folder, { recursive: true });
      }
    });

    function errnoOf(answer: string): string {
      return /errno=-?\d+/.exec(answer)?.[0] ?? 'none';
    }
  },
);

/** wireguard-go in namespaces of its own, with its socket in the folder. */
async function startWireguardGo(folder: string): Promise<{ stop(): Promise<void> }> {
  const script =
    'mount -t tmpfs tmpfs /run && mkdir /run/wireguard && mount --bind "$0" /run/wireguard && exec wireguard-go -f wg0';
  const child = spawn('unshare', ['--mount', '--net', 'sh', '-c', script, folder], {
    env: { ...process.env, LOG_LEVEL: 'silent' },
    stdio: 'ignore',
  });
  const gone = once(child, 'exit');
  await expect
    .poll(() => ask(join(folder, 'wg0.sock'), 'get=1\n\n').catch(() => ''), { timeout: 10_000 })
    .toContain('errno=0');
  return {
    stop: async () => {
      child.kill('SIGTERM');
      await gone;
    },
  };
}
