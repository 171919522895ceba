/** Published failures of programs around a tunnel (files, sockets, shells), each named by where it happened. */
import { readFileSync, readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { ConfigError, parseConfig, parseEndpoint, parsePrefix } from '@sealane/tunnel';
import { isPeerName } from '../../packages/server/src/state/names.ts';
import { identity } from '../../packages/tunnel/test/support/tunnels.ts';
import { ask, serveTunnel } from '../../packages/tunnel/test/uapi/support.ts';

const root = fileURLToPath(new URL('../../', import.meta.url));
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

const METACHARACTERS = [
  '10.0.0.1/32; touch /tmp/x',
  '10.0.0.1/32 && id',
  '$(id)',
  '`id`',
  '10.0.0.1/32 | sh',
  "'; id; '",
  '10.0.0.1/32\u0000id',
  '10.0.0.1/32 > /etc/passwd',
  '${IFS}id',
  '../../../etc/shadow',
  '-o ProxyCommand=id',
  '10.0.0.1/32\rid',
];

describe('surfaces', () => {
  it('CVE-2026-15733 (WGDashboard): an address was pasted into a shell', () => {
    // These may start a shell: they run what the operator wrote as a hook.
    const hooks = ['hooks.ts', 'hook-helper.ts'].map((file) => `packages/client/src/system/${file}`);
    const shells: string[] = [];
    for (const name of ['client', 'netstack', 'protocol', 'server', 'tunnel']) {
      const folder = `packages/${name}/src`;
      for (const file of readdirSync(`${root}${folder}`, { recursive: true, encoding: 'utf8' })) {
        if (!file.endsWith('.ts')) continue;
        const text = readFileSync(`${root}${folder}/${file}`, 'utf8').replace(/\/\*[\s\S]*?\*\/|\/\/.*/g, '');
        const starts = /from 'node:child_process'/.test(text);
        const imported = /import \{([^}]*)\} from 'node:child_process'/.exec(text)?.[1] ?? '';
        const shell = /\bexec(Sync)?\b/.test(imported) || /\bshell:/.test(text) || /\(\s*['"][\w/]*sh['"]/.test(text);
        if (starts && shell) shells.push(`${folder}/${file}`);
      }
    }
    expect(shells.filter((file) => !hooks.includes(file))).toEqual([]);
  });

  it.each(METACHARACTERS)(
    'CVE-2026-15733 (WGDashboard): %j is no address, endpoint, name, key or interface',
    (text) => {
      expect(parsePrefix(text)).toBeUndefined();
      expect(parseEndpoint(text)).toBeUndefined();
      expect(isPeerName(text)).toBe(false);
      const key = Buffer.from(identity().privateKey).toString('base64');
      const publicKey = Buffer.from(identity().publicKey).toString('base64');
      const own = `[Interface]\nPrivateKey = ${key}\n`;
      const peer = `[Peer]\nPublicKey = ${publicKey}\n`;
      for (const broken of [
        `${own}Address = ${text}\n`,
        `${own}DNS = ${text}\n`,
        `${own}Table = ${text}\n`,
        `${own}MTU = ${text}\n`,
        `${own}FwMark = ${text}\n`,
        `${own}ListenPort = ${text}\n`,
        `${own}PrivateKey = ${text}\n`,
        `${own}${peer}AllowedIPs = ${text}\n`,
        `${own}${peer}Endpoint = ${text}\n`,
        `${own}${peer}PersistentKeepalive = ${text}\n`,
        `${own}${peer}PresharedKey = ${text}\n`,
      ]) {
        expect(() => parseConfig(broken, 'wg0.conf'), broken).toThrow(ConfigError);
      }
    },
  );

  it('CVE-2024-26950 (kernel): a dump while peers vanished', async () => {
    await using served = await serveTunnel();
    const keys = Array.from({ length: 30 }, () => hex(identity().publicKey));
    const churn = async (): Promise<void> => {
      for (let i = 0; i < 60; i++) {
        const peer = (key: string, more: string): string => `public_key=${key}\n${more}`;
        const added = peer(keys[i % 30]!, `allowed_ip=10.0.${i}.0/24\nendpoint=127.0.0.1:${i + 1}\n`);
        const removed = i % 3 === 0 ? 'replace_peers=true\n' : '';
        expect(await ask(served.path, `set=1\n${removed}${added}\n`)).toBe('errno=0\n\n');
      }
    };
    const dump = async (): Promise<void> => {
      for (let i = 0; i < 60; i++) expect(await ask(served.path, 'get=1\n\n')).toMatch(/(^|\n)errno=0\n\n$/);
    };
    await Promise.all([churn(), dump(), dump(), churn()]);
  });
});
