/** Failures of a network in the words of node:net: an errno as `code`, and what was tried. */
import { getSystemErrorName } from 'node:util';
import { constants } from 'node:os';
import type { UnreachableReason } from '@sealane/netstack';

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

/** The configuration leads nowhere for this address: the cause of an ENETUNREACH. */
export class NotRoutedError extends Error {
  override readonly name = 'NotRoutedError';

  constructor(address: string) {
    super(`${address} is not in the AllowedIPs of any peer`);
  }
}

/** What ICMP says for an errno of a socket. */
export function unreachableReason(code: string | undefined): UnreachableReason {
  return UNREACHABLE_REASONS[code ?? ''] ?? 'host-unreachable';
}

const UNREACHABLE_REASONS: Readonly<Record<string, UnreachableReason>> = {
  ECONNREFUSED: 'port-unreachable',
  EACCES: 'prohibited',
  EPERM: 'prohibited',
  ENETUNREACH: 'network-unreachable',
};

/** A name that has no address (`ENOTFOUND`) or that nobody could be asked for (`EAI_AGAIN`), as node:dns says it. */
export function lookupError(code: 'ENOTFOUND' | 'EAI_AGAIN', hostname: string, cause?: unknown): NodeJS.ErrnoException {
  const error = new Error(`getaddrinfo ${code} ${hostname}`, cause === undefined ? undefined : { cause });
  return Object.assign(error, { code, syscall: 'getaddrinfo', hostname });
}

/** `host:port` with the brackets that an IPv6 address needs. */
export function joinHostPort(host: string, port: number): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

function isErrno(number: number, code: string): boolean {
  return getSystemErrorName(number) === code;
}
