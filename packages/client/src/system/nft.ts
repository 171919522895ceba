import { type NftProgram, oneLine } from '@sealane/tunnel';
import { CliError, EXIT } from '../errors.ts';
import { runProgram } from './program.ts';

/** Applies an nftables script as one transaction; CliError with its own words when it fails. */
export async function nft(script: string): Promise<void> {
  const { status, stderr } = await runProgram('nft', ['-f', '-'], script);
  if (status !== 0) throw new CliError(EXIT.failure, `nftables refuses our rules: ${reasonOf(stderr)}`);
}

function reasonOf(stderr: string): string {
  const why = oneLine(stderr.split('\n')[0] ?? '').replace(/^.*?Error: /, '');
  return why === '' ? 'it says no reason' : why;
}

/** A script that leaves exactly this table, whatever stood there before. `body` holds its sets and chains. */
export function replaceTable(table: string, body: string): string {
  return `table inet ${table} {}\ndelete table inet ${table}\ntable inet ${table} {\n${body}}\n`;
}

/** Removes a table if it is there. */
export async function deleteTable(table: string): Promise<void> {
  await nft(`table inet ${table} {}\ndelete table inet ${table}\n`);
}

/** The tables of family inet; CliError when they cannot be seen. */
export async function listTables(): Promise<readonly string[]> {
  const { status, stdout, stderr } = await runProgram('nft', ['list', 'tables', 'inet']);
  if (status !== 0) throw new CliError(EXIT.failure, `nftables does not list its tables: ${reasonOf(stderr)}`);
  return [...stdout.matchAll(/^table inet (\S+)$/gm)].map(([, table]) => table!);
}

/** What a table holds, without its counts; undefined when it is not there. CliError when it cannot be seen. */
export async function listTable(table: string): Promise<string | undefined> {
  const { status, stdout, stderr } = await runProgram('nft', ['--stateless', 'list', 'table', 'inet', table]);
  if (status === 0) return stdout;
  const why = reasonOf(stderr);
  // It may go on: 'did you mean ...'.
  if (why.startsWith('No such file or directory')) return undefined;
  throw new CliError(EXIT.failure, `nftables does not list the table ${table}: ${why}`);
}

export const nftProgram: NftProgram = { apply: nft, list: listTable };
