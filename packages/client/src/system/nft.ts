import { oneLine } from '@sealane/tunnel';
import { CliError, EXIT } from '../errors.ts';
import { runProgram } from './program.ts';

/** Applies an nftables script as one transaction; CliError with its own words when it fails. */
export async function nft(script: string): Promise<void> {
  const { status, stderr } = await runProgram('nft', ['-f', '-'], script);
  if (status === 0) return;
  const why = oneLine(stderr.split('\n')[0] ?? '').replace(/^.*?Error: /, '');
  throw new CliError(EXIT.failure, `nftables refuses our rules: ${why === '' ? 'it says no reason' : why}`);
}

/** A script that leaves exactly this table, whatever stood there before. `body` holds its sets and chains. */
export function replaceTable(table: string, body: string): string {
  return `table inet ${table} {}\ndelete table inet ${table}\ntable inet ${table} {\n${body}}\n`;
}

/** Removes a table if it is there. */
export async function deleteTable(table: string): Promise<void> {
  await nft(`table inet ${table} {}\ndelete table inet ${table}\n`);
}

/** The tables of family inet. */
export async function listTables(): Promise<readonly string[]> {
  const { stdout } = await runProgram('nft', ['list', 'tables', 'inet']);
  return [...stdout.matchAll(/^table inet (\S+)$/gm)].map(([, table]) => table!);
}

/** What a table holds, without its counts; empty when it is not there. */
export async function listTable(table: string): Promise<string> {
  return (await runProgram('nft', ['--stateless', 'list', 'table', 'inet', table])).stdout;
}
