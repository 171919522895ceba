/** The same files read by the real wg-quick and `wg`, and by us: what each takes from them must be the same. */
import { describe, expect, it } from 'vitest';
import { formatKey } from '@sealane/protocol';
import {
  formatAddress,
  formatConfig,
  formatPrefix,
  type HookCommand,
  parseConfig,
  type TunnelConfig,
} from '@sealane/tunnel';
import { CORPUS } from '../../packages/tunnel/test/config/corpus.ts';
import { execute, Lab, missing } from '../support/lab.ts';
import { WireguardDevice } from '../support/wireguard.ts';

const reason = missing('wg-quick', 'wg', 'wireguard-go', 'bash');
/** Only wg's app for Windows drops a byte order mark: wg-quick finds no section in such a file. */
const FILES = Object.entries(CORPUS).filter(([, text]) => !text.startsWith('\uFEFF'));

/** The variables of wg-quick's own reader after it has read a file. */
const READ = `
source <(sed '/^if \\[\\[ \\$# -eq 1/,$d' "$(command -v wg-quick)")
parse_options "$1"
say() { local name=$1; shift; printf '%s:' "$name"; (($# == 0)) || printf ' <%s>' "$@"; printf '\\n'; }
say address "\${ADDRESSES[@]}"; say mtu $MTU; say dns "\${DNS[@]}"; say search "\${DNS_SEARCH[@]}"; say table $TABLE
say pre-up "\${PRE_UP[@]}"; say post-up "\${POST_UP[@]}"; say pre-down "\${PRE_DOWN[@]}"; say post-down "\${POST_DOWN[@]}"
say save $SAVE_CONFIG
`;

/** What wg-quick does itself, as READ says it. */
function ownPart({ interface: own }: TunnelConfig): string[] {
  const say = (name: string, words: readonly (string | number)[]): string =>
    `${name}:${words.map((word) => ` <${word}>`).join('')}`;
  const commands = (hooks: readonly HookCommand[]): string[] => hooks.map(({ command }) => command);
  return [
    say('address', own.addresses.map(formatPrefix)),
    say('mtu', own.mtu === undefined ? [] : [own.mtu]),
    say('dns', own.dns.servers.map(formatAddress)),
    say('search', own.dns.search),
    say('table', own.table === 'auto' ? [] : [own.table]),
    say('pre-up', commands(own.preUp)),
    say('post-up', commands(own.postUp)),
    say('pre-down', commands(own.preDown)),
    say('post-down', commands(own.postDown)),
    say('save', [own.saveConfig ? 1 : 0]),
  ];
}

/** What wg-quick then does by what READ says: an empty command is nothing, and an address without a length is ip(8)'s whole one. */
function inEffect(line: string): string {
  const [, name] = /^([\w-]+):/.exec(line)!;
  if (name !== 'address') return line.replaceAll(/ <>/g, '');
  return line.replaceAll(/<([\d.]+)>/g, '<$1/32>').replaceAll(/<([\da-f:]+)>/g, '<$1/128>');
}

/** What wg-quick leaves to `wg`, without order. */
function wgPart({ interface: own, peers }: TunnelConfig): unknown {
  const owners = new Map(peers.flatMap((peer) => peer.allowedIps.map((prefix) => [formatPrefix(prefix), peer])));
  return {
    privateKey: formatKey(own.privateKey),
    listenPort: own.listenPort ?? 0,
    fwmark: own.fwmark ?? 0,
    peers: Object.fromEntries(
      peers.map((peer) => [
        formatKey(peer.publicKey),
        {
          presharedKey: peer.presharedKey === undefined ? undefined : formatKey(peer.presharedKey),
          endpoint: peer.endpoints[0],
          keepalive: peer.persistentKeepalive ?? 0,
          // The last peer that names a prefix has it.
          allowedIps: [...owners]
            .filter(([, owner]) => owner === peer)
            .map(([prefix]) => prefix)
            .toSorted(),
        },
      ]),
    ),
  };
}

describe.skipIf(reason !== undefined)(`files of wg-quick (${reason ?? 'beside the real one'})`, () => {
  it.each(FILES)('are read as wg-quick reads them, and as we write them: %s', async (_, text) => {
    await using lab = await Lab.open();
    const config = parseConfig(text, 'wg0.conf');
    for (const version of [text, formatConfig(config)]) {
      const outcome = await execute('bash', ['-c', READ, 'bash', await lab.file('wg0.conf', version)]);
      expect(outcome.code, outcome.stderr).toBe(0);
      expect(outcome.stdout.split('\n').slice(0, -1).map(inEffect)).toEqual(ownPart(config));
    }
  });

  it.each(FILES)(
    "give wireguard-go what they give us, through 'wg-quick strip' and 'wg setconf': %s",
    async (_, text) => {
      await using lab = await Lab.open();
      const host = await lab.host('a');
      const theirs = await WireguardDevice.open(lab, host, 'wireguard-go', 'a');
      const stripped = await execute('wg-quick', ['strip', await lab.file('wg0.conf', text)]);
      expect(stripped.code, stripped.stderr).toBe(0);
      await host.must('wg', ['setconf', theirs.name, await lab.file('stripped', stripped.stdout)]);
      const shown = await theirs.wg('showconf', theirs.name);
      // A key that a command is to set is not there yet.
      const keyed = shown.includes('PrivateKey') ? shown : `${shown}[Interface]\nPostUp = wg set %i private-key a\n`;
      const read = wgPart(parseConfig(keyed, 'shown'));
      const own = wgPart(parseConfig(text, 'wg0.conf'));
      // A port that nobody chose is the system's.
      const port = /^ListenPort = (\d+)$/m.exec(shown)?.[1];
      expect(read).toEqual(
        (own as { listenPort: number }).listenPort === 0 ? { ...(own as object), listenPort: Number(port) } : own,
      );
    },
  );
});
