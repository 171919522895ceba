import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { breaches } from './checker.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));

function sourcesOf(directory: string): [string, string][] {
  const home = `packages/${directory}/src`;
  const files = readdirSync(join(root, home), { recursive: true, encoding: 'utf8' });
  return files.filter((file) => file.endsWith('.ts')).map((file) => [`${home}/${file}`, read(`${home}/${file}`)]);
}

function read(path: string): string {
  return readFileSync(join(root, path), 'utf8');
}

/** The path of a made-up file. */
function at(name: string): string {
  return `packages/tunnel/src/${name}.ts`;
}

function check(files: Readonly<Record<string, string>>): readonly string[] {
  return breaches(new Map(Object.entries(files)));
}

describe('the packages', () => {
  it.each(['protocol', 'netstack', 'tunnel', 'client', 'server'])('%s keeps the rules', (directory) => {
    const sources = sourcesOf(directory);
    expect(sources.length).toBeGreaterThan(0);
    expect(breaches(new Map(sources))).toEqual([]);
  });
});

describe('the checker', () => {
  it.each([
    ['protocol', '@sealane/netstack', 'protocol must not import @sealane/netstack'],
    ['netstack', '@sealane/protocol', 'netstack must not import @sealane/protocol'],
    ['tunnel', 'sealane', 'tunnel must not import sealane'],
    ['client', '@sealane/netstack', 'client must not import @sealane/netstack'],
    ['server', 'sealane', 'server must not import sealane'],
    ['protocol', 'node:fs', "protocol is pure and must not import 'node:fs'"],
    ['protocol', 'koffi', "protocol is pure and must not import 'koffi'"],
    ['netstack', '@noble/hashes/blake2.js', "netstack is pure and must not import '@noble/hashes/blake2.js'"],
    ['tunnel', 'koffi', 'must not import koffi: only tunnel/src/linux and tunnel/src/crypto/native.ts do'],
    [
      'tunnel',
      '../../netstack/src/tcp.ts',
      "imports '../../netstack/src/tcp.ts', which lies outside packages/tunnel/src",
    ],
    ['tunnel', './other.js', "imports './other.js' without its .ts ending"],
  ])('refuses in %s an import of %s', (directory, specifier, problem) => {
    const path = `packages/${directory}/src/a.ts`;
    for (const statement of [
      `import x from '${specifier}';`,
      `import type { X } from '${specifier}';`,
      `import '${specifier}';`,
      `export * from '${specifier}';`,
      `export { x } from '${specifier}';`,
      `const x = await import('${specifier}');`,
    ]) {
      expect(check({ [path]: statement })).toEqual([`${path}: ${problem}`]);
    }
  });

  it.each([
    ['protocol', '@noble/hashes/blake2.js'],
    ['tunnel', '@sealane/protocol'],
    ['tunnel', '@sealane/netstack'],
    ['tunnel', 'node:dgram'],
    ['client', '@sealane/tunnel'],
    ['server', '@sealane/protocol'],
    ['netstack', './b.ts'],
  ])('allows in %s an import of %s', (directory, specifier) => {
    expect(check({ [`packages/${directory}/src/a.ts`]: `import { x } from '${specifier}';` })).toEqual([]);
  });

  it('allows koffi where system calls and native cryptography live', () => {
    const text = "import koffi from 'koffi';";
    expect(check({ 'packages/tunnel/src/linux/ffi.ts': text, 'packages/tunnel/src/crypto/native.ts': text })).toEqual(
      [],
    );
  });

  it.each([
    ['const now = Date.now();', 'Date'],
    ['const t = performance.now();', 'performance'],
    ['const r = Math.random();', 'Math.random'],
    ["const r = Math['random']();", 'Math.random'],
    ['setTimeout(() => {}, 1);', 'setTimeout'],
    ['if (x) console.log(1);', 'console'],
    ['const e = process.env;', 'process'],
    ['const b = Buffer.alloc(1);', 'Buffer'],
    ['const b = x ?? Buffer.alloc(1);', 'Buffer'],
    ['const f = (now = Date.now()) => now;', 'Date'],
    ['crypto.getRandomValues(b);', 'crypto'],
    ['globalThis.foo();', 'globalThis'],
    ['const o = { Date };', 'Date'],
    ['const o = { [Date]: 1 };', 'Date'],
    ['const u = import.meta.url;', 'import.meta'],
  ])('finds the impurity of %s', (text, name) => {
    expect(check({ 'packages/protocol/src/a.ts': text })).toEqual([`packages/protocol/src/a.ts: uses ${name}`]);
    expect(check({ 'packages/netstack/src/a.ts': text })).toEqual([`packages/netstack/src/a.ts: uses ${name}`]);
    expect(check({ 'packages/tunnel/src/a.ts': text })).toEqual([]);
  });

  it.each([
    'function f(crypto: Crypto): void { crypto.seal(); }',
    'class A { readonly #crypto: Crypto; f(): void { this.#crypto.seal(); } process(): void {} }',
    'const { process } = x; process(1);',
    'x.Date = { crypto: 1 };',
    'const n = Math.max(1, 2);',
    "// Date.now() is forbidden here\nconst s = 'console.log()';",
    'export interface Options { readonly process: (crypto: Crypto) => void }',
  ])('finds nothing impure in %s', (text) => {
    expect(check({ 'packages/protocol/src/a.ts': text })).toEqual([]);
  });

  it('finds circular imports of any length and no others', () => {
    const cycle = {
      [at('a')]: "import './b.ts';",
      [at('b')]: "export * from './c.ts';",
      [at('c')]: "import './a.ts';",
    };
    expect(check(cycle)).toEqual([`${at('a')}: circular import ${at('a')} -> ${at('b')} -> ${at('c')} -> ${at('a')}`]);
    const erased = { [at('a')]: "import type { B } from './b.ts';", [at('b')]: "import { a } from './a.ts';" };
    expect(check(erased)).toEqual([]);
    const kept = { [at('a')]: "import { type B } from './b.ts';", [at('b')]: "import { a } from './a.ts';" };
    expect(check(kept)).toEqual([`${at('a')}: circular import ${at('a')} -> ${at('b')} -> ${at('a')}`]);
    const diamond = {
      [at('a')]: "import './b.ts'; import './lane/c.ts';",
      [at('b')]: "import './d.ts';",
      [at('lane/c')]: "import '../d.ts';",
      [at('d')]: '',
    };
    expect(check(diamond)).toEqual([]);
  });

  it('finds files that are too long', () => {
    expect(check({ 'packages/client/src/a.ts': ';\n'.repeat(450) })).toEqual([]);
    expect(check({ 'packages/client/src/a.ts': ';\n'.repeat(451) })).toEqual([
      'packages/client/src/a.ts: has 451 lines, more than 450',
    ]);
  });

  it('refuses to judge what it cannot parse', () => {
    expect(() => check({ 'packages/client/src/a.ts': 'const = ;' })).toThrow('packages/client/src/a.ts');
  });
});
