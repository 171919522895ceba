/** What `sealane up` did to the system, in a file that `sealane down` reads when the process was killed. */
import {
  closeSync,
  fsyncSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { isGone, type NetworkNamespace, networkNamespace } from '@sealane/tunnel';
import { CliError, EXIT, errorCode } from '../errors.ts';
import type { UndoStep } from './steps.ts';
import { readUndone, UndoneNotes } from './undone.ts';

const VERSION = 1;

export interface JournalRecord {
  readonly version: typeof VERSION;
  readonly name: string;
  readonly pid: number;
  /** Absolute, or `-`. */
  readonly config: string;
  /** In the order in which they were done. */
  readonly steps: readonly UndoStep[];
  /** True when the process undid what it could and left the steps that are here. */
  readonly ended: boolean;
  /** What failed then and is not tried again: in words, for `sealane down`, which waits for the end. */
  readonly failed: readonly string[];
  /** Whose the process became: the file holds what it had done by then, and what it undid is noted beside it. */
  readonly user?: string;
  /** What endpoint names stood for: with a kill switch in place no name can be looked up. */
  readonly endpoints: Readonly<Record<string, readonly string[]>>;
}

/** The journal of a running tunnel: a file of mode 0600, replaced as a whole with each change. */
export class Journal {
  #record: JournalRecord;
  /** In place of the file, once this process may not write that. */
  #undone: UndoneNotes | undefined;
  readonly #owner = process.geteuid?.();

  constructor(name: string, config: string, endpoints: JournalRecord['endpoints']) {
    this.#record = {
      version: VERSION,
      name,
      pid: process.pid,
      config,
      steps: [],
      ended: false,
      failed: [],
      endpoints,
    };
  }

  /** From here on others know whose process it is. */
  begin(): void {
    this.#write(this.#record);
  }

  /** Throws when the file cannot be written: what cannot be noted must not be done. */
  save(steps: readonly UndoStep[]): void {
    this.#write({ ...this.#record, steps });
  }

  /** What is left at the end. */
  saveRest(steps: readonly UndoStep[], failed: readonly string[]): void {
    this.#write({ ...this.#record, steps, ended: true, failed });
  }

  update(change: Partial<Pick<JournalRecord, 'config' | 'endpoints'>>): void {
    this.#write({ ...this.#record, ...change });
  }

  /** Call it before the process becomes that user's, and note no further step afterwards. */
  handOver(user: string): void {
    this.#undone = new UndoneNotes(runtimePath(this.#record.name, 'undone'), this.#record.steps);
    this.#write({ ...this.#record, user });
  }

  remove(): void {
    if (this.#isOurs()) removeJournal(this.#record.name);
    else this.saveRest([], []);
  }

  #write(record: JournalRecord): void {
    this.#record = record;
    if (this.#isOurs()) writeJournal(record);
    else this.#undone?.tell(record.steps, record.ended);
  }

  /** A process that has become another user's cannot write the file any more: it stays as it is, for `sealane down`. */
  #isOurs(): boolean {
    return process.geteuid?.() === this.#owner;
  }
}

/** Makes the folder of journals and logs, mode 0700, on first use; gone with the next start of the system. */
export function runtimeFolder(): string {
  const given = process.env['XDG_RUNTIME_DIR'];
  const base = process.geteuid?.() === 0 ? '/run' : given !== undefined && given.startsWith('/') ? given : '/tmp';
  const folder = join(base, base === '/tmp' ? `sealane-${process.geteuid?.() ?? 0}` : 'sealane-client');
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  checkOwn(folder, 'directory');
  return folder;
}

/**
 * What a tunnel of this name did, running or killed; undefined when nothing is noted. Of one whose network namespace is gone
 * only what outlived that is told. CliError for a file that cannot be trusted.
 */
export function readJournal(name: string): JournalRecord | undefined {
  return readRecord(journalPath(name), name) ?? bequests(name)[0];
}

/** What is left of a tunnel after some of it was undone; throws when the file cannot be written. */
export function saveLeftovers(record: JournalRecord, steps: readonly UndoStep[]): void {
  // With the user it would be read as what that process found, and what it undid belongs to another list.
  const { user: _user, ...rest } = record;
  writeJournal({ ...rest, steps });
}

