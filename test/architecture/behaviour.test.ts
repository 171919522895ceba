/** Every behaviour in docs/behaviour.md names tests that are there. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { titlesIn } from '../support/titles.ts';

const text = readFileSync(fileURLToPath(new URL('../../docs/behaviour.md', import.meta.url)), 'utf8');
const rows = text.split('\n').filter((line) => /^\| (?!behaviour|item)/.test(line));

/** A file in backquotes, and behind a colon the titles of tests in it. */
function claimsOf(row: string): { readonly file: string; readonly title: string }[] {
  const named = row.matchAll(/`((?:test|packages)\/[^`]+\.test\.ts)`: ((?:"[^"]+"(?:, )?)+)/g);
  return Array.from(named, ([, file, titles]) =>
    Array.from(titles!.matchAll(/"([^"]+)"/g), ([, title]) => ({ file: file!, title: title! })),
  ).flat();
}

describe('behaviour', () => {
  it('is described', () => expect(rows.length).toBeGreaterThan(50));

  it.each(rows)('%s', (row) => {
    const claims = claimsOf(row);
    expect(claims).not.toEqual([]);
    for (const { file, title } of claims) expect(titlesIn(file)).toContain(title);
  });
});
