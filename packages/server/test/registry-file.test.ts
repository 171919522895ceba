import { chmodSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { formatKey } from '@sealane/protocol';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { InputError } from '../src/errors.ts';
import { createFolder, stateFolder, type StateFolder } from '../src/state/folder.ts';
import { parseRegistry, readRegistry, writeRegistry, type Registry } from '../src/state/registry-file.ts';

function key(n: number): string {
  return formatKey(new Uint8Array(32).fill(n));
}

const VALID: Registry = {
  version: 1,
  revision: 3,
  server: { endpoint: 'vpn.example.org:51820', pool: ['10.7.0.0/24', 'fd07::/64'], dns: ['10.7.0.1'], mtu: 1420 },
  peers: [
    {
      name: 'alice',
      publicKey: key(1),
      presharedKey: key(9),
      addresses: ['10.7.0.2', 'fd07::2'],
      added: '2026-01-31T12:00:00.000Z',
    },
    { name: 'bob', publicKey: key(2), addresses: ['10.7.0.3', 'fd07::3'], added: '2026-01-31T12:00:01.000Z' },
  ],
};

type Path = readonly (string | number)[];

/** The valid registry with another value, or none, in one place. */
function changed(path: Path, value: unknown): string {
  const copy = structuredClone(VALID) as unknown as Record<string | number, unknown>;
  let at = copy;
  for (const part of path.slice(0, -1)) at = at[part] as Record<string | number, unknown>;
  if (value === undefined) delete at[path.at(-1)!];
  else at[path.at(-1)!] = value;
  return JSON.stringify(copy);
}

function problem(text: string): string {
  try {
    parseRegistry(text, 'registry.json');
  } catch (error) {
    expect(error).toBeInstanceOf(InputError);
    return (error as Error).message;
  }
  throw new Error('the registry was accepted');
}

describe('parseRegistry', () => {
  it('reads what was written', () => {
    expect(parseRegistry(JSON.stringify(VALID), 'registry.json')).toEqual(VALID);
  });

  const bad: readonly (readonly [string, Path, unknown])[] = [
    ['version: expected 1', ['version'], 2],
    ['revision: expected number', ['revision'], '3'],
    ['revision: expected a value from 0', ['revision'], -1],
    ['server: missing', ['server'], undefined],
    ['server.endpoint: expected HOST:PORT', ['server', 'endpoint'], 'vpn.example.org'],
    ['server.pool: expected one or two blocks', ['server', 'pool'], []],
    ['server.pool[0]: expected an address block', ['server', 'pool', 0], '10.7.0.1/24'],
    ['server.pool[1]: expected a block of the other address family', ['server', 'pool', 1], '10.8.0.0/24'],
    ['server.dns[0]: expected an address or a domain', ['server', 'dns', 0], 'not a name'],
    ['server.mtu: expected a value from 576', ['server', 'mtu'], 100],
    ['server.mtu: expected a whole number', ['server', 'mtu'], 1420.5],
    ['server.extra: unknown field', ['server', 'extra'], true],
    ['peers: expected Array', ['peers'], {}],
    ['peers[1].name: expected letters', ['peers', 1, 'name'], '../bob'],
    ['peers[1].name: the same name as peers[0].name', ['peers', 1, 'name'], 'alice'],
    ['peers[0].publicKey: expected a base64 key of 32 bytes', ['peers', 0, 'publicKey'], 'AAAA'],
    ['peers[1].publicKey: the same key as peers[0].publicKey', ['peers', 1, 'publicKey'], key(1)],
    ['peers[0].presharedKey: expected a base64 key of 32 bytes', ['peers', 0, 'presharedKey'], `${key(9)}=`],
    ['peers[1].cipher: expected chacha20poly1305 or aes256gcm', ['peers', 1, 'cipher'], 'rot13'],
    ['peers[0].addresses: expected at least one address', ['peers', 0, 'addresses'], []],
    ['peers[0].addresses[1]: expected an IPv4 or IPv6 address', ['peers', 0, 'addresses', 1], 'fd07:0::2'],
    ['peers[1].addresses[0]: the same address as peers[0].addresses[0]', ['peers', 1, 'addresses', 0], '10.7.0.2'],
    ['peers[1].addresses[0]: 10.8.0.3 is not an address that the pool', ['peers', 1, 'addresses', 0], '10.8.0.3'],
    ['peers[1].addresses[0]: 10.7.0.1 is not an address that the pool', ['peers', 1, 'addresses', 0], '10.7.0.1'],
    ['peers[1].added: expected a time', ['peers', 1, 'added'], 'yesterday'],
    ['peers[1].added: missing', ['peers', 1, 'added'], undefined],
  ];

  it.each(bad)('says "%s"', (message, path, value) => {
    const said = problem(changed(path, value));
    expect(said.startsWith(`registry.json: ${message}`), said).toBe(true);
    expect(said).not.toContain('\n');
  });

  it('says that a file is no JSON without quoting the secrets in it', () => {
    const said = problem(`${JSON.stringify(VALID).slice(0, -2)}${key(9)}`);
    expect(said).toContain('registry.json: not valid JSON');
    expect(said).not.toContain(key(9).slice(0, 8));
  });

  it('never quotes a value that is in the wrong place', () => {
    for (const path of [['peers', 0, 'name'], ['peers', 0, 'publicKey'], ['server', 'endpoint'], ['version']]) {
      expect(problem(changed(path, `${key(9)} `))).not.toContain(key(9).slice(0, 8));
    }
  });

  it('accepts or refuses with one line, whatever the text is', () => {
    const one = (text: string): void => {
      try {
        parseRegistry(text, 'registry.json');
      } catch (error) {
        expect(error).toBeInstanceOf(InputError);
        expect((error as Error).message).toMatch(/^registry\.json: [^\n]+$/);
      }
    };
    fc.assert(fc.property(fc.oneof(fc.string(), fc.json()), one), { seed: 7 });
    const anywhere = fc.constantFrom<Path>(...bad.map(([, path]) => path));
    fc.assert(
      fc.property(anywhere, fc.jsonValue(), (path, value) => one(changed(path, value))),
      { seed: 7 },
    );
  });
});

describe('the files of a server', () => {
  let folder: StateFolder;

  beforeEach(() => {
    folder = stateFolder(mkdtempSync(join(tmpdir(), 'sealaned-')));
  });
  afterEach(() => rmSync(folder.path, { recursive: true, force: true }));

  it('hold the registry with a revision that grows, mode 0600 and nothing beside it', () => {
    expect(writeRegistry(folder, VALID).revision).toBe(4);
    expect(readRegistry(folder)).toEqual({ ...VALID, revision: 4 });
    expect(statSync(folder.registry).mode & 0o777).toBe(0o600);
    expect(readdirSync(folder.path)).toEqual(['registry.json']);
  });

  it('are read past what a killed writer left half done', () => {
    writeRegistry(folder, VALID);
    writeFileSync(`${folder.registry}.tmp`, '{"version":1,"rev');
    expect(readRegistry(folder).peers).toEqual(VALID.peers);
    writeRegistry(folder, readRegistry(folder));
    expect(readFileSync(folder.registry, 'utf8')).toContain('"revision": 5');
    expect(readdirSync(folder.path)).toEqual(['registry.json']);
  });

  it('are refused when others can read them, with the remedy', () => {
    writeRegistry(folder, VALID);
    chmodSync(folder.registry, 0o640);
    expect(() => readRegistry(folder)).toThrow(
      `${folder.registry} is open to others (mode 0640): close it with 'chmod 0600`,
    );
    chmodSync(folder.registry, 0o600);
    chmodSync(folder.path, 0o755);
    expect(() => readRegistry(folder)).toThrow(
      `${folder.path} is open to others (mode 0755): close it with 'chmod 0700`,
    );
    expect(() => createFolder(folder)).toThrow(InputError);
  });

  it('are missed with a hint', () => {
    expect(() => readRegistry(folder)).toThrow("does not exist: make a server with 'sealaned init' first");
  });
});
