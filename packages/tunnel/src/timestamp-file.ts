import { randomBytes } from 'node:crypto';
import { close, closeSync, fsync, open, openSync, readFileSync, renameSync, rmSync, writeSync } from 'node:fs';
import { isAfter, TIMESTAMP_LENGTH } from '@sealane/protocol';
import { errorCode } from './os-error.ts';
import { giveToFolderOwner } from './owner.ts';

const AHEAD_SECONDS = 10n;

/**
 * The newest handshake timestamp that this identity may have used (TAI64N, 12 bytes), kept on disk so that none is
 * repeated after a restart with a clock that went back. `cover` writes before the datagram leaves, and some seconds ahead
 * so that a busy tunnel writes seldom: what is on disk lies at or past what was sent, unless it could not be written, which is
 * counted as a fault and stops nothing. Processes that share an identity share the file, and none takes back what another wrote.
 */
export class TimestampFile {
  /** The timestamp that every new one must exceed; undefined for a first start. */
  readonly floor: Uint8Array | undefined;
  readonly #path: string;
  readonly #keep: (path: string) => void;
  #covered: Uint8Array | undefined;
  #newest: Uint8Array | undefined;
  /** What another process covered, which it may go on using. */
  #others: Uint8Array | undefined;

  private constructor(path: string, floor: Uint8Array | undefined, keep: (path: string) => void) {
    this.#path = path;
    this.#keep = keep;
    this.floor = floor;
    this.#covered = floor;
  }

  /**
   * `keep` is called after each write, to ask the disk to keep it; a thread whose event loop never turns leaves that to another.
   * Throws when the file exists and cannot be read or is damaged.
   */
  static open(path: string, keep: (path: string) => void = keepOnDisk): TimestampFile {
    return new TimestampFile(path, read(path), keep);
  }

  /** Makes sure that the disk holds `newest` or later. Throws when it cannot be read or written. */
  cover(newest: Uint8Array | undefined): void {
    if (newest === undefined) return;
    this.#newest = newest;
    if (this.#covered !== undefined && !isAfter(newest, this.#covered)) return;
    this.#lookForOthers();
    this.#replace(ahead(this.#latest(newest)));
  }

  /** Writes the exact timestamp, without the seconds ahead: no later start has a reason to doubt it. */
  close(): void {
    if (this.#newest === undefined) return;
    if (!this.#lookForOthers()) this.#replace(this.#latest(this.#newest));
    this.#newest = undefined;
  }

  /** Whether another process wrote after us: it went ahead of all that we covered. */
  #lookForOthers(): boolean {
    const there = read(this.#path);
    if (there === undefined || (this.#covered !== undefined && !isAfter(there, this.#covered))) return false;
    this.#others = there;
    return true;
  }

  #latest(newest: Uint8Array): Uint8Array {
    return this.#others !== undefined && isAfter(this.#others, newest) ? this.#others : newest;
  }

  /** A process that is killed leaves the old or the new file; the disk itself is asked to keep it without waiting. */
  #replace(timestamp: Uint8Array): void {
    const temporary = `${this.#path}.${randomBytes(4).toString('hex')}`;
    const fd = openSync(temporary, 'wx', 0o600);
    try {
      giveToFolderOwner(fd, temporary);
      writeSync(fd, timestamp);
      renameSync(temporary, this.#path);
    } catch (error) {
      rmSync(temporary, { force: true });
      throw error;
    } finally {
      closeSync(fd);
    }
    this.#covered = timestamp;
    this.#keep(this.#path);
  }
}

/** Undefined when there is no file. */
function read(path: string): Uint8Array | undefined {
  let content: Uint8Array;
  try {
    content = new Uint8Array(readFileSync(path));
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return undefined;
    throw new Error(`${path}: cannot read the handshake timestamp: check the file's owner and mode`, { cause: error });
  }
  if (content.length === TIMESTAMP_LENGTH) return content;
  throw new Error(
    `${path}: the handshake timestamp has ${content.length} bytes, expected ${TIMESTAMP_LENGTH}: ` +
      'restore it from a backup, or delete it if the clock is right',
  );
}

/** Asks the disk to keep what was written to a file, without waiting; needs an event loop that turns. */
export function keepOnDisk(path: string): void {
  open(path, 'r', (error, fd) => {
    // Who removed it meanwhile does not want it kept.
    if (error === null) fsync(fd, () => close(fd));
  });
}

function ahead(timestamp: Uint8Array): Uint8Array {
  const later = timestamp.slice();
  const view = new DataView(later.buffer);
  view.setBigUint64(0, view.getBigUint64(0) + AHEAD_SECONDS);
  return later;
}
