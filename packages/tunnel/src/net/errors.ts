/** Failures of a network in the words of node:net: an errno as `code`, and what was tried. */
import { getSystemErrorName } from 'node:util';
import { constants } from 'node:os';

const MESSAGES: Readonly<Record<string, number>> = constants.errno;

export interface NetworkErrorDetails {
  readonly syscall: string;
  readonly address?: string;
  readonly port?: number;
  readonly cause?: unknown;
}

/** An error such as `connect ECONNREFUSED 10.0.0.1:80`, with `code`, `errno`, `syscall`, `address` and `port`. */
export function networkError(code: string, details: NetworkErrorDetails): NodeJS.ErrnoException {
  const { syscall, address, port, cause } = details;
  const where = address === undefined ? '' : ` ${port === undefined ? address : joinHostPort(address, port)}`;
  const error = new Error(`${syscall} ${code}${where}`, cause === undefined ? undefined : { cause });
  const number = MESSAGES[code];
  return Object.assign(error, {
    code,
    syscall,
    ...(number !== undefined && isErrno(-number, code) && { errno: -number }),
    ...(address !== undefined && { address }),
    ...(port !== undefined && { port }),
  });
}

/** A name that has no address (`ENOTFOUND`) or that nobody could be asked for (`EAI_AGAIN`), as node:dns says it. */
export function lookupError(code: 'ENOTFOUND' | 'EAI_AGAIN', hostname: string): NodeJS.ErrnoException {
  return Object.assign(new Error(`getaddrinfo ${code} ${hostname}`), { code, syscall: 'getaddrinfo', hostname });
}

/** `host:port` with the brackets that an IPv6 address needs. */
export function joinHostPort(host: string, port: number): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

function isErrno(number: number, code: string): boolean {
  return getSystemErrorName(number) === code;
}
