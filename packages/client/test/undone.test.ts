import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { UndoStep } from '../src/system/steps.ts';
import { readUndone, UndoneNotes } from '../src/system/undone.ts';

const STEPS: readonly UndoStep[] = ['a', 'b', 'c'].map((table) => ({ kind: 'table', table }));

let folder: string;
let path: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'sealane-undone-'));
  path = join(folder, 'file');
});

afterEach(() => rmSync(folder, { recursive: true }));

describe('what an ordinary user undid', () => {
  it('is left out by whoever reads on, each step as soon as it is told', () => {
    const notes = new UndoneNotes(path, STEPS);
    expect(readUndone(path, STEPS)).toEqual({ steps: STEPS, ended: false });
    notes.tell([STEPS[0]!, STEPS[2]!], false);
    expect(readUndone(path, STEPS)).toEqual({ steps: [STEPS[0], STEPS[2]], ended: false });
    notes.tell([STEPS[0]!], true);
    expect(readUndone(path, STEPS)).toEqual({ steps: [STEPS[0]], ended: true });
    expect(readFileSync(path, 'latin1')).toBe('1\n2\nended\n');
  });

  it('is of this journal alone: a file of one before is not read on, and others may not read it', () => {
    const before = process.umask(0);
    try {
      writeFileSync(path, '0\nended\n', { mode: 0o666 });
      void new UndoneNotes(path, STEPS);
      expect(readUndone(path, STEPS)).toEqual({ steps: STEPS, ended: false });
      expect((statSync(path).mode & 0o777).toString(8)).toBe('600');
    } finally {
      process.umask(before);
    }
  });

  it.each([
    ['what looks like a step', `${JSON.stringify({ kind: 'commands', hook: 'PostDown', commands: ['id'] })}\n`],
    ['a whole record', `${JSON.stringify({ version: 1, name: 'wg0', steps: STEPS, ended: true })}\n`],
    ['numbers that are none of its places', '3\n-1\n01\n1.0\n1e0\n0x1\n+1\n 1\n1 \n__proto__\nlength\n'],
    ['another word', 'END\nended \nEnded\n'],
    ['a line that is not whole', '1'],
    ['what comes behind more than there is to tell', `${'x'.repeat(4_096)}\n1\nended\n`],
    ['bytes', '\0\xff1\n\r\n1\r\n'],
  ])('counts as nothing when it is %s', (_what, text) => {
    writeFileSync(path, text, 'latin1');
    expect(readUndone(path, STEPS)).toEqual({ steps: STEPS, ended: false });
  });
});
