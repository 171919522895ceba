/** Every test that SECURITY.md names for a claim is there. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('../../', import.meta.url));
const claims = Array.from(
  readFileSync(`${root}SECURITY.md`, 'utf8').matchAll(/`((?:test|packages)\/[^`]+\.test\.ts)`: "([^"]+)"/g),
  (match) => ({
    file: match[1]!,
    title: match[2]!,
  }),
);

describe('claims', () => {
  it('are made with tests', () => expect(claims.length).toBeGreaterThan(20));

  it.each(claims)('$file: $title', ({ file, title }) => {
    expect(readFileSync(root + file, 'utf8')).toContain(title);
  });
});
