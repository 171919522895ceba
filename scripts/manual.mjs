/**
 * Writes what is derived from the command trees: man pages and shell completions, into contrib/ or the folder given.
 * Run it after a change of commands or options: node scripts/manual.mjs
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { bashCompletion, fishCompletion, zshCompletion } from './manual/completion.mjs';
import { manPage } from './manual/man.mjs';
import { describe } from './manual/tree.mjs';
import { readOptions } from './options.mjs';

const { positionals } = readOptions('manual', 'node scripts/manual.mjs [FOLDER]', {}, []);
const folder = positionals[0] ?? fileURLToPath(new URL('../contrib', import.meta.url));
const client = await import(new URL('../packages/client/dist/cli.js', import.meta.url).href);
const server = await import(new URL('../packages/server/dist/cli.js', import.meta.url).href);

for (const program of [client.buildProgram(() => undefined), server.buildProgram()]) {
  const tree = describe(program);
  const files = {
    [`man/${tree.name}.1`]: manPage(tree),
    [`completion/${tree.name}.bash`]: bashCompletion(tree),
    [`completion/_${tree.name}`]: zshCompletion(tree),
    [`completion/${tree.name}.fish`]: fishCompletion(tree),
  };
  for (const [path, text] of Object.entries(files)) {
    await mkdir(join(folder, path, '..'), { recursive: true });
    await writeFile(join(folder, path), text);
  }
}
