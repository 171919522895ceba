/** Secrets are compared by `Crypto.equal` alone, which has no branch that depends on their bytes. */
import { readFileSync, readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('../../', import.meta.url));

const SECRET = String.raw`\w*(?:[Kk]ey|[Mm]ac[12]?|[Tt]ag|[Cc]ookie|[Ss]ecret|[Pp]sk|[Ss]hared|[Ee]phemeral)(?:s|Bytes)?\b`;

/** Ways to compare bytes one after another, or through text. */
const FORBIDDEN: readonly RegExp[] = [
  new RegExp(String.raw`\b${SECRET}!?(?:\[[^\]]+\])!?\s*[!=]==?`),
  new RegExp(String.raw`[!=]==?\s*(?:\w+\.)*${SECRET}\[[^\]]+\]`),
  new RegExp(
    String.raw`\b${SECRET}[!?]?\.(?:every|some|findIndex|indexOf|lastIndexOf|includes|equals|compare|localeCompare)\(`,
  ),
  new RegExp(String.raw`\bBuffer\.compare\((?:\w+\.)*${SECRET}`),
  new RegExp(String.raw`\b(?:hex|toHex|keyId|formatKey|fromCharCode)\((?:\w+\.)*${SECRET}\)\s*[!=]==?`),
  new RegExp(String.raw`\b${SECRET}\.(?:join|toString)\([^)]*\)\s*[!=]==?`),
];

/** Public keys, and the fixed values of a self-test. */
const PUBLIC: readonly (readonly [file: string, text: string])[] = [
  ['packages/protocol/src/keys.ts', 'publicKey.findIndex((byte, at) => byte !== than[at])'],
  ['packages/tunnel/src/crypto/select.ts', 'hex(shared) === KNOWN_ANSWERS.dh'],
];

function comparisons(text: string): string[] {
  const code = text
    .replaceAll(/\/\*[\s\S]*?\*\//g, (comment) => comment.replaceAll(/[^\n]/g, ' '))
    .replaceAll(/\/\/.*/g, '');
  return code.split('\n').filter((line) => FORBIDDEN.some((pattern) => pattern.test(line)));
}

describe('comparisons of secrets', () => {
  it.each(['protocol', 'tunnel'])('in %s go through Crypto.equal', (name) => {
    const found: string[] = [];
    for (const file of readdirSync(`${root}packages/${name}/src`, { recursive: true, encoding: 'utf8' })) {
      if (!file.endsWith('.ts')) continue;
      const path = `packages/${name}/src/${file}`;
      for (const line of comparisons(readFileSync(root + path, 'utf8'))) {
        if (PUBLIC.some(([where, what]) => where === path && line.includes(what))) continue;
        found.push(`${path}: ${line.trim()}`);
      }
    }
    expect(found).toEqual([]);
  });

  it.each([
    'if (mac1[i] !== expected[i]) return false;',
    'return expected[i] === tag[i];',
    'return mac.every((byte, i) => byte === other[i]);',
    'return a.cookie.equals(b);',
    'if (Buffer.compare(presharedKey, b) === 0) return;',
    'return hex(presharedKey) === text;',
    'return keyId(privateKey) !== id;',
    'if (secret.join() === other) return;',
    'if (staticShared!.some((byte) => byte !== 0)) return;',
  ])('are found: %s', (line) => {
    expect(comparisons(line)).toEqual([line]);
  });

  it.each([
    'if (crypto.equal(mac1, expected)) return;',
    'if (this.#secret === undefined) return;',
    "if (field.key === 'PrivateKey') return;",
    '// mac1[i] === expected[i] would be wrong',
    'for (const key of keys) bits |= key[0]!;',
  ])('are not seen where there are none: %s', (line) => {
    expect(comparisons(line)).toEqual([]);
  });
});
