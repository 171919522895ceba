/** `sealane up --cipher` between two namespaces: with it at both ends a tunnel, at one end none. */
import { describe, expect, it } from 'vitest';
import { clientFile, SERVER, twoHosts, up } from './client-lab.ts';
import { sealane } from './client-support.ts';
import { Lab, missing, until } from '../support/lab.ts';
import { ping } from '../support/wireguard.ts';

const reason = missing('ping');

interface Status {
  readonly peers: readonly { readonly cipherSuite: string; readonly sessions: number }[];
  readonly drops: Readonly<Record<string, number>>;
}

async function status(name: string): Promise<Status> {
  return JSON.parse((await sealane(['status', name, '--json'])).stdout) as Status;
}

describe.skipIf(reason !== undefined)(`sealane up --cipher (${reason ?? 'between two namespaces'})`, () => {
  it('makes a tunnel when both ends have it, and keeps it when the file is read again', async () => {
    await using lab = await Lab.open();
    const { a, b } = await twoHosts(lab);
    const [here, there] = [lab.interfaceName('a'), lab.interfaceName('b')];
    await up(lab, b, there, SERVER, '--cipher', 'aes256gcm');
    const text = clientFile('10.88.0.0/24, fd08::/64');
    await up(lab, a, here, text, '--cipher', 'aes256gcm');
    expect((await ping(a, '10.88.0.1', { count: 2 })).received).toBe(2);
    expect((await sealane(['status', here])).stdout).toContain('aes256gcm (not WireGuard-compatible)');

    const wider = await lab.file('wider.conf', clientFile('10.88.0.0/24, 10.97.0.0/16, fd08::/64'));
    expect(await sealane(['sync', here, wider])).toMatchObject({ code: 0, stderr: '' });
    expect((await status(here)).peers).toMatchObject([{ cipherSuite: 'aes256gcm', sessions: 1 }]);
    expect((await ping(a, '10.88.0.1', { count: 2 })).received).toBe(2);
  });

  it('makes none when only one end has it, and the other end says why', async () => {
    await using lab = await Lab.open();
    const { a, b } = await twoHosts(lab);
    const [here, there] = [lab.interfaceName('a'), lab.interfaceName('b')];
    const server = await up(lab, b, there, SERVER);
    await up(lab, a, here, clientFile('10.88.0.0/24, fd08::/64'), '--cipher', 'aes256gcm');
    await until('the refusal to be logged', () => server.stderr.includes('cipher-mismatch'));
    expect(server.stderr).toContain("write the same 'Cipher' in [Peer] at both ends");
    expect((await ping(a, '10.88.0.1', { count: 1 })).received).toBe(0);
    expect((await status(there)).drops['cipher-mismatch']).toBeGreaterThan(0);
    for (const name of [here, there]) expect((await status(name)).peers).toMatchObject([{ sessions: 0 }]);
  });
});
