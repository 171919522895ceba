/** What this computer offers, whatever the configuration. */
import { existsSync, readFileSync } from 'node:fs';
import { release } from 'node:os';
import { CAPABILITY, privileges, selectCrypto } from '@sealane/tunnel';
import { dnsProgram } from '../system/dns.ts';
import { hasProgram } from '../system/program.ts';
import { killedTunnels } from '../up/killed.ts';
import { bad, good, hint, type Finding } from './finding.ts';

/** Below this a burst overflows the socket's queue at a gigabit. */
const GOOD_BUFFER = 4 * 2 ** 20;
/** Kernel versions that brought what the Linux lane uses (tun.c, udp(7)). */
const KERNEL_FEATURES: readonly (readonly [version: number, what: string])[] = [
  [4.18, 'UDP_SEGMENT'],
  [5, 'UDP_GRO'],
  [6.02, 'UDP offloads of TUN'],
];

export function examineSystem(): readonly Finding[] {
  return [
    ...(process.platform === 'linux'
      ? [examinePermission(), examineTun(), ...examineKernel(), ...examinePrograms(), ...examineBuffers()]
      : [hint('system', `${process.platform} has no interfaces here`, "use 'sealane proxy', which needs none")]),
    examineCrypto(),
    examineClock(Date.now()),
    ...examineLeftovers(),
  ];
}

function examinePermission(): Finding {
  const { permitted } = privileges();
  if ((permitted & (1n << BigInt(CAPABILITY.netAdmin))) !== 0n) return good('permission', 'interfaces may be made');
  const remedy = "run as root, or use 'sealane proxy' or 'sealane ping', which need no permission";
  return hint('permission', 'this user may make no interface (CAP_NET_ADMIN)', remedy);
}

function examineTun(): Finding {
  if (existsSync('/dev/net/tun')) return good('TUN', '/dev/net/tun is there');
  return bad(
    'TUN',
    'there is no /dev/net/tun',
    "load the kernel module: 'modprobe tun'; in a container add --device /dev/net/tun",
  );
}

function examineKernel(): readonly Finding[] {
  const [, major = '0', minor = '0'] = /^(\d+)\.(\d+)/.exec(release()) ?? [];
  const version = Number(major) + Number(minor) / 100;
  const missing = KERNEL_FEATURES.filter(([since]) => version < since).map(([, what]) => what);
  if (missing.length === 0) return [good('kernel', `${release()} has all offloads that the Linux lane uses`)];
  return [
    hint('kernel', `${release()} lacks ${missing.join(', ')}`, 'the tunnel works and is slower; 6.2 or newer has all'),
  ];
}

function examinePrograms(): readonly Finding[] {
  const missing = (['ip', 'nft', 'bash'] as const).filter((program) => !hasProgram(program));
  const uses = { ip: "'sealane up' cannot work", nft: 'there is no --kill-switch', bash: 'PostUp and its like fail' };
  const packages = { ip: 'iproute2', nft: 'nftables', bash: 'bash' };
  return [
    ...missing.map((program) =>
      hint('programs', `${program} is missing: ${uses[program]}`, `install ${packages[program]}`),
    ),
    ...(missing.length === 0 ? [good('programs', 'ip, nft and bash are there')] : []),
    dnsProgram() === undefined
      ? hint(
          'DNS',
          'nothing here manages name servers: DNS lines cannot be followed',
          'install openresolv or systemd-resolved',
        )
      : good('DNS', `name servers are set through ${dnsProgram()}`),
  ];
}

function examineBuffers(): readonly Finding[] {
  const settings = (['rmem_max', 'wmem_max'] as const).filter((name) => {
    const value = Number(read(`/proc/sys/net/core/${name}`));
    return value > 0 && value < GOOD_BUFFER;
  });
  // Root may go above the limit.
  if (settings.length === 0 || process.geteuid?.() === 0) return [good('buffers', 'UDP buffers may be large')];
  const remedy = `sysctl ${settings.map((name) => `net.core.${name}=${GOOD_BUFFER}`).join(' ')}`;
  return [hint('buffers', 'UDP buffers are small: bursts are lost at high rates', remedy)];
}

function examineCrypto(): Finding {
  const { name } = selectCrypto();
  if (name.startsWith('native')) return good('crypto', name);
  return hint(
    'crypto',
    `${name}: the native library cannot be used`,
    'the tunnel works and is slower; libcrypto 3 is needed',
  );
}

/** Older than this program: handshakes would be refused as replays (opnsense and thingino saw it after a reboot). */
function examineClock(now: number): Finding {
  if (now < Date.UTC(2026, 0, 1)) {
    return bad(
      'clock',
      `it says ${new Date(now).toISOString()}`,
      'set the clock: servers refuse handshakes older than the last',
    );
  }
  if (existsSync('/run/systemd/timesync') && !existsSync('/run/systemd/timesync/synchronized')) {
    return hint('clock', 'it is not synchronized yet', "see 'timedatectl': a clock set back locks a key out");
  }
  return good('clock', new Date(now).toISOString());
}

function examineLeftovers(): readonly Finding[] {
  const { killed, unknown } = killedTunnels();
  return [
    ...killed.map(({ name, what, remedy }) => bad('leftovers', `${name} ${what}`, remedy)),
    ...unknown.map((what) => bad('leftovers', what, 'then undo by hand what it noted')),
  ];
}

function read(path: string): string {
  try {
    return readFileSync(path, 'ascii').trim();
  } catch {
    return '';
  }
}
