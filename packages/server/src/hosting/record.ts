/** What servers of one state folder changed on their hosts, in a file that another process undoes it by: one entry a network namespace. */
import { readFileSync } from 'node:fs';
import { isGone, type NetworkNamespace, networkNamespace } from '@sealane/tunnel';
import { errorCode, RefusedError } from '../errors.ts';
import { removeFile, replaceFile } from '../state/file.ts';
import { isSettings, type Settings } from './forwarding.ts';

export interface HostRecord {
  readonly interfaceName: string;
  readonly settings: Settings;
}

interface Entry extends HostRecord {
  readonly place: NetworkNamespace;
}

export interface Records {
  /** Of this network namespace. */
  readonly here: HostRecord | undefined;
  /** Of others that may still be there: they alone know whether what is noted still stands. */
  readonly elsewhere: readonly HostRecord[];
}

/** @throws RefusedError for a file that cannot be what we wrote: nobody knows then what is to be undone. */
export function readRecords(path: string): Records {
  const place = networkNamespace();
  const entries = readEntries(path);
  return {
    here: entries.find((entry) => isSame(entry.place, place)),
    elsewhere: entries.filter((entry) => mayStand(entry, place)),
  };
}

/** A container that is killed again and again starts in a new network namespace each time. */
const MOST_ELSEWHERE = 100;

/** Replaces the entry of this network namespace, or removes it; those of namespaces that are gone go too. */
export function writeRecord(path: string, record: HostRecord | undefined): void {
  const place = networkNamespace();
  const others = readEntries(path)
    .filter((entry) => mayStand(entry, place))
    .slice(-MOST_ELSEWHERE);
  const entries = record === undefined ? others : [...others, { place, ...record }];
  if (entries.length === 0) removeFile(path);
  else replaceFile(path, JSON.stringify(entries));
}

/** True for an entry of another network namespace that is not known to be gone. */
function mayStand({ place }: Entry, here: NetworkNamespace): boolean {
  return !isSame(place, here) && !isGone(place, here);
}

function isSame(one: NetworkNamespace, other: NetworkNamespace): boolean {
  return one.inode === other.inode && one.cookie === other.cookie && one.boot === other.boot;
}

function readEntries(path: string): readonly Entry[] {
  try {
    const entries: unknown = JSON.parse(readFileSync(path, 'utf8'));
    if (Array.isArray(entries) && entries.every(isEntry)) return entries;
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return [];
    if (!(error instanceof SyntaxError)) {
      throw new RefusedError(`${path} cannot be read: ${errorCode(error) ?? String(error)}`, { cause: error });
    }
  }
  throw new RefusedError(`${path} is not what sealaned writes: look at it and remove it`);
}

function isEntry(value: unknown): value is Entry {
  return (
    isObject(value) &&
    isObject(value['place']) &&
    [value['interfaceName'], ...['inode', 'cookie', 'boot'].map((name) => (value['place'] as Fields)[name])].every(
      (text) => typeof text === 'string',
    ) &&
    isSettings(value['settings'])
  );
}

type Fields = Readonly<Record<string, unknown>>;

function isObject(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null;
}
