/** Forwarding of packets between interfaces (ip-sysctl): turned on for the peers and put back exactly. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export type Family = 'ipv4' | 'ipv6';

/** Values of settings by their path under /proc/sys/net, in the order in which they are to be written. */
export type Settings = readonly (readonly [path: string, value: string])[];

const ROOT = '/proc/sys/net';
const ALL: Readonly<Record<Family, string>> = { ipv4: 'ipv4/ip_forward', ipv6: 'ipv6/conf/all/forwarding' };

/** True when packets of this family are forwarded between any interfaces. */
export function isForwarding(family: Family): boolean {
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

/** Turns forwarding on; a host that took its routes from advertisements goes on doing so (accept_ra = 2). */
export function enableForwarding(family: Family): void {
  if (isForwarding(family)) return;
  if (family === 'ipv6') {
    for (const path of interfaces(family).map(acceptRa)) if (read(path) === '1') write(path, '2');
  }
  write(ALL[family], '1');
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

function write(path: string, value: string): void {
  writeFileSync(join(ROOT, path), value);
}
