/** The titles of tests, as their sources have them. */
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../../', import.meta.url));

/** What stands as the first argument of `it` and `describe` in a file of this repository, in all their forms; none when there is no file. */
export function titlesIn(file: string): readonly string[] {
  if (!existsSync(root + file)) return [];
  const text = readFileSync(root + file, 'utf8')
    .replaceAll(/^\s*\/\/.*$/gm, '')
    .replaceAll(/^\s*\/\*\*[\s\S]*?\*\//gm, '');
  const titles = text.matchAll(/(?:^|[\s.)])(?:it|describe)?[\w.]*\(\s*(?:'((?:[^'\\]|\\.)*)'|"([^"]*)"|`([^`]*)`)/gm);
  return Array.from(titles, (match) => match[1] ?? match[2] ?? match[3] ?? '');
}
