/** What a tunnel in the background says: each start shows its own lines, and the log that stays is bounded, and gone after down. */
import { appendFileSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { clientFile, runSealane, systemOf, tryUp, twoHosts } from './client-lab.ts';
import { Lab, missing, type Result, until } from '../support/lab.ts';

const reason = missing('nft');

function logsOf(name: string): readonly string[] {
  return readdirSync('/run/sealane-client').filter((file) => file.startsWith(`${name}.`) && file.includes('.log'));
}

/** Also when nobody waits for it. */
function isOver(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/stat`, 'utf8').includes(') Z ');
  } catch {
    return true;
  }
}

/** The process and the log that a start told of. */
function startedOf({ code, stderr }: Result): { readonly pid: number; readonly log: string } {
  expect(code, stderr).toBe(0);
  const [, pid, log] = /runs in the background: process (\d+), log (\S+)\n$/.exec(stderr)!;
  return { pid: Number(pid), log: log! };
}

describe.skipIf(reason !== undefined)(`--detach (${reason ?? 'in a namespace'})`, { timeout: 180_000 }, () => {
  it('of many at once on one name, one has it and each tells what itself has to say', async () => {
    await using lab = await Lab.open();
    const { a } = await twoHosts(lab);
    const name = lab.interfaceName('a');
    const file = await lab.file(`${name}.conf`, clientFile('10.88.0.0/24'));
    const starts = await Promise.all([1, 2, 3, 4].map(() => tryUp(lab, a, file, '--detach')));
    const [winner, ...more] = starts.filter(({ code }) => code === 0);
    expect(more).toEqual([]);
    const { log } = startedOf(winner!);
    expect(winner!.stderr).toMatch(/^sealane: \w+ is up: [^\n]*\nsealane: \w+ runs in the background: [^\n]*\n$/);
    for (const { code, stderr } of starts.filter((start) => start !== winner)) {
      expect(stderr).toMatch(new RegExp(`^sealane: ${name} is in use: [^\\n]*\\n$`));
      expect(code).toBe(1);
    }
    expect(readFileSync(log, 'utf8')).toMatch(/^sealane: \w+ is up: [^\n]*\n$/);
    expect(logsOf(name)).toHaveLength(1);

    const late = await tryUp(lab, a, file, '--detach');
    expect(late.stderr).toMatch(new RegExp(`^sealane: ${name} is in use: [^\\n]*\\n$`));
    expect(readFileSync(log, 'utf8')).toMatch(/^sealane: \w+ is up: /);
    expect((await runSealane(a, 'down', name)).code).toBe(0);
    expect(logsOf(name)).toEqual([]);
  });

  it('keeps what it said last when it dies, and tells where', async () => {
    await using lab = await Lab.open();
    const { a } = await twoHosts(lab);
    const before = await systemOf(a);
    const name = lab.interfaceName('a');
    const file = await lab.file(`${name}.conf`, clientFile('10.88.0.0/24'));
    const first = startedOf(await tryUp(lab, a, file, '--detach'));
    await a.must('ip', ['link', 'delete', name]);
    await until('its end to be told', () => readFileSync(first.log, 'utf8').includes('was deleted'));
    await until('its end', () => isOver(first.pid));
    for (const command of ['status', 'down']) {
      const { code, stderr } = await runSealane(a, command, name);
      const where = `what the last one in the background said is in ${first.log}`;
      expect(stderr).toBe(`sealane: no tunnel ${name} is running here; ${where}\n`);
      expect(code).toBe(1);
    }

    const second = startedOf(await tryUp(lab, a, file, '--detach', '--kill-switch'));
    expect(readFileSync(second.log, 'utf8')).not.toContain('was deleted');
    process.kill(second.pid, 'SIGKILL');
    await until('its end', () => isOver(second.pid));
    const down = await runSealane(a, 'down', name);
    expect(down.stderr).toMatch(/had been killed; undone: [^\n]*\nsealane: what it said is in (\S+)\n$/);
    expect(down.code).toBe(0);
    expect(readFileSync(second.log, 'utf8')).toContain(`${name} is up: `);
    expect(await systemOf(a)).toBe(before);
  });

  it.each(['up', 'device'])('keeps the newer part of a log that grows: %s', async (command) => {
    await using lab = await Lab.open();
    const { a } = await twoHosts(lab);
    const name = lab.interfaceName('a');
    const file = await lab.file(`${name}.conf`, clientFile('10.88.0.0/24'));
    const start =
      command === 'up' ? await tryUp(lab, a, file, '--detach') : await runSealane(a, command, name, '--detach');
    const { log } = startedOf(start);
    const lines = Array.from({ length: 40_000 }, (_, i) => `line ${i} ${'x'.repeat(40)}\n`).join('');
    expect(lines.length).toBeGreaterThan(2 ** 21 - 2 ** 17);
    appendFileSync(log, lines);
    await until('it to be shortened', () => statSync(log).size < 2 ** 20, 60_000);
    await until('its newer part', () => readFileSync(log, 'utf8').includes('line 39999 '));
    const kept = readFileSync(log, 'utf8');
    expect(kept).toMatch(/^line \d+ x{40}\n/);
    expect(kept.length).toBeGreaterThan(2 ** 18);
    expect(kept).not.toContain('line 0 ');
    expect((await runSealane(a, 'down', name)).code).toBe(0);
    expect(logsOf(name)).toEqual([]);
  });
});
