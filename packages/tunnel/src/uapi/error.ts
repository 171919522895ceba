import { errorCode, errorNumber } from '../os-error.ts';

/** The numbers that a control socket answers with: Linux errno values, negative on the wire as wireguard-go writes them. */
export const ERRNO = {
  EIO: 5,
  EINVAL: 22,
  EPROTO: 71,
  EOPNOTSUPP: 95,
  EADDRINUSE: 98,
} as const;

/** A request that is refused; the message is for our own log, the socket carries the number and, for people, the `reason`. */
export class UapiError extends Error {
  override readonly name = 'UapiError';
  readonly errno: number;
  readonly reason: string | undefined;

  constructor(errno: number, message: string, reason?: string) {
    super(message);
    this.errno = errno;
    this.reason = reason;
  }
}

/** The errno of what a tunnel threw: caller misuse is EINVAL, a system error keeps its number, all else is EIO. */
export function errnoOf(error: unknown): number {
  if (error instanceof UapiError) return error.errno;
  if (error instanceof TypeError || error instanceof RangeError) return ERRNO.EINVAL;
  if (errorCode(error) === 'EADDRINUSE') return ERRNO.EADDRINUSE;
  const number = errorNumber(error);
  if (number !== undefined && number !== 0) return number;
  return error instanceof Error && error.cause !== undefined ? errnoOf(error.cause) : ERRNO.EIO;
}
