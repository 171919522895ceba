import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { RefusedError } from '../errors.ts';

const run = promisify(execFile);

/**
 * Gives a TUN interface its addresses (each with the length of its block, which makes the route) and MTU, and turns it on.
 * Everything goes away with the interface.
 * @throws RefusedError with what ip(8) said.
 */
export async function configureInterface(name: string, addresses: readonly string[], mtu: number): Promise<void> {
  await ip('link', 'set', 'dev', name, 'mtu', String(mtu));
  for (const address of addresses) {
    await ip('address', 'add', address, 'dev', name, ...(address.includes(':') ? ['nodad'] : []));
  }
  await ip('link', 'set', 'dev', name, 'up');
}

async function ip(...args: readonly string[]): Promise<void> {
  try {
    await run('ip', args, { timeout: 10_000 });
  } catch (error) {
    const said = error instanceof Error && 'stderr' in error ? String(error.stderr).trim() : '';
    const reason = said === '' ? (error as Error).message : said;
    throw new RefusedError(`'ip ${args.join(' ')}' failed: ${reason}`, { cause: error });
  }
}
