/** An nft(8) in front of the real one: what goes wrong, or happens in between, at a moment that the test chooses. */
import { readFileSync } from 'node:fs';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Host, Lab } from './lab.ts';

export class NftShim {
  /** For who is to find it in $PATH. */
  readonly env: Readonly<Record<'PATH', string>>;
  readonly #folder: string;

  private constructor(folder: string) {
    this.#folder = folder;
    this.env = { PATH: `${folder}:${process.env['PATH']}` };
  }

  /** `body` is run by sh(1) first: `$real` is the real program, `has FILE` and `take FILE` ask for a file that `put` made. */
  static async make(lab: Lab, host: Host, body: string): Promise<NftShim> {
    const folder = join(lab.folder, 'nft-shim');
    await mkdir(folder);
    const real = (await host.must('bash', ['-c', 'command -v nft'])).trim();
    const script = [
      '#!/bin/sh',
      `real=${real}; folder=${folder}`,
      'has() { [ -e "$folder/$1" ]; }',
      'take() { rm "$folder/$1" 2>/dev/null; }',
      'echo "$*" >> "$folder/calls"',
      body,
      'exec $real "$@"',
      '',
    ];
    await writeFile(join(folder, 'nft'), script.join('\n'), { mode: 0o755 });
    const shim = new NftShim(folder);
    await shim.put('calls');
    return shim;
  }

  put(name: string): Promise<void> {
    return writeFile(join(this.#folder, name), '');
  }

  remove(name: string): Promise<void> {
    return rm(join(this.#folder, name));
  }

  has(name: string): boolean {
    try {
      readFileSync(join(this.#folder, name));
      return true;
    } catch {
      return false;
    }
  }

  /** How often it was called with words that begin so. */
  calls(words: string): number {
    const lines = readFileSync(join(this.#folder, 'calls'), 'utf8').split('\n');
    return lines.filter((line) => line.startsWith(words)).length;
  }
}

/** Changes nftables and leaves all as it was: whoever watches hears of it. */
export function stir(host: Host): Promise<string> {
  return host.must('nft', ['-f', '-'], { input: 'table inet stir {}\ndelete table inet stir\n' });
}
