/** Name servers of a tunnel, through the program that manages them on this system. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type DnsConfig, formatAddress, oneLine, parseAddress } from '@sealane/tunnel';
import { CliError, EXIT } from '../errors.ts';
import { hasProgram, runProgram } from './program.ts';

export type DnsProgram = 'resolvectl' | 'resolvconf';

/** Where Debian's resolvconf, which lists nothing, keeps its records. */
const RECORDS = '/etc/resolvconf/run/interface';

/** What sets name servers here: systemd-resolved if it runs, else resolvconf; undefined when there is neither. */
export function dnsProgram(): DnsProgram | undefined {
  if (existsSync('/run/systemd/resolve') && hasProgram('resolvectl')) return 'resolvectl';
  return hasProgram('resolvconf') ? 'resolvconf' : undefined;
}

/**
 * Makes the system ask these servers and no others, as wg-quick does. CliError when nothing here can do it: a tunnel without
 * its name servers would ask those outside. `note` is told of the record that `unsetResolvconf` takes back, if one is
 * needed, before it is set.
 */
export async function setDns(name: string, dns: DnsConfig, note: (record: string) => void): Promise<void> {
  const program = dnsProgram();
  if (program === undefined) {
    const remedy = 'install openresolv or systemd-resolved, or leave it out with --no-dns';
    throw new CliError(EXIT.failure, `DNS cannot be set, there is neither resolvectl nor resolvconf: ${remedy}`);
  }
  const servers = dns.servers.map(formatAddress);
  if (program === 'resolvectl') {
    // systemd-resolved forgets a link's settings with the link. An empty word stands for an empty list, `~.` for every name.
    await must('resolvectl', ['dns', name, ...orNone(servers)]);
    await must('resolvectl', ['domain', name, ...orNone([...dns.search, ...(servers.length > 0 ? ['~.'] : [])])]);
    return;
  }
  const record = interfacePrefix() + name;
  const lines = servers.map((server) => `nameserver ${server}\n`).join('');
  const search = dns.search.length === 0 ? '' : `search ${dns.search.join(' ')}\n`;
  note(record);
  await must('resolvconf', ['-a', record, '-m', '0', '-x'], lines + search);
}

/** Makes systemd-resolved forget the settings of a link that stays; does nothing where it does not run. */
export async function forgetLink(name: string): Promise<void> {
  if (dnsProgram() === 'resolvectl') await must('resolvectl', ['revert', name]);
}

/** The name servers of a tunnel as its record has them now; undefined where no record with servers is kept. */
export async function liveServers(name: string): Promise<readonly Uint8Array[] | undefined> {
  if (dnsProgram() !== 'resolvconf') return undefined;
  const record = interfacePrefix() + name;
  const listed = await runProgram('resolvconf', ['-l', record]);
  const text = listed.status === 0 ? listed.stdout : readOptional(join(RECORDS, record));
  const servers = [...text.matchAll(/^nameserver (\S+)$/gm)].flatMap(([, address]) => parseAddress(address!) ?? []);
  return servers.length === 0 ? undefined : servers;
}

/** Takes a record back, if it is there. */
export async function unsetResolvconf(record: string): Promise<void> {
  await must('resolvconf', ['-d', record, '-f']);
}

function orNone(words: readonly string[]): readonly string[] {
  return words.length === 0 ? [''] : words;
}

/** Debian's resolvconf sorts records by prefixes of their names: wg-quick takes the first that stands for tunnels. */
function interfacePrefix(): string {
  const prefix = /^([A-Za-z0-9-]+)\*$/m.exec(readOptional('/etc/resolvconf/interface-order'))?.[1];
  return prefix === undefined ? '' : `${prefix}.`;
}

function readOptional(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

async function must(program: DnsProgram, words: readonly string[], input = ''): Promise<void> {
  const { status, stderr } = await runProgram(program, words, input);
  if (status === 0) return;
  throw new CliError(EXIT.failure, `'${program} ${words.join(' ')}' failed: ${oneLine(stderr) || `status ${status}`}`);
}
