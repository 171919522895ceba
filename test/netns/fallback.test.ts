/** A packet thread that cannot start, here because its file is missing: the portable lane serves, and the log says why. */
import { cp, rm, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { clientFile, SERVER, twoHosts, up } from '../cli/client-lab.ts';
import { iperf, iperfServer } from '../support/iperf.ts';
import { Lab, missing, until } from '../support/lab.ts';

const PACKAGE = fileURLToPath(new URL('../../packages/client', import.meta.url));

/** The client's program without one of its files. */
async function programWithout(file: string, folder: string): Promise<string> {
  for (const part of ['bin', 'bundle', 'package.json']) {
    await cp(join(PACKAGE, part), join(folder, part), { recursive: true });
  }
  await symlink(join(PACKAGE, 'node_modules'), join(folder, 'node_modules'));
  await rm(join(folder, 'bundle', file));
  return join(folder, 'bin/sealane.js');
}

it.for([
  ['linux-worker.js', '1'],
  ['linux-worker.js', '3'],
  ['data-lane-worker.js', '3'],
] as const)('a tunnel without %s and with --lanes %s serves all the same', async ([file, lanes], { skip }) => {
  const reason = missing('iperf3', 'ss');
  if (reason !== undefined) skip(reason);
  await using lab = await Lab.open();
  const { a, b } = await twoHosts(lab);
  await up(lab, a, lab.interfaceName('a'), clientFile('10.88.0.0/24, fd08::/64'));

  const program = await programWithout(file, join(lab.folder, 'install'));
  const config = await lab.file(`${lab.interfaceName('b')}.conf`, SERVER);
  const there = b.start(process.execPath, [program, 'up', config, '--lanes', lanes], { STATE_DIRECTORY: lab.folder });
  await until('the tunnel to be up', () => there.stderr.includes(' is up: '), 45_000);
  expect(there.stderr).toMatch(/The Linux lane could not start \(.+\): the portable lane runs, which is slower\./);

  // Whole packets with whole checksums: what the interface was asked for in vain is taken back.
  await iperfServer(b);
  for (const args of [
    ['-t', '1'],
    ['-t', '1', '-R'],
  ]) {
    const { end } = await iperf(a, '10.88.0.1', args);
    expect(end.sum_received.bytes).toBeGreaterThan(100_000);
  }
  const status = await b.must(process.execPath, [program, 'status', lab.interfaceName('b'), '--json']);
  expect(JSON.parse(status)).toMatchObject({ lane: 'portable' });
  expect(await there.stop()).toBe(0);
});