/** Replaces a journal as a whole; throws when the file cannot be written. */
function writeJournal(record: JournalRecord): void {
  const path = journalPath(record.name);
  const temporary = `${path}.tmp`;
  try {
    const file = openSync(temporary, 'w', 0o600);
    try {
      writeFileSync(file, JSON.stringify(record));
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    renameSync(temporary, path);
  } catch (cause) {
    throw new CliError(EXIT.failure, `${path} cannot be written: ${errorCode(cause) ?? String(cause)}`, {
      cause,
    });
  }
}

export function removeJournal(name: string): void {
  const path = journalPath(name);
  removeFiles(path);
  // Of a process that was killed while it wrote.
  rmSync(`${path}.tmp`, { force: true });
  for (const file of journalFiles()) if (file.name === name && isGone(file, namespace())) removeFiles(file.path);
}

/** A journal, and then what was undone of it: never the second alone. */
function removeFiles(path: string): void {
  rmSync(path, { force: true });
  rmSync(undonePath(path), { force: true });
}

/** The tunnels that something is noted of, in this network namespace or in one that is gone. */
export function journalNames(): readonly string[] {
  const own = journalFiles().filter(({ path, name }) => path === journalPath(name));
  return [...new Set([...own, ...bequests()].map(({ name }) => name))];
}

interface JournalFile extends NetworkNamespace {
  readonly path: string;
  readonly name: string;
}

/** A file about a tunnel: each network namespace may have one of this name. */
export function runtimePath(name: string, kind: 'json' | 'lock' | 'log' | 'undone'): string {
  const { inode, cookie, boot } = namespace();
  return join(runtimeFolder(), `${name}.${inode}.${cookie}.${boot}.${kind}`);
}

function journalPath(name: string): string {
  return runtimePath(name, 'json');
}

function undonePath(journal: string): string {
  return journal.replace(/json$/, 'undone');
}

/** The journals of all network namespaces. */
function journalFiles(): readonly JournalFile[] {
  const folder = runtimeFolder();
  return readdirSync(folder).flatMap((file) => {
    const [, name, inode, cookie, boot] = /^(.+)\.(\d+)\.(\d+)\.([0-9a-f-]+)\.json$/.exec(file) ?? [];
    if (name === undefined || inode === undefined || cookie === undefined || boot === undefined) return [];
    return [{ path: join(folder, file), name, inode, cookie, boot }];
  });
}

/**
 * What outlived a network namespace: name servers may be the whole system's. Rules, tables and settings ended with it,
 * and commands were meant for it. Journals that tell of nothing else are removed.
 */
function bequests(name?: string): readonly JournalRecord[] {
  const files = journalFiles().filter((file) => name === undefined || file.name === name);
  return files.flatMap((file) => {
    const record = isGone(file, namespace()) ? readRecord(file.path, file.name) : undefined;
    if (record === undefined) return [];
    const steps = record.steps.filter(({ kind }) => kind === 'resolvconf');
    if (steps.length > 0) return [{ ...record, failed: [], endpoints: {}, steps }];
    removeFiles(file.path);
    return [];
  });
}

let known: NetworkNamespace | undefined;

function namespace(): NetworkNamespace {
  known ??= networkNamespace();
  return known;
}

function readRecord(path: string, name: string): JournalRecord | undefined {
  try {
    checkOwn(path, 'file');
    const record: unknown = JSON.parse(readFileSync(path, 'utf8'));
    if (isRecord(record) && record.name === name)
      return record.user === undefined ? record : withoutUndone(path, record);
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return undefined;
    if (error instanceof CliError) throw error;
  }
  throw new CliError(EXIT.failure, `${path} is not what 'sealane up' writes: look at it and remove it`);
}

/** A record of a process that has become another user's, as it would be if that process could have kept it. */
function withoutUndone(journal: string, record: JournalRecord): JournalRecord {
  const path = undonePath(journal);
  try {
    checkOwn(path, 'file');
    const { steps, ended } = readUndone(path, record.steps);
    return { ...record, steps, ended: ended || record.ended };
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return record;
    throw error;
  }
}

function checkOwn(path: string, kind: 'directory' | 'file'): void {
  const stats = lstatSync(path);
  const own = process.geteuid?.();
  const right = kind === 'directory' ? stats.isDirectory() : stats.isFile();
  if (!right || (own !== undefined && stats.uid !== own) || (stats.mode & 0o077) !== 0) {
    throw new CliError(EXIT.failure, `${path} is not a ${kind} that only we may use: look at it and remove it`);
  }
}

function isRecord(value: unknown): value is JournalRecord {
  return (
    typeof value === 'object' &&
    value !== null &&
    'version' in value &&
    value.version === VERSION &&
    'name' in value &&
    'steps' in value &&
    Array.isArray(value.steps) &&
    'failed' in value &&
    Array.isArray(value.failed)
  );
}
