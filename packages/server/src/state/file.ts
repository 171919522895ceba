import { randomBytes } from 'node:crypto';
import { closeSync, fsyncSync, linkSync, openSync, renameSync, unlinkSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { giveToFolderOwner } from '@sealane/tunnel';
import { errorCode, RefusedError } from '../errors.ts';

const PRIVATE = 0o600;

/**
 * Replaces a file of the state (mode 0600, its owner the folder's) so that a crash at any moment leaves the old or the new content whole.
 * One writer at a time: the caller holds the lock of the folder.
 */
export function replaceFile(path: string, text: string): void {
  const temporary = `${path}.tmp`;
  // What a killed writer left, or a link that the owner of the folder would have root follow.
  removeFile(temporary);
  writeThrough(temporary, text, true);
  renameSync(temporary, path);
  syncFolder(path);
}

/**
 * Creates a file (mode 0600) that appears whole or not at all: ours, or with `isState` the folder's owner's.
 * @throws RefusedError when the path exists already; it is left as it is.
 */
export function createFile(path: string, text: string, isState = false): void {
  // The folder may belong to others: nobody can guess the name and put something there before.
  const temporary = join(dirname(path), `.${basename(path)}.${randomBytes(8).toString('hex')}.tmp`);
  try {
    writeThrough(temporary, text, isState);
    linkSync(temporary, path);
  } catch (error) {
    if (errorCode(error) === 'EEXIST') throw new RefusedError(`${path} exists already and is not overwritten`);
    throw new RefusedError(`${path} cannot be written: ${errorCode(error) ?? String(error)}`, { cause: error });
  } finally {
    removeFile(temporary);
  }
  syncFolder(path);
}

/** Removes a file if it is there. */
export function removeFile(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if (errorCode(error) !== 'ENOENT' && errorCode(error) !== 'ENOTDIR') throw error;
  }
}

/** The file must be new: nothing that is there is followed or taken. */
function writeThrough(path: string, text: string, isState: boolean): void {
  const file = openSync(path, 'wx', PRIVATE);
  try {
    if (isState) giveToFolderOwner(file, path);
    writeFileSync(file, text);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

/** A new name is durable once its folder is. */
function syncFolder(path: string): void {
  const folder = openSync(dirname(path), 'r');
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
}
