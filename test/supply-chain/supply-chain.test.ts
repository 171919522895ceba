/** What others wrote and we run: pinned with their checksums, without scripts at installation, listed, and enough for the packed packages. */
import { execFile } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));
const workspace = readFileSync(join(root, 'pnpm-workspace.yaml'), 'utf8');
const lockfile = readFileSync(join(root, 'pnpm-lock.yaml'), 'utf8');
const INSTALL_SCRIPTS = ['preinstall', 'install', 'postinstall'];

interface Manifest {
  readonly name?: string;
  readonly scripts?: Readonly<Record<string, string>>;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly devDependencies?: Readonly<Record<string, string>>;
}

interface Outcome {
  readonly code: number;
  readonly output: string;
}

function manifest(path: string): Manifest {
  return JSON.parse(readFileSync(join(root, path, 'package.json'), 'utf8')) as Manifest;
}

const ours = ['.', ...readdirSync(join(root, 'packages')).map((name) => `packages/${name}`)];

function script(name: string, ...args: readonly string[]): Promise<Outcome> {
  return new Promise((resolve) => {
    execFile(process.execPath, [join(root, 'scripts', name), ...args], (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : Number(error.code ?? 1), output: stdout + stderr });
    });
  });
}

/** Every package below node_modules/.pnpm. */
function installed(): Manifest[] {
  const store = join(root, 'node_modules', '.pnpm');
  return readdirSync(store)
    .map((folder) => join(store, folder, 'node_modules'))
    .filter((folder) => existsSync(folder))
    .flatMap((folder) =>
      readdirSync(folder)
        .flatMap((name) =>
          name.startsWith('@') ? readdirSync(join(folder, name)).map((one) => `${name}/${one}`) : name,
        )
        .map((name) => join(folder, name, 'package.json')),
    )
    .filter((file) => existsSync(file))
    .map((file) => JSON.parse(readFileSync(file, 'utf8')) as Manifest);
}

describe('dependencies', () => {
  it('are named in one catalog, each at one exact version', () => {
    const catalog = /^catalog:\n((?: {2}.+\n?)+)/m.exec(workspace)?.[1] ?? '';
    const versions = catalog
      .trim()
      .split('\n')
      .map((line) => line.split(': ')[1]);
    expect(versions.length).toBeGreaterThan(10);
    for (const version of versions) expect(version).toMatch(/^\d+\.\d+\.\d+$/);
    for (const path of ours) {
      const { dependencies = {}, devDependencies = {} } = manifest(path);
      for (const wanted of Object.values({ ...dependencies, ...devDependencies })) {
        expect(['catalog:', 'workspace:*']).toContain(wanted);
      }
    }
  });

  it('are pinned by checksum in the lockfile', () => {
    const packages = lockfile.slice(lockfile.indexOf('\npackages:\n'), lockfile.indexOf('\nsnapshots:\n'));
    const entries = packages.split(/^ {2}(?=\S.*:$)/m).slice(1);
    expect(entries.length).toBeGreaterThan(50);
    for (const entry of entries) expect(entry).toMatch(/resolution: \{integrity: sha512-/);
  });

  it('run no script when they are installed, and neither do we', () => {
    const allowed = /^allowBuilds:\n((?: {2}.+\n)+)/m.exec(workspace)?.[1] ?? '';
    expect(allowed).not.toContain('true');
    const withScripts = installed().filter(({ scripts = {} }) => INSTALL_SCRIPTS.some((name) => name in scripts));
    // One has such a script for those who lack a prebuilt library: this is how we know that the search finds.
    expect(withScripts.map(({ name }) => name)).toContain('koffi');
    for (const { name } of withScripts) expect(allowed).toContain(`${name}: false`);
    for (const path of ours) {
      for (const name of INSTALL_SCRIPTS) expect(manifest(path).scripts ?? {}).not.toHaveProperty(name);
    }
  });

  it('are all in the bill of materials, which is the same each time', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'sealane-sbom-'));
    try {
      const bills: string[] = [];
      for (const name of ['first.json', 'second.json']) {
        const { code, output } = await script('sbom.mjs', join(folder, name));
        expect(code, output).toBe(0);
        bills.push(readFileSync(join(folder, name), 'utf8'));
      }
      expect(bills[0]).toBe(bills[1]);
      const bill = JSON.parse(bills[0]!) as { bomFormat: string; components: { purl: string; version: string }[] };
      expect(bill.bomFormat).toBe('CycloneDX');
      const listed = bill.components.map(({ purl }) => decodeURIComponent(purl).replace(/^pkg:npm\/(.+)@.*$/, '$1'));
      for (const path of ours.slice(1)) {
        const { name, dependencies = {} } = manifest(path);
        expect(listed).toEqual(expect.arrayContaining([name, ...Object.keys(dependencies)]));
      }
      expect(listed).not.toContain('vitest');
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

describe('the packed packages', () => {
  it('work in an empty project, installed by plain npm', { timeout: 240_000 }, async (context) => {
    const { code, output } = await script('verify-packages.mjs');
    if (code === 3) context.skip('needs the npm registry, or its packages in the cache');
    expect(output).toContain('3 echoes through a tunnel');
    expect(code, output).toBe(0);
  });
});
