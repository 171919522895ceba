/** No session, ephemeral, shared or chaining key lies in the memory of the process once its session is over. */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { findIn } from './memory.ts';

const holder = fileURLToPath(new URL('holder.mjs', import.meta.url));

interface Told {
  readonly step?: string;
  readonly what?: string;
  readonly masked?: string;
}

interface Scans {
  /** By step: the names of the secrets that were found, each with its kind in front. */
  readonly found: ReadonlyMap<string, readonly string[]>;
  readonly kinds: ReadonlyMap<string, number>;
}

async function scan(mode: string, crypto: string): Promise<Scans> {
  const child = spawn(process.execPath, ['--expose-gc', holder, mode, crypto], { stdio: ['pipe', 'pipe', 'inherit'] });
  const secrets = new Map<string, Uint8Array>();
  const names = new Map<string, string>();
  const kinds = new Map<string, number>();
  const found = new Map<string, readonly string[]>();
  for await (const line of createInterface({ input: child.stdout })) {
    const told = JSON.parse(line) as Told;
    if (told.step !== undefined) {
      found.set(told.step, [...findIn(child.pid!, secrets).keys()]);
      child.stdin.write('on\n');
    } else if (told.masked !== undefined) {
      const earlier = names.get(told.masked);
      // A session key is first seen as what the key derivation gives.
      if (earlier !== undefined && (told.what !== 'session' || earlier.startsWith('session'))) continue;
      if (earlier !== undefined) secrets.delete(earlier);
      const count = (kinds.get(told.what!) ?? 0) + 1;
      const name = `${told.what} ${count}`;
      kinds.set(told.what!, count);
      names.set(told.masked, name);
      secrets.set(
        name,
        Buffer.from(told.masked, 'hex').map((byte) => byte ^ 0xa5),
      );
    }
  }
  return { found, kinds };
}

/** Static keys, and what is made of them alone, stay for as long as there is a configuration. */
const isOfSession = (name: string): boolean => !name.startsWith('static');

describe.each([
  ['devices', 'native'],
  ['hedged devices', 'native'],
  ['tunnels', 'native'],
  ['devices', 'node'],
  ['tunnels', 'node'],
])('a process with %s and the %s cryptography', (mode, crypto) => {
  it('holds no key of a session that is over', { timeout: 120_000 }, async (context) => {
    if (!existsSync('/proc/self/mem')) context.skip('needs /proc');
    const { found, kinds } = await scan(mode, crypto);
    for (const kind of ['session', 'ephemeral', 'shared', 'chaining']) expect(kinds.get(kind), kind).toBeGreaterThan(3);
    // While the session lives its keys are there: this is how we know that the search finds.
    expect(found.get('live')!.filter((name) => name.startsWith('session')).length).toBeGreaterThanOrEqual(2);
    // A derived key is made as a chaining key is, and stays for the handshakes to come, until the peer is removed.
    if (mode === 'hedged devices') expect(found.get('live')!.some((name) => name.startsWith('chaining'))).toBe(true);
    if (mode === 'hedged devices') expect(kinds.get('encapsulated')).toBeGreaterThan(1);
    // Importing a private key into node:crypto may leave a copy of it in memory that was freed, and noble's ML-KEM leaves its
    // shared secrets in the heap; SECURITY.md says so.
    const isOurs = (name: string): boolean =>
      !name.startsWith('encapsulated') && (crypto === 'native' || !/^(static|ephemeral) \d/.test(name));
    expect(found.get('ended')!.filter((name) => isOfSession(name) && isOurs(name))).toEqual([]);
    expect(found.get('closed')!.filter((name) => isOurs(name))).toEqual([]);
  });
});
