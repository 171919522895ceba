import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseConfig } from '../../src/config/parse.ts';
import { parseRouteTables, readRouteTables, type RouteTables } from '../../src/config/route-tables.ts';
import { KEYS } from './corpus.ts';

const KERNEL = { default: 253, local: 255, main: 254 };

function own(tables: RouteTables): Record<string, number> {
  return Object.fromEntries([...tables].filter(([name]) => !(name in KERNEL)));
}

describe('names of routing tables', () => {
  it('are those of the kernel without any file', () => {
    expect(Object.fromEntries(parseRouteTables([]))).toEqual(KERNEL);
  });

  it('are read with their numbers, beside comments', () => {
    const text = [
      '#',
      '# reserved values',
      '255\tlocal',
      '254\tmain',
      '  # indented',
      '',
      ' \t100  vpn # for the office',
      '0x65 backup',
      '102 last word after it',
      '-1 none',
      '4294967295 beyond',
      '1000\thigh',
    ].join('\n');
    expect(own(parseRouteTables([text]))).toEqual({ vpn: 100, backup: 101, last: 102, high: 1_000 });
  });

  it.each(['vpn 100', '100', 'include other', '\r'])('end in a file at a line that is none: %j', (line) => {
    expect(own(parseRouteTables([`1 one\n${line}\n2 two\n`, '3 three\n']))).toEqual({ one: 1, three: 3 });
  });

  it('that are there twice stand for the number that ip(8) finds first', () => {
    expect(own(parseRouteTables(['5 vpn\n9 vpn\n']))).toEqual({ vpn: 5 });
    expect(own(parseRouteTables(['9 vpn\n', '5 vpn\n']))).toEqual({ vpn: 5 });
    expect(own(parseRouteTables(['5 vpn\n', '261 vpn\n']))).toEqual({ vpn: 261 });
    expect(parseRouteTables(['10 main\n']).get('main')).toBe(10);
  });

  it('are told by the caller: a file is not asked for a number', () => {
    const text = (table: string): string => `[Interface]\nPrivateKey = ${KEYS.alice.private}\nTable = ${table}\n`;
    const tables = (): RouteTables => new Map([['vpn', 100]]);
    const read = (table: string): unknown => parseConfig(text(table), 'f', undefined, tables).interface.table;
    expect(read('vpn')).toBe(100);
    expect(() => read('VPN')).toThrow("f:3: Table: 'VPN' is not 'auto', 'off', or");
    const never = (): never => expect.fail('was asked');
    expect(parseConfig(text('100'), 'f', undefined, never).interface.table).toBe(100);
  });
});

describe('the files with names of routing tables', () => {
  let folder: string;
  const write = (path: string, text: string): void => {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), text);
  };
  const read = (): Record<string, number> =>
    own(readRouteTables(join(folder, 'etc'), [join(folder, 'share'), join(folder, 'lib')]));

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'sealane-tables-'));
  });

  afterEach(() => {
    rmSync(folder, { recursive: true });
  });

  it('may all be missing', () => {
    expect(read()).toEqual({});
  });

  it('are that of /etc, and that of the distribution only when there is none', () => {
    write('lib/rt_tables', '1 lib\n');
    expect(read()).toEqual({ lib: 1 });
    write('share/rt_tables', '2 share\n');
    expect(read()).toEqual({ share: 2 });
    write('etc/rt_tables', '3 etc\n');
    expect(read()).toEqual({ etc: 3 });
  });

  it('are the parts of both folders that end in .conf; one of /etc hides one of the same name', () => {
    write('etc/rt_tables', '3 etc\n');
    write('etc/rt_tables.d/vpn.conf', '4 vpn\n');
    write('etc/rt_tables.d/vpn.conf.bak', '5 backup\n');
    write('etc/rt_tables.d/.hidden.conf', '6 hidden\n');
    write('etc/rt_tables.d/.conf', '7 nameless\n');
    write('share/rt_tables.d/vpn.conf', '8 older\n');
    write('share/rt_tables.d/more.conf', '9 more\n');
    mkdirSync(join(folder, 'etc/rt_tables.d/folder.conf'));
    expect(read()).toEqual({ etc: 3, vpn: 4, more: 9 });
  });
});
