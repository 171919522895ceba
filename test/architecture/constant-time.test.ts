/** Secrets are compared by `Crypto.equal` and `timingSafeEqual` alone, which have no branch that depends on their bytes. */
import { readFileSync, readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { byteComparisons } from './byte-comparisons.ts';

const root = fileURLToPath(new URL('../../', import.meta.url));

/** Public keys, addresses, settings and names, timestamps, marks, packets that go by, and the fixed values of a self-test. */
const PUBLIC: readonly (readonly [file: string, text: string])[] = [
  ['packages/protocol/src/endpoint.ts', 'a[i] !== b[i]'],
  ['packages/protocol/src/tai64n.ts', 'a[i] !== b[i]'],
  ['packages/tunnel/src/config/fields.ts', 'a[i - 1] === b[j - 1]'],
  ['packages/tunnel/src/config/fields.ts', 'a[i - 1] === b[j - 2]'],
  ['packages/tunnel/src/config/fields.ts', 'a[i - 2] === b[j - 1]'],
  ['packages/tunnel/src/config/format.ts', 'text !== text.trim()'],
  ['packages/tunnel/src/crypto/select.ts', 'hex(packet.subarray(16, 16 + TEXT.length)) === hex(TEXT)'],
  ['packages/tunnel/src/devices/echo-client.ts', 'Buffer.compare(content, waiting.payload)'],
  ['packages/tunnel/src/lane/offload/merge.ts', 'words['],
  ['packages/tunnel/src/lane/offload/merge.ts', 'bytes[packet + '],
  ['packages/tunnel/src/lane/outlet.ts', 'peers[end] === peer'],
  ['packages/tunnel/src/lane/outlet.ts', 'offsets[end] === start + total'],
  ['packages/tunnel/src/lane/outlet.ts', 'ecn[end] === ecn[first]'],
  ['packages/tunnel/src/linux/udp.ts', 'last[i] !== word'],
  ['packages/tunnel/src/linux/udp.ts', 'last[7 + i] !== word'],
  ['packages/tunnel/src/net/dns-message.ts', 'view.getUint16(0) !== queryView.getUint16(0)'],
  ['packages/tunnel/src/net/tunnel-datagram.ts', 'remote.address.equals(address)'],
  ['packages/client/src/system/routes.ts', 'byte === network[i]'],
  ['packages/client/src/up/change.ts', 'was[key] !== is[key]'],
  ['packages/client/src/up/change.ts', 'before.routes.defaults.join() === after.routes.defaults.join()'],
  ['packages/client/src/up/endpoints.ts', 'old.peer.endpoints.join() === peer.endpoints.join()'],
  ['packages/client/src/up/tunnel.ts', 'JSON.stringify(was) === JSON.stringify(is)'],
  ['packages/server/src/running/changes.ts', 'address === peer.addresses[i]'],
  ['packages/server/src/userspace/policy.ts', 'network[i] !== address[i]'],
];

describe('comparisons of secrets', () => {
  // The stack has no secrets: its packets are compared by address and port.
  it.each(['protocol', 'tunnel', 'client', 'server'])('in %s go through Crypto.equal', (name) => {
    const found: string[] = [];
    for (const file of readdirSync(`${root}packages/${name}/src`, { recursive: true, encoding: 'utf8' })) {
      if (!file.endsWith('.ts')) continue;
      const path = `packages/${name}/src/${file}`;
      for (const line of byteComparisons(readFileSync(root + path, 'utf8'))) {
        if (PUBLIC.some(([where, what]) => where === path && line.includes(what))) continue;
        found.push(`${path}: ${line}`);
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
    'if (kept.tag[0] !== 7) return;',
    'return mac.every((byte, i) => byte === other[i]);',
    'return given.every((b, i) => kept[i] === b);',
    'return given.every((b, i) => b === this.#kept[i]!);',
    'return given.reduce((same, b, i) => same && b === kept[i], true);',
    'given.forEach((b, i) => { if (kept[i] !== b) throw new Error(); });',
    'for (const [i, b] of given.entries()) if (b !== kept[i + 1]) return false;',
    'for (let i = 0; i < 16; i++) if (a.at(i) !== b.at(i)) return false;',
    'for (let i = 0; i < 16; i++) if ((a[i]! ^ b[i]!) !== 0) return false;',
    'for (let i = 0; i < 16; i++) if (Object.is(a[i], b[i]) === false) return false;',
    'return a[0] === b[0];',
    'return one.getBigUint64(0) === two.getBigUint64(0);',
    'return a.readUInt32LE(0) === b.readUInt32LE(0);',
    'return a.cookie.equals(b);',
    'return given.equals(kept);',
    'if (Buffer.compare(presharedKey, b) === 0) return;',
    'return a.compare(b) === 0;',
    'return isDeepStrictEqual(given, kept);',
    'assert.deepStrictEqual(given, kept);',
    "import { isDeepStrictEqual as same } from 'node:util';",
    'return given.join() === kept.join();',
    "return given.toString('hex') === kept.toString('hex');",
    'return String(given) === String(kept);',
    'return `${given}` === `${kept}`;',
    'return JSON.stringify(given) === JSON.stringify(kept);',
    'return new TextDecoder().decode(given) === text;',
    'const text = given.toBase64(); return text === other;',
    'switch (given.join()) { case kept.join(): return true; }',
    'return hex(presharedKey) === text;',
    'return keyId(privateKey) !== id;',
    'if (secret.join() === other) return;',
    'return sessions.get(hex(presharedKey));',
    'return hex(mac1).startsWith(text);',
    'if (staticShared!.some((byte) => byte !== 0)) return;',
    'return mac1\n  .every((byte, i) => check(byte, i));',
    'return hex(presharedKey)\n  === text;',
    'return expected[i] ===\n  computed[i];',
  ])('are found: %s', (code) => {
    expect(byteComparisons(code.startsWith('import') ? code : `function f() { ${code} }`)).not.toEqual([]);
  });

  it.each([
    'if (crypto.equal(mac1, expected)) f();',
    'if (timingSafeEqual(given, kept)) f();',
    'if (this.#secret === undefined) f();',
    "if (field.key === 'PrivateKey') f();",
    '// mac1[i] === expected[i] would be wrong',
    'for (const key of keys) bits |= key[0]!;',
    'if (bytes[0] === MESSAGE.initiation || bytes[at] !== 0x45) f();',
    'if (formatKey(peer.publicKey) === text || known.has(keyId(publicKey))) f();',
    'if (view.getUint16(2) !== length) f();',
  ])('are not seen where there are none: %s', (code) => {
    expect(byteComparisons(code)).toEqual([]);
  });
});
