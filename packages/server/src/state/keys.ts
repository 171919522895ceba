import { existsSync } from 'node:fs';
import { formatKey, parseKey, wipe } from '@sealane/protocol';
import { InputError } from '../errors.ts';
import { createFile } from './file.ts';
import { readPrivate, type StateFolder } from './folder.ts';

/**
 * Reads the server's private key: 32 bytes that the caller wipes.
 * @throws InputError when the file is missing, open to others or not a key.
 */
export function readPrivateKey(folder: StateFolder): Uint8Array {
  const bytes = readPrivate(folder, folder.privateKey);
  const key = parseKey(new TextDecoder().decode(bytes).trim());
  wipe(bytes);
  if (key === undefined) throw new InputError(`${folder.privateKey} does not hold a base64 key of 32 bytes`);
  return key;
}

/** Writes a new private key; returns false, and keeps the old one, when there is one already. */
export function createPrivateKey(folder: StateFolder, privateKey: Uint8Array): boolean {
  if (existsSync(folder.privateKey)) return false;
  createFile(folder.privateKey, `${formatKey(privateKey)}\n`, true);
  return true;
}
