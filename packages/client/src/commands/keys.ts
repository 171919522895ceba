import { randomBytes } from 'node:crypto';
import { fstatSync } from 'node:fs';
import { formatKey, generatePrivateKey, nobleCrypto, parseKey } from '@sealane/protocol';
import { badInput, EXIT, type ExitCode } from '../errors.ts';
import { note, print } from '../output/terminal.ts';

/** A private key is 44 characters; what comes beyond this much is no key. */
const LONGEST_INPUT = 4_096;
/** The permission bits of everyone who is neither the owner nor of the owner's group. */
const OTHERS = 0o007;

export async function genkey(): Promise<ExitCode> {
  warnOfOpenFile();
  await printSecret(generatePrivateKey(random));
  return EXIT.ok;
}

export async function genpsk(): Promise<ExitCode> {
  warnOfOpenFile();
  await printSecret(random(32));
  return EXIT.ok;
}

/** Reads a private key from standard input and prints its public key. */
export async function pubkey(): Promise<ExitCode> {
  const text = await readInput();
  const privateKey = parseKey(text.trimEnd());
  if (privateKey === undefined) {
    throw badInput(
      'standard input holds no key of 32 bytes in base64: pipe one in, as in `sealane genkey | sealane pubkey`',
    );
  }
  const publicKey = nobleCrypto.publicKey(privateKey);
  privateKey.fill(0);
  await print(formatKey(publicKey));
  return EXIT.ok;
}

function random(length: number): Uint8Array {
  return new Uint8Array(randomBytes(length));
}

async function printSecret(key: Uint8Array): Promise<void> {
  const text = formatKey(key);
  key.fill(0);
  await print(text);
}

function warnOfOpenFile(): void {
  const output = fstatSync(process.stdout.fd);
  if (!output.isFile() || (output.mode & OTHERS) === 0) return;
  note('Warning: writing to world accessible file.\nConsider setting the umask to 077 and trying again.');
}

async function readInput(): Promise<string> {
  let text = '';
  process.stdin.setEncoding('latin1');
  for await (const chunk of process.stdin) {
    text += String(chunk);
    if (text.length > LONGEST_INPUT) break;
  }
  return text;
}
