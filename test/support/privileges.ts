/** What a running process may do, as /proc tells it of each of its threads. */
import { readdirSync, readFileSync } from 'node:fs';
import { expect } from 'vitest';

export const NET_ADMIN = '0000000000001000';
export const NET_ADMIN_AND_BIND = '0000000000001400';
export const NET_BIND = '0000000000000400';
const NONE = '0000000000000000';

/**
 * Every thread of a process that belongs to `uid` can gain nothing and has these capabilities, or none where root has become
 * an ordinary user; and it dumps no core.
 */
export function expectFewPrivileges(pid: number, capabilities: string, uid = 0): void {
  const sets = readdirSync(`/proc/${pid}/task`).flatMap((thread) => {
    const status = statusOf(pid, thread);
    if (status === undefined) return [];
    const field = (name: string): string | undefined => new RegExp(`^${name}:\\s*(.*)$`, 'm').exec(status)?.[1];
    expect(field('Uid')).toBe(Array<number>(4).fill(uid).join('\t'));
    expect(field('NoNewPrivs')).toBe('1');
    for (const name of ['CapInh', 'CapAmb']) expect([field('CapPrm'), NONE]).toContain(field(name));
    if (uid === 0) expect(field('CapEff')).toBe(capabilities);
    else expect([field('CapPrm'), NONE]).toContain(field('CapEff'));
    return [field('CapPrm')];
  });
  expect(new Set(sets)).toEqual(new Set(uid === 0 ? [capabilities] : [capabilities, NONE]));
  expect(readFileSync(`/proc/${pid}/limits`, 'utf8')).toMatch(/^Max core file size +0 +0/m);
}

/** Undefined when the thread has ended since it was listed. */
function statusOf(pid: number, thread: string): string | undefined {
  try {
    return readFileSync(`/proc/${pid}/task/${thread}/status`, 'utf8');
  } catch (error) {
    if (['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '')) return undefined;
    throw error;
  }
}
