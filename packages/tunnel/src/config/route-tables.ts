/** Names of routing tables, read as ip(8) reads them: wg-quick hands it `Table` as it stands. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

export type RouteTables = ReadonlyMap<string, number>;

/** What the kernel itself has (rtnetlink(7)). */
export const KERNEL_TABLES: RouteTables = new Map([
  ['default', 253],
  ['main', 254],
  ['local', 255],
]);

const ADMINISTRATOR = '/etc/iproute2';
/** What /etc does not override, where distributions put it. */
const DISTRIBUTION: readonly string[] = ['/usr/share/iproute2', '/usr/lib/iproute2'];

/** A number and a name; what follows does not count. */
const ENTRY = /^(?:0x([0-9a-fA-F]+)(?![0-9a-fA-F])|([+-]?\d+)(?!\d))\s*(\S+)/;
/** More does not fit where ip(8) keeps them. */
const MAX_NUMBER = 0x7fff_ffff;

/** The names in these texts, each that of a file, in the order in which ip(8) reads them. */
export function parseRouteTables(texts: readonly string[]): RouteTables {
  const tables = new Map(KERNEL_TABLES);
  for (const text of texts) {
    for (const line of text.split('\n')) {
      const entry = line.replace(/^[ \t]+/, '');
      if (entry === '' || entry.startsWith('#')) continue;
      const [, hexadecimal, decimal, name] = ENTRY.exec(entry) ?? [];
      // It reads a file up to what it does not understand.
      if (name === undefined) break;
      const number = hexadecimal === undefined ? Number(decimal) : Number.parseInt(hexadecimal, 16);
      if (number < 0 || number > MAX_NUMBER) continue;
      // A name that is there twice: it looks them up by the last byte of the number, and where that is equal the latest first.
      const before = tables.get(name);
      if (before === undefined || (number & 0xff) <= (before & 0xff)) tables.set(name, number);
    }
  }
  return tables;
}

/** The names that this system has. */
export function readRouteTables(
  administrator: string = ADMINISTRATOR,
  distribution: readonly string[] = DISTRIBUTION,
): RouteTables {
  const own = join(administrator, 'rt_tables');
  const main = [own, ...distribution.map((folder) => join(folder, 'rt_tables'))].find((path) => existsSync(path));
  const further = distribution
    .flatMap((folder) => parts(folder))
    .filter(({ file }) => !existsSync(join(administrator, 'rt_tables.d', file)));
  const paths = [...further, ...parts(administrator)].map(({ path }) => path);
  return parseRouteTables([...(main === undefined ? [] : [main]), ...paths].map(read));
}

function parts(folder: string): readonly { readonly file: string; readonly path: string }[] {
  const within = join(folder, 'rt_tables.d');
  try {
    const files = readdirSync(within).filter((file) => /^[^.].*\.conf$/.test(file));
    return files.toSorted().map((file) => ({ file, path: join(within, file) }));
  } catch {
    return [];
  }
}

/** What cannot be read names nothing. */
function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
