/** Any text is read, or refused with a ConfigError whose lines name the file and show no key; what is read can be written, and says the same when it is read again. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { ConfigError, formatConfig, parseConfig } from '@sealane/tunnel';
import { CORPUS, withoutLines } from '../../packages/tunnel/test/config/corpus.ts';
import { generator } from '../sim/random.ts';
import { mutate } from './mutate.ts';

const TEXTS = Math.ceil(Number(process.env['SEALANE_FUZZ'] ?? 500_000) / 200);
const SEED = Number(process.env['SEALANE_SEED'] ?? 7);
const KEY = /[A-Za-z0-9+/]{43}=/;

describe('configurations', () => {
  it(`${TEXTS} texts made of those that people have`, { timeout: 120_000 + TEXTS * 5 }, () => {
    const random = generator(SEED);
    const originals = Object.values(CORPUS).map((text) => new TextEncoder().encode(text));
    const secrets = Object.values(CORPUS).flatMap((text) =>
      [...text.matchAll(/(?:PrivateKey|PresharedKey)\s*=\s*(\S{20,})/gi)].map((match) => match[1]!),
    );
    expect(secrets.length).toBeGreaterThan(2);
    let [read, refused] = [0, 0];
    for (let i = 0; i < TEXTS; i++) {
      const original = originals[random.below(originals.length)]!;
      const text = new TextDecoder().decode(mutate(random, original, originals));
      try {
        const config = parseConfig(text, 'fuzz.conf');
        read++;
        if (i % 10 !== 0) continue;
        expect(withoutLines(parseConfig(formatConfig(config), 'again.conf'))).toEqual(withoutLines(config));
      } catch (error) {
        if (!(error instanceof ConfigError)) throw error;
        refused++;
        expect(error.message).toContain('fuzz.conf');
        for (const secret of secrets) expect(error.message).not.toContain(secret.slice(0, 20));
        const shown = KEY.exec(error.message)?.[0];
        if (shown !== undefined) expect(secrets).not.toContain(shown);
      }
    }
    expect(read).toBeGreaterThan(100);
    expect(refused).toBeGreaterThan(100);
  });

  it('of the corpus are read, or refused in one line that names the place', () => {
    const file = new URL('corpus/configurations.json', import.meta.url);
    const cases = JSON.parse(readFileSync(file, 'utf8')) as { note: string; text: string; read: boolean }[];
    expect(cases.length).toBeGreaterThan(20);
    for (const { note, text, read } of cases) {
      let refusal: unknown;
      try {
        parseConfig(text, 'odd.conf');
      } catch (error) {
        refusal = error;
      }
      if (read) expect(refusal, note).toBeUndefined();
      else expect(refusal, note).toBeInstanceOf(ConfigError);
      if (!read) expect(String(refusal), note).toMatch(/odd\.conf/);
      if (!read) expect(String(refusal), note).not.toMatch(KEY);
    }
  });
});
