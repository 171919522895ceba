/**
 * The software bill of materials of a release, CycloneDX, of what the lockfile pins for those who install the packages.
 * npm run sbom -- [FILE]     (default: sbom.cdx.json; the same lockfile always gives the same bytes)
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { readOptions } from './options.mjs';

const PNPM = 'pnpm@12.21.0';
const root = dirname(dirname(fileURLToPath(import.meta.url)));
const { positionals } = readOptions('sbom', 'npm run sbom [-- FILE]', {}, []);
const file = positionals[0] ?? join(root, 'sbom.cdx.json');

const args = [
  '-y',
  PNPM,
  'sbom',
  '--lockfile-only',
  '--prod',
  '--sbom-format',
  'cyclonedx',
  '--sbom-spec-version',
  '1.6',
];
const made = spawnSync('npx', args, { cwd: root, encoding: 'utf8', maxBuffer: 64 << 20 });
if (made.status !== 0) {
  console.error(`sbom: ${PNPM} could not list the lockfile:\n${made.error?.message ?? made.stderr}`);
  process.exit(1);
}
const bill = JSON.parse(made.stdout);
const own = readdirSync(join(root, 'packages')).map((folder) =>
  JSON.parse(readFileSync(join(root, 'packages', folder, 'package.json'), 'utf8')),
);
addPrograms();
const order = (key) => (a, b) => (a[key] < b[key] ? -1 : Number(a[key] > b[key]));
bill.components.sort(order('bom-ref'));
bill.dependencies = dependencies().toSorted(order('ref'));
delete bill.metadata.timestamp;
bill.serialNumber = `urn:uuid:${contentId(bill)}`;
writeFileSync(file, `${JSON.stringify(bill, null, 2)}\n`);
console.log(`${file}: ${bill.components.length} components`);

/** The packages that no other of the workspace needs: the two programs. */
function addPrograms() {
  for (const { name, version, description, license } of own) {
    if (bill.components.some((one) => nameOf(one) === name)) continue;
    const purl = `pkg:npm/${name}@${version}`;
    const licenses = [{ license: { id: license } }];
    bill.components.push({ type: 'application', name, version, purl, 'bom-ref': purl, description, licenses });
  }
}

function nameOf({ group, name }) {
  return group === undefined ? name : `${group}/${name}`;
}

/** What pnpm says of the workspace's own packages depends on the order in which it met them: their manifests know. */
function dependencies() {
  const refs = new Map(bill.components.map((one) => [nameOf(one), one['bom-ref']]));
  const byRef = new Map(bill.dependencies.map(({ ref, dependsOn }) => [ref, dependsOn]));
  for (const { name, dependencies: needs = {} } of own) {
    byRef.set(
      refs.get(name),
      Object.keys(needs).map((need) => refs.get(need)),
    );
  }
  byRef.set(
    bill.metadata.component['bom-ref'],
    own.map(({ name }) => refs.get(name)),
  );
  return Array.from(byRef, ([ref, dependsOn]) => ({ ref, dependsOn: dependsOn.toSorted() }));
}

/** A UUID (version 8, RFC 9562) that says what is in the bill. */
function contentId({ components, dependencies: links }) {
  const hex = createHash('sha256')
    .update(JSON.stringify([components, links]))
    .digest('hex');
  return [hex.slice(0, 8), hex.slice(8, 12), `8${hex.slice(13, 16)}`, `8${hex.slice(17, 20)}`, hex.slice(20, 32)].join(
    '-',
  );
}
