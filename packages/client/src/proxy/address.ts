/** What the options of `sealane proxy` name: where to listen and where to go. */
import { isIP } from 'node:net';
import { parsePort } from '@sealane/tunnel';
import { badInput } from '../errors.ts';

export type ListenAddress =
  | { readonly kind: 'port'; readonly host: string; readonly port: number }
  | { readonly kind: 'path'; readonly path: string };

export type Target =
  | { readonly kind: 'port'; readonly host: string; readonly port: number }
  | { readonly kind: 'path'; readonly path: string };

export interface Forward {
  readonly protocol: 'tcp' | 'udp';
  readonly listen: ListenAddress;
  readonly target: Target;
}

const LOOPBACK = '127.0.0.1';

/** Reads `[ADDR:]PORT` or the path of a Unix socket; CliError naming the option. */
export function parseListen(text: string, option: string): ListenAddress {
  const listen = readListen(text, LOOPBACK);
  if (listen === undefined)
    throw badInput(`${option} ${text}: expected [ADDRESS:]PORT, or a path that begins with / or .`);
  return listen;
}

/** Reads `HOST:PORT`; CliError naming the option. */
export function parseTarget(text: string, option: string): Target & { readonly kind: 'port' } {
  const target = readHostPort(text);
  if (target === undefined)
    throw badInput(`${option} ${text}: expected HOST:PORT, such as db.example.org:5432 or [fd00::1]:22`);
  return target;
}

/** Reads `-L`'s `LISTEN:HOST:PORT[/udp]`; CliError. */
export function parseLocalForward(text: string): Forward {
  const forward = readForward(text, LOOPBACK, false);
  if (forward === undefined) {
    throw badInput(`-L ${text}: expected [ADDRESS:]PORT:HOST:PORT[/udp], such as 8080:10.0.0.1:80, or PATH:HOST:PORT`);
  }
  return forward;
}

/** Reads `-R`'s `PORT:HOST:PORT[/udp]` or `PORT:PATH`; CliError. An address before the first port is one of the tunnel's. */
export function parseRemoteForward(text: string): Forward {
  const forward = readForward(text, '', true);
  if (forward === undefined || forward.listen.kind === 'path') {
    throw badInput(`-R ${text}: expected [ADDRESS:]PORT:HOST:PORT[/udp], such as 8080:localhost:3000, or PORT:PATH`);
  }
  return forward;
}

/** Whether only this computer's programs can reach it. */
export function isPrivate(listen: ListenAddress): boolean {
  if (listen.kind === 'path') return true;
  return listen.host === '::1' || (isIP(listen.host) === 4 && listen.host.startsWith('127.'));
}

export function formatTarget(target: ListenAddress | Target): string {
  if (target.kind === 'path') return target.path;
  if (target.host === '') return String(target.port);
  return target.host.includes(':') ? `[${target.host}]:${target.port}` : `${target.host}:${target.port}`;
}

function readForward(text: string, defaultHost: string, mayEndInPath: boolean): Forward | undefined {
  const suffix = /\/(tcp|udp)$/.exec(text);
  const protocol = suffix?.[1] === 'udp' ? 'udp' : 'tcp';
  const rest = suffix === null ? text : text.slice(0, suffix.index);
  const toPath = mayEndInPath ? /^(.+?):([./].*)$/.exec(rest) : null;
  const parts = toPath ?? /^(.+):((?:\[[^\]]*\]|[^:[\]]+):\d+)$/.exec(rest);
  if (parts === null) return undefined;
  const listen = readListen(parts[1]!, defaultHost);
  const target: Target | undefined = toPath === null ? readHostPort(parts[2]!) : { kind: 'path', path: parts[2]! };
  if (listen === undefined || target === undefined) return undefined;
  if (protocol === 'udp' && (listen.kind === 'path' || target.kind === 'path')) return undefined;
  return { protocol, listen, target };
}

function readListen(text: string, defaultHost: string): ListenAddress | undefined {
  if (/^[./]/.test(text)) return { kind: 'path', path: text };
  const parts = /^(?:(\[[^\]]*\]|[^:[\]]+):)?(\d+)$/.exec(text);
  if (parts === null) return undefined;
  const port = parts[2] === '0' ? 0 : parsePort(parts[2]!);
  const given = parts[1] === undefined ? defaultHost : unbracket(parts[1]);
  const host = given === 'localhost' ? LOOPBACK : given === '*' ? '0.0.0.0' : given;
  if (port === undefined || (host !== defaultHost && isIP(host) === 0)) return undefined;
  return { kind: 'port', host, port };
}

function readHostPort(text: string): (Target & { readonly kind: 'port' }) | undefined {
  const parts = /^(\[[^\]]*\]|[^:[\]\s]+):(\d+)$/.exec(text);
  if (parts === null) return undefined;
  const host = unbracket(parts[1]!);
  const port = parsePort(parts[2]!);
  if (port === undefined || host.length > 253 || (parts[1]!.startsWith('[') && isIP(host) !== 6)) return undefined;
  return { kind: 'port', host, port };
}

function unbracket(text: string): string {
  return text.startsWith('[') ? text.slice(1, -1) : text;
}
