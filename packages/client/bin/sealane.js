#!/usr/bin/env node
import { existsSync } from 'node:fs';
import * as nodeModule from 'node:module';
import { fileURLToPath } from 'node:url';

// Node would open a debugger for it, to every user of this computer and to all that is in memory.
process.on('SIGUSR1', () => undefined);

const cli = new URL('../bundle/cli.js', import.meta.url);
if (existsSync(cli)) {
  // Compiled code is kept (from Node 22 on) where only those write who may change the program too, not in /tmp.
  const { enableCompileCache } = /** @type {{ enableCompileCache?: (folder: string) => unknown }} */ (nodeModule);
  enableCompileCache?.(fileURLToPath(new URL('../bundle/compiled', import.meta.url)));
  const { main } = await import(cli.href);
  process.exitCode = await main(process.argv.slice(2));
} else {
  process.stderr.write('sealane: not built yet: run `npm start` or `npm run setup` in the checkout first\n');
  process.exitCode = 1;
}
