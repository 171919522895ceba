/** What `sealane status` shows: nothing that went wrong where nothing did, and a terminal that is given back. */
import { describe, expect, it } from 'vitest';
import { clientFile, SERVER, twoHosts, up } from './client-lab.ts';
import { sealane, SEALANE, start } from './client-support.ts';
import { Lab, missing, until } from '../support/lab.ts';

const reason = missing('script', 'stty');
const [ENTER, LEAVE] = ['\u001b[?1049h\u001b[?25l', '\u001b[?25h\u001b[?1049l'];

interface Status {
  readonly faults: Readonly<Record<string, number>>;
  readonly peers: readonly { readonly sessions: number }[];
}

describe.skipIf(reason !== undefined)(`sealane status (${reason ?? 'of a tunnel between two namespaces'})`, () => {
  it.each(['linux', 'portable'])('counts no fault for a start that goes well, lane %s', async (lane) => {
    await using lab = await Lab.open();
    const { a, b } = await twoHosts(lab);
    await up(lab, b, lab.interfaceName('b'), SERVER);
    const name = lab.interfaceName('a');
    await up(lab, a, name, `${clientFile('10.88.0.0/24')}PersistentKeepalive = 25\n`, '--lane', lane);
    let status: Status | undefined;
    await until('a session', async () => {
      status = JSON.parse((await sealane(['status', name, '--json'])).stdout) as Status;
      return status.peers[0]!.sessions > 0;
    });
    expect(status?.faults).toEqual({});
  });

  it.each(['SIGINT', 'SIGTERM'] as const)('watches on a screen of its own, until %s', async (signal) => {
    await using lab = await Lab.open();
    const { a } = await twoHosts(lab);
    const name = lab.interfaceName('a');
    await up(lab, a, name, clientFile('10.88.0.0/24'));
    const line = `stty rows 8 cols 40; echo "pid $$"; exec ${process.execPath} ${SEALANE} status ${name} --watch`;
    const watch = start(['script', '-qec', line, '/dev/null'], { TERM: 'xterm', NO_COLOR: '' });
    await until('two looks', () => watch.stdout.split('\u001b[H').length > 3);
    process.kill(Number(/pid (\d+)/.exec(watch.stdout)![1]), signal);
    expect((await watch.ended).code).toBe(0);
    const [, after = ''] = watch.stdout.split(ENTER);
    expect(watch.stdout.trimEnd().endsWith(LEAVE)).toBe(true);
    const frames = after.split('\u001b[H').slice(1, -1);
    for (const frame of frames) {
      // oxlint-disable-next-line no-control-regex
      const lines = frame.replaceAll(/\u001b\[[0-9;]*[a-zA-Z]/g, '').split('\r\n');
      expect(lines[0]).toMatch(/^\d\d:\d\d:\d\d$/);
      expect(lines.length).toBe(8);
      expect(lines.at(-1)).toMatch(/^\.\.\. \d+ more lines$/);
      expect(Math.max(...lines.map((text) => text.length))).toBe(40);
    }
  });

  it('writes no escape sequences to a terminal that knows none', async () => {
    await using lab = await Lab.open();
    const { a } = await twoHosts(lab);
    const name = lab.interfaceName('a');
    await up(lab, a, name, clientFile('10.88.0.0/24'));
    const line = `echo "pid $$"; exec ${process.execPath} ${SEALANE} status ${name} --watch`;
    const watch = start(['script', '-qec', line, '/dev/null'], { TERM: 'dumb' });
    await until('two looks', () => watch.stdout.split('public key').length > 2);
    process.kill(Number(/pid (\d+)/.exec(watch.stdout)![1]), 'SIGINT');
    expect((await watch.ended).code).toBe(0);
    expect(watch.stdout).not.toContain('\u001b');
  });
});
