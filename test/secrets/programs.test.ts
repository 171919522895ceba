/**
 * The programs themselves are searched as they run: no session, ephemeral, shared or chaining key is in the memory of `sealane device`,
 * `sealane up` or `sealaned run` once the session is over. The other end is a process that has the same secrets and tells them; ephemeral
 * keys are told by the searched one as it draws them.
 */
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { SEALANE } from '../cli/client-support.ts';
import { SEALANED } from '../cli/server-support.ts';
import { type Host, Lab, missing, until } from '../support/lab.ts';
import { keyPair, OUTER } from '../support/wireguard.ts';
import { End, ENDS, expectLive, letSessionsEnd, observed, Told } from './end.ts';

const HANDSHAKES = 4;
const PORT = 51_820;
const INNER = { program: '10.77.0.1', teller: '10.77.0.2' };

interface Place {
  readonly lab: Lab;
  readonly host: Host;
  /** Of the interface. */
  readonly name: string;
  /** The public key of the other end, in base64. */
  readonly peer: string;
  readonly start: (...command: readonly string[]) => End;
}

interface Program {
  readonly end: End;
  /** In base64. */
  readonly publicKey: string;
  /** Absent where it only answers. */
  readonly rekey?: () => Promise<unknown>;
  /** Resolves when it is gone. */
  readonly removePeer: () => Promise<unknown>;
}

const PROGRAMS: Readonly<Record<string, (place: Place) => Promise<Program>>> = {
  'sealane device': async ({ lab, host, name, peer, start }) => {
    const end = start(SEALANE, 'device', name);
    await saysOn(end, 'is ready');
    await host.must('wg', ['setconf', name, await lab.file('setconf', await fileOf(peer))]);
    await host.must('ip', ['addr', 'add', `${INNER.program}/24`, 'dev', name]);
    await host.must('ip', ['link', 'set', name, 'up']);
    return { end, ...(await controlled(host, name, peer)) };
  },
  'sealane up': async ({ lab, host, name, peer, start }) => {
    const file = await lab.file(`${name}.conf`, await fileOf(peer, `Address = ${INNER.program}/24`));
    const end = start(SEALANE, 'up', file);
    await saysOn(end, ' is up: ');
    return { end, ...(await controlled(host, name, peer)) };
  },
  'sealaned run': async ({ lab, host, name, peer, start }) => {
    const state = join(lab.folder, 'state');
    const sealaned = (...args: readonly string[]): Promise<string> =>
      host.must(process.execPath, [SEALANED, ...args, '--state', state]);
    await sealaned('init', '--endpoint', `${OUTER.a4}:${PORT}`, '--pool', '10.77.0.0/24');
    await sealaned('peer', 'add', 'teller', '--public-key', peer, '--no-psk', '--out', join(lab.folder, 'teller.conf'));
    const end = start(SEALANED, 'run', '--state', state, '--interface', name, '--json');
    await end.heard((line) => line.event === 'ready');
    const { live } = JSON.parse(await sealaned('status', '--json')) as { live: { publicKey: string } };
    return { end, publicKey: live.publicKey, removePeer: () => sealaned('peer', 'remove', 'teller') };
  },
};

async function controlled(host: Host, name: string, peer: string): Promise<Omit<Program, 'end'>> {
  return {
    publicKey: (await host.must('wg', ['show', name, 'public-key'])).trim(),
    rekey: () => host.must(process.execPath, [SEALANE, 'rekey', name]),
    removePeer: () => host.must('wg', ['set', name, 'peer', peer, 'remove']),
  };
}

async function fileOf(peer: string, ...lines: readonly string[]): Promise<string> {
  const { privateKey } = await keyPair();
  const own = ['[Interface]', `PrivateKey = ${privateKey}`, `ListenPort = ${PORT}`, ...lines];
  const other = ['[Peer]', `PublicKey = ${peer}`, `AllowedIPs = ${INNER.teller}/32`, `Endpoint = ${OUTER.b4}:${PORT}`];
  return `${[...own, ...other].join('\n')}\n`;
}

async function saysOn(end: End, text: string): Promise<void> {
  await until(`'${text}'`, () => end.stderr.includes(text) || end.child.exitCode !== null, 60_000);
  expect(end.stderr).toContain(text);
}

describe.for(Object.keys(PROGRAMS))('%s', (title) => {
  const reason = missing('wg', 'nft');

  it('holds no key of a session that is over, nor of a removed peer', { timeout: 240_000 }, async ({ skip }) => {
    if (reason !== undefined) skip(reason);
    await using lab = await Lab.open();
    const [a, b] = [await lab.host('a'), await lab.host('b')];
    await lab.join(a, 'va', [`${OUTER.a4}/24`], b, 'vb', [`${OUTER.b4}/24`]);
    const ahead = await lab.file('ahead', '0');
    const told = new Told();
    const name = lab.interfaceName('t');
    const teller = new End(b, told, [ENDS, 'teller']);
    const { publicKey } = await teller.heard((line) => line.publicKey !== undefined);
    const {
      end,
      publicKey: own,
      rekey,
      removePeer,
    } = await PROGRAMS[title]!({
      lab,
      host: a,
      name,
      peer: Buffer.from(publicKey!, 'hex').toString('base64'),
      start: (...command) => new End(a, told, command, { ...observed(ahead), STATE_DIRECTORY: lab.folder }),
    });
    teller.tell({ publicKey: Buffer.from(own, 'base64').toString('hex') });
    await teller.heard((line) => line.ready !== undefined);

    // By turns either end begins, so that the program is initiator and responder.
    const handshakes = async (): Promise<void> => {
      for (let i = 0; i < HANDSHAKES; i++) {
        await (i % 2 === 0 || rekey === undefined ? teller.ask('rekey') : rekey());
        await until(`session ${i + 1}`, async () => ((await teller.ask('send')).sessions ?? 0) >= i + 1, 60_000);
      }
    };
    await handshakes();
    expectLive(told, end.pid);

    // A packet that nobody answers any more makes it begin handshakes.
    await teller.ask('remove');
    const drawn = told.count('own ephemeral');
    await a.run('ping', ['-q', '-c', '1', '-W', '1', INNER.teller]);
    await letSessionsEnd(ahead);
    expect(told.count('own ephemeral')).toBeGreaterThan(drawn + 6);
    await until('the keys of the session to be gone', () => told.ofSessions(end.pid).length === 0, 30_000);

    await teller.ask('add');
    await handshakes();
    expect(told.ofSessions(end.pid)).toContain('session');
    await removePeer();
    expect(told.ofSessions(end.pid)).toEqual([]);
    end.child.kill('SIGTERM');
    expect(await end.exit).toBe(0);
    await teller.end();
  });
});
