/** What the system refuses leaves no descriptor behind: real processes without permission, and without the device. */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';

const run = promisify(execFile);
const SCRIPT = fileURLToPath(new URL('support/failed-opens.mjs', import.meta.url));
const NOBODY = { uid: 65_534, gid: 65_534 };
const isRoot = process.platform === 'linux' && process.getuid!() === 0;

interface Refusal {
  readonly said: string;
  readonly first: number;
  readonly last: number;
}

function refusal({ stdout }: { readonly stdout: string }): Refusal {
  return JSON.parse(stdout) as Refusal;
}

describe.runIf(isRoot)('what is refused', () => {
  it.for([
    ['interface', /^no permission to create the TUN interface/],
    ['mark', /^marking datagrams \(fwmark\) is not permitted/],
    ['port', /^UDP port 1 \(IPv4\) needs privileges/],
  ] as const)('to a user without permission leaves no descriptor: %s', async ([what, said], { skip }) => {
    const unprivileged = Number(readFileSync('/proc/sys/net/ipv4/ip_unprivileged_port_start', 'ascii'));
    if (what === 'port' && unprivileged <= 1) skip('every user may have every port here');
    const { said: message, first, last } = refusal(await run(process.execPath, [SCRIPT, what], NOBODY));
    expect(message).toMatch(said);
    expect(last).toBe(first);
  });

  it('for want of /dev/net/tun leaves no descriptor', async () => {
    const hidden = 'mount -t tmpfs none /dev/net && exec "$0" "$@"';
    const words = ['--mount', 'sh', '-c', hidden, process.execPath, SCRIPT, 'interface'];
    const { said, first, last } = refusal(await run('unshare', words));
    expect(said).toMatch(/^this system has no \/dev\/net\/tun/);
    expect(last).toBe(first);
  });

  it('because the interface exists already leaves no descriptor', async () => {
    const { said, first, last } = refusal(await run(process.execPath, [SCRIPT, 'interface', 'lo']));
    expect(said).toMatch(/^the interface lo exists already/);
    expect(last).toBe(first);
  });
});
