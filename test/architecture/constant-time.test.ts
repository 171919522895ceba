/** Secrets are compared by `Crypto.equal` and `timingSafeEqual` alone, which have no branch that depends on their bytes. */
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

/** The same whatever the arrays are called: a secret may have passed through a variable of another name. */
const NAMELESS: readonly RegExp[] = [
  /[\w)]!?\[\w+\]!?\s*[!=]==?\s*[\w.#]+!?\[\w+\]/,
  /=>\s*\w+\s*[!=]==?\s*[\w.#]+!?\[/,
  /\.equals\(/,
  /\bBuffer\.compare\(/,
];

/** Public keys, addresses, settings that are no keys, timestamps, marks, a host's own echoes, and the fixed values of a self-test. */
const PUBLIC: readonly (readonly [file: string, text: string])[] = [
  ['packages/protocol/src/endpoint.ts', 'i < a.length; i++) if (a[i] !== b[i]) return false;'],
  ['packages/protocol/src/tai64n.ts', 'if (a[i] !== b[i]) return a[i]! > b[i]!;'],
  ['packages/tunnel/src/lane/outlet.ts', 'ecn[end] === ecn[first]'],
  ['packages/tunnel/src/net/tunnel-datagram.ts', 'remote.address.equals(address)'],
  ['packages/tunnel/src/devices/echo-client.ts', 'Buffer.compare(content, waiting.payload)'],
  ['packages/tunnel/src/crypto/select.ts', 'hex(shared) === KNOWN_ANSWERS.dh'],
  ['packages/client/src/system/routes.ts', '.address.every((byte, i) => byte === network[i])'],
  ['packages/client/src/up/change.ts', 'was[key] !== is[key]'],
  ['packages/server/src/running/changes.ts', 'address === peer.addresses[i]'],
  ['packages/server/src/userspace/policy.ts', 'if (network[i] !== address[i]) return false;'],
];

function comparisons(text: string): string[] {
  const code = text
    .replaceAll(/\/\*[\s\S]*?\*\//g, (comment) => comment.replaceAll(/[^\n]/g, ' '))
    .replaceAll(/\/\/.*/g, '')
    // What both ends tell anybody, in text.
    .replaceAll(/\bformatKey\((?:\w+\.)*publicKey\)/g, 'text')
    // A chain or a comparison over several lines is one.
    .replaceAll(/\s*\n\s*(?=[.?]|[!=]==?)/g, '')
    .replaceAll(/([!=]==?)\s*\n\s*/g, '$1 ');
  return code.split('\n').filter((line) => [...FORBIDDEN, ...NAMELESS].some((pattern) => pattern.test(line)));
}

describe('comparisons of secrets', () => {
  // The stack has no secrets: its packets are compared by address and port.
  it.each(['protocol', 'tunnel', 'client', 'server'])('in %s go through Crypto.equal', (name) => {
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

  it.each(PUBLIC)('in %s there still is %s', (file, text) => {
    expect(readFileSync(root + file, 'utf8')).toContain(text);
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
    'for (let i = 0; i < 16; i++) if (a[i] !== b[i]) return false;',
    'return given.every((byte, i) => byte === this.#kept[i]);',
    'return given.equals(kept);',
    'return mac1\n  .every((byte, i) => check(byte, i));',
    'return hex(presharedKey)\n  === text;',
    'return expected[i] ===\n  computed[i];',
  ])('are found: %s', (line) => {
    expect(comparisons(line)).toHaveLength(1);
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
