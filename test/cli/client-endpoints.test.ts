/** An endpoint name that stands for another address after a while, through the hosts file of the namespace. */
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { clientFile, SERVER, twoHosts, up } from './client-lab.ts';
import { Lab, missing, until } from '../support/lab.ts';

const reason = missing('ping', 'wg');

describe.skipIf(reason !== undefined)(`endpoints of sealane up (${reason ?? 'between two namespaces'})`, () => {
  it('looks names up again and moves to the new address', async () => {
    await using lab = await Lab.open();
    const { a, b } = await twoHosts(lab);
    const folder = `/etc/netns/${a.name}`;
    await mkdir(folder, { recursive: true });
    try {
      await writeFile(`${folder}/hosts`, '192.168.88.77 vpn.test\n');
      await up(lab, b, lab.interfaceName('b'), SERVER);
      const name = lab.interfaceName('a');
      const text = clientFile('10.88.0.0/24').replace('192.168.88.2:51888', 'vpn.test:51888');
      const here = await up(lab, a, name, text, '--resolve-every', '1', '--log-format', 'json');
      expect(await a.must('wg', ['show', name, 'endpoints'])).toContain('192.168.88.77:51888');
      await writeFile(`${folder}/hosts`, '192.168.88.2 vpn.test\n');
      await until('the new address', async () =>
        (await a.must('wg', ['show', name, 'endpoints'])).includes('192.168.88.2:51888'),
      );
      await until(
        'an answer',
        async () => (await a.run('ping', ['-c', '1', '-W', '1', '10.88.0.1'])).code === 0,
        30_000,
      );
      const entries = here.stderr
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line) as { event: string; message: string });
      expect(entries.map(({ event }) => event)).toEqual(expect.arrayContaining(['up', 'endpoint']));
      expect(entries.some(({ message }) => message.includes('has a new address, 192.168.88.2:51888'))).toBe(true);
      expect(await here.stop()).toBe(0);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });
});
