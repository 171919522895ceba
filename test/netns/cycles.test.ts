/**
 * Tunnels that come up and go down again and again under traffic leave nothing behind: no interface, address, route, rule,
 * nftables table, name server, control socket, journal, process or descriptor. SEALANE_CYCLES=1000 is the long run.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { clientFile, SERVER, systemOf, twoHosts, up } from '../cli/client-lab.ts';
import { SEALANE } from '../cli/client-support.ts';
import { execute, Lab, missing, until } from '../support/lab.ts';
import type { Host } from '../support/lab.ts';

const TUNNEL_CYCLES = fileURLToPath(new URL('../support/tunnel-cycles.mjs', import.meta.url));
const CYCLES = Number(process.env['SEALANE_CYCLES'] ?? 6);
const KILLS = Math.max(2, Math.round(CYCLES / 10));
const PATIENCE = 120_000 + CYCLES * 30_000;
/** A long run shares its machine with others. */
const LONGEST_START = CYCLES > 100 ? 900_000 : 45_000;

const reason = missing('ping', 'nft');

/** A resolvconf(8) that keeps a file a record. */
const RESOLVCONF = `#!/bin/sh
cd "$RESOLVCONF_FOLDER" || exit 1
case "$1" in
-a) cat > "record.$2" ;;
-d) rm "record.$2" || exit 1 ;;
esac
`;

interface Counts {
  readonly descriptors: number;
  readonly threads: number;
}

interface Cycles {
  readonly host: Host;
  readonly name: string;
  readonly file: string;
  readonly env: Readonly<Record<string, string>>;
  /** All that a tunnel may leave, as text. */
  readonly left: () => Promise<string>;
}

describe.skipIf(reason !== undefined)(`sealane up, again and again (${reason ?? 'between two namespaces'})`, () => {
  it(`leaves nothing after ${CYCLES} times up and down under traffic`, { timeout: PATIENCE }, async () => {
    await using lab = await Lab.open();
    const { host, name, file, env, left } = await prepare(lab);
    const before = await left();
    for (let cycle = 0; cycle < CYCLES; cycle++) {
      const running = host.start(process.execPath, [SEALANE, 'up', file], env);
      await until('the tunnel to be up', () => running.stderr.includes(' is up: ') || exited(running), LONGEST_START);
      expect(running.stderr).toContain(`${name} is up: `);
      await answered(host);
      expect(await running.stop(), running.stderr).toBe(0);
      expect(await left()).toBe(before);
    }
  });

  it(`leaves nothing after ${KILLS} ends by kill -9 and sealane down`, { timeout: PATIENCE }, async () => {
    await using lab = await Lab.open();
    const { host, name, file, env, left } = await prepare(lab);
    const before = await left();
    for (let cycle = 0; cycle < KILLS; cycle++) {
      const running = host.start(process.execPath, [SEALANE, 'up', file], env);
      await until('the tunnel to be up', () => running.stderr.includes(' is up: ') || exited(running), LONGEST_START);
      await answered(host);
      await running.stop('SIGKILL');
      expect(await left()).not.toBe(before);
      const words = Object.entries(env).map(([key, value]) => `${key}=${value}`);
      const down = await host.run('env', [...words, process.execPath, SEALANE, 'down', name]);
      expect(down.stderr).toContain(`${name} had been killed; undone: `);
      expect(down.code).toBe(0);
      expect(await left()).toBe(before);
    }
  });

  it(
    `leaves no descriptor and no thread in a process that opens ${CYCLES} tunnels`,
    { timeout: PATIENCE },
    async () => {
      await using lab = await Lab.open();
      const host = await lab.host('a');
      const name = lab.interfaceName('a');
      const output = await host.must(process.execPath, [TUNNEL_CYCLES, name, String(CYCLES)], { timeout: PATIENCE });
      const { first, last, answered } = JSON.parse(output) as Record<'first' | 'last', Counts> & { answered: number };
      expect(answered).toBe(CYCLES);
      expect(last.descriptors).toBeLessThanOrEqual(first.descriptors);
      expect(last.threads).toBeLessThanOrEqual(first.threads);
      expect((await host.run('ip', ['link', 'show', name])).code).not.toBe(0);
    },
  );
});

async function prepare(lab: Lab): Promise<Cycles> {
  const { a, b } = await twoHosts(lab);
  await up(lab, b, lab.interfaceName('b'), SERVER);
  await a.must('ip', ['route', 'add', 'default', 'via', '192.168.88.2']);
  // Traffic into the tunnel all the time, also while there is none.
  a.start('ping', ['-q', '-i', '0.05', '10.88.0.1']);
  const name = lab.interfaceName('a');
  const folder = join(lab.folder, 'names');
  await mkdir(folder);
  await mkdir(join(lab.folder, 'bin'));
  await writeFile(join(lab.folder, 'bin', 'resolvconf'), RESOLVCONF, { mode: 0o755 });
  const env = {
    STATE_DIRECTORY: lab.folder,
    RESOLVCONF_FOLDER: folder,
    PATH: `${join(lab.folder, 'bin')}:${process.env['PATH']}`,
  };
  const file = await lab.file(`${name}.conf`, clientFile('0.0.0.0/0, ::/0', 'DNS = 10.88.0.1'));
  const of = (path: string): readonly string[] =>
    readdirSync(path).filter((entry) => entry.includes(name) && !entry.endsWith('.log'));
  const left = async (): Promise<string> => {
    const pids = (await execute('ip', ['netns', 'pids', a.name])).stdout.trim().split('\n');
    const programs = pids.map((pid) => nameOf(pid)).filter((text) => text !== 'ip');
    const sockets = await a.must('ss', ['-Hlun']);
    const parts = [readdirSync(folder), of('/var/run/wireguard'), of('/run/sealane-client'), programs.toSorted()];
    return [await systemOf(a), sockets, ...parts.map((list) => list.join(' '))].join('\n');
  };
  await until('the traffic to begin', async () => (await left()).includes('ping'));
  return { host: a, name, file, env, left };
}

function nameOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').trim();
  } catch {
    return 'ip';
  }
}

function exited(running: { readonly child: { readonly exitCode: number | null } }): boolean {
  return running.child.exitCode !== null;
}

async function answered(host: Host): Promise<void> {
  await until('a packet through the tunnel', async () => {
    const pinged = await host.run('ping', ['-n', '-q', '-c', '1', '-W', '2', '10.88.0.1']);
    return pinged.code === 0;
  });
}
