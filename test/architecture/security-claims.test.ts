/** Every test that SECURITY.md names for a claim is there, and every claim names one. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { titlesIn } from '../support/titles.ts';

const text = readFileSync(fileURLToPath(new URL('../../SECURITY.md', import.meta.url)), 'utf8');
/** A file in backquotes, and behind a colon the titles of tests in it, on as many lines as they need. */
const NAMED = /`((?:test|packages)\/[^`]+\.test\.ts)`:\s+((?:"[^"]+"(?:,\s+)?)+)/g;
const named = Array.from(text.matchAll(NAMED), ([, file, titles]) => ({ file: file!, titles: titles! }));
const claims = named.flatMap(({ file, titles }) =>
  Array.from(titles.matchAll(/"([^"]+)"/g), ([, title]) => ({ file, title: title!.replaceAll(/\s+/g, ' ') })),
);

/** The rows of the threat model, and the points of what we do about keys and the system. */
const statements = [
  ...text
    .split('\n')
    .filter((line) => line.startsWith('| ') && !/^\| (?:---|can or cannot) /.test(line))
    .map((line) => line.slice(2)),
  ...text
    .split(/^## /m)
    .filter((section) => section.startsWith('What we do with '))
    .flatMap((section) => section.split(/^- /m).slice(1)),
];

describe('claims', () => {
  it('are made with tests', () => {
    expect(claims.length).toBeGreaterThan(40);
    expect(statements.length).toBeGreaterThan(35);
  });

  it.each(statements)('%s', (statement) => {
    expect([...statement.matchAll(NAMED)]).not.toEqual([]);
  });

  it.each(claims)('$file: $title', ({ file, title }) => {
    expect(titlesIn(file)).toContain(title);
  });

  it('name each test file together with a test of it', () => {
    const files = Array.from(text.matchAll(/[\w./-]+\.test\.ts/g), ([file]) => file);
    expect(files).toEqual(named.map(({ file }) => file));
  });

  it('are all that stands in quotes', () => {
    const quoted = Array.from(text.matchAll(/"([^"]+)"/g), ([, title]) => title!.replaceAll(/\s+/g, ' '));
    expect(quoted).toEqual(claims.map(({ title }) => title));
  });
});
