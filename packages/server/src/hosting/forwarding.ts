/** Forwarding of packets between interfaces (ip-sysctl): turned on for the peers and put back exactly. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { errorCode, RefusedError } from '../errors.ts';

export type Family = 'ipv4' | 'ipv6';

/** Values of settings by their path under /proc/sys/net, in the order in which they are to be written. */
export type Settings = readonly (readonly [path: string, value: string])[];

const ROOT = '/proc/sys/net';
const ALL: Readonly<Record<Family, string>> = { ipv4: 'ipv4/ip_forward', ipv6: 'ipv6/conf/all/forwarding' };

/** The folder may be a user's: root writes nothing else for it. */
export function isSettings(value: unknown): value is Settings {
  const isSetting = (entry: unknown): boolean =>
    Array.isArray(entry) &&
    entry.length === 2 &&
    /^(ipv4\/ip_forward|ipv[46]\/conf\/(?!\.\.?\/)[^/]+\/(forwarding|accept_ra))$/.test(String(entry[0])) &&
    /^\d+$/.test(String(entry[1]));
  return Array.isArray(value) && value.every(isSetting);
}

/** True when packets of this family are forwarded between any interfaces. */
function isForwarding(family: Family): boolean {
  return read(ALL[family]) === '1';
}

/**
 * What `enableForwarding` is about to change, as it is now: nothing when forwarding is on. Writing the one switch sets
 * all interfaces, so each is noted.
 */
export function forwardingSettings(family: Family): Settings {
  if (isForwarding(family)) return [];
  const names = interfaces(family);
  const paths = [
    ...names.map((name) => `${family}/conf/${name}/forwarding`),
    ...(family === 'ipv6' ? names.map(acceptRa) : []),
  ];
  return [[ALL[family], '0'], ...paths.map((path) => [path, read(path)] as const)];
}

/** The families whose forwarding was off as these settings say. */
export function wereOff(settings: Settings): readonly Family[] {
  return (['ipv4', 'ipv6'] as const).filter((family) => settings.some(([path]) => path === ALL[family]));
}

/** Those settings that are not among `others`. */
export function without(settings: Settings, others: Settings): Settings {
  const paths = new Set(others.map(([path]) => path));
  return settings.filter(([path]) => !paths.has(path));
}

/** Turns forwarding on; a host that took its routes from advertisements goes on doing so (accept_ra = 2). */
export function enableForwarding(family: Family): void {
  if (isForwarding(family)) return;
  if (family === 'ipv6') {
    for (const path of interfaces(family).map(acceptRa)) if (read(path) === '1') write(path, '2', inContainer);
  }
  write(ALL[family], '1', inContainer);
}

/** The switches among settings that are not as they were; the rest follows them. */
export function switchedOn(settings: Settings): readonly string[] {
  return settings
    .filter(([path, value]) => Object.values(ALL).includes(path) && read(path) !== value)
    .map(([path]) => `net.${path.replaceAll('/', '.')}`);
}

/** Writes settings back; those of interfaces that are gone are gone with them. */
export function restore(settings: Settings): void {
  for (const [path, value] of settings) {
    if (read(path) !== value && read(path) !== '') write(path, value);
  }
}

function interfaces(family: Family): readonly string[] {
  return readdirSync(join(ROOT, family, 'conf')).filter((name) => name !== 'all');
}

function acceptRa(name: string): string {
  return `ipv6/conf/${name}/accept_ra`;
}

function read(path: string): string {
  try {
    return readFileSync(join(ROOT, path), 'ascii').trim();
  } catch {
    return '';
  }
}

function inContainer(name: string, value: string): string {
  return `: where /proc/sys is read-only, start the container with '--sysctl ${name}=${value}'`;
}

function write(path: string, value: string, remedy: (name: string, value: string) => string = () => ''): void {
  try {
    writeFileSync(join(ROOT, path), value);
  } catch (cause) {
    const name = `net.${path.replaceAll('/', '.')}`;
    const why = `${name} cannot be set to ${value} (${errorCode(cause) ?? String(cause)})`;
    throw new RefusedError(`${why}${remedy(name, value)}`, { cause });
  }
}
