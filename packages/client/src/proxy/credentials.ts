/** Names and passwords of those who may use a listener; kept and compared as digests. */
import { createHash, timingSafeEqual } from 'node:crypto';
import { ConfigError, readConfigFile } from '@sealane/tunnel';
import { badInput } from '../errors.ts';

/** RFC 1929 has one byte for each length. */
const MAX_LENGTH = 255;

export class Credentials {
  readonly #digests = new Map<string, Uint8Array>();

  /** TypeError for a name or password that no client could send. */
  add(user: string, password: string): void {
    if (user === '' || Buffer.byteLength(user) > MAX_LENGTH || user.includes(':')) {
      throw new TypeError(`user must have 1 to ${MAX_LENGTH} bytes and no colon`);
    }
    if (password === '' || Buffer.byteLength(password) > MAX_LENGTH) {
      throw new TypeError(`password must have 1 to ${MAX_LENGTH} bytes`);
    }
    this.#digests.set(user, digest(password));
  }

  get size(): number {
    return this.#digests.size;
  }

  /** The time it takes says nothing about the password. */
  accepts(user: string, password: string): boolean {
    const known = this.#digests.get(user);
    return timingSafeEqual(known ?? digest(''), digest(password)) && known !== undefined;
  }
}

/** Reads a file of `user:password` lines that only its owner may read; CliError without quoting it. */
export async function readCredentials(path: string): Promise<Credentials> {
  const text = await readConfigFile(path).catch((error: unknown) => {
    throw error instanceof ConfigError ? badInput(error.message, error) : error;
  });
  const lines = text.split(/\r?\n/);
  const credentials = new Credentials();
  lines.forEach((line, i) => {
    if (line.trim() === '' || line.startsWith('#')) return;
    const colon = line.indexOf(':');
    try {
      credentials.add(line.slice(0, Math.max(0, colon)), line.slice(colon + 1));
    } catch (error) {
      throw badInput(`${path}:${i + 1}: expected USER:PASSWORD: ${(error as TypeError).message}`);
    }
  });
  if (credentials.size === 0) throw badInput(`${path}: has no line USER:PASSWORD`);
  return credentials;
}

function digest(text: string): Uint8Array {
  return createHash('sha256').update(text).digest();
}
