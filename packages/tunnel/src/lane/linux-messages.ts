/** What passes between the main thread and lane 0 of the Linux lane: never a packet. */
import type { MessagePort } from 'node:worker_threads';
import type { DeviceSecrets, Endpoint } from '@sealane/protocol';
import type { CryptoKind } from '../crypto/select.ts';
import type { Offloads } from '../linux/tun.ts';
import type { LaneStatus, TunnelEvent } from '../model.ts';
import type { LaneLink } from './data-lanes.ts';
import type { PackedUpdate } from './packed-update.ts';

export interface WorkerInput {
  readonly port: MessagePort;
  /** Descriptors of the interface's queues, the first of which is lane 0's: all threads of a process share them. */
  readonly queues: readonly number[];
  readonly bell: number;
  readonly crypto: CryptoKind;
  readonly timestampFile: string | undefined;
  /** What the interface takes on. */
  readonly offloads: Offloads;
  /** The other lanes, and where they answer. */
  readonly links: readonly LaneLink[];
  readonly answers: SharedArrayBuffer;
}

export type Request =
  | { readonly type: 'configure'; readonly update: PackedUpdate }
  | { readonly type: 'status' }
  | { readonly type: 'secrets' }
  | { readonly type: 'rekey'; readonly publicKey: Uint8Array | undefined; readonly probed: Endpoint | undefined }
  /** Capabilities, before and after the process becomes another user's. */
  | { readonly type: 'hold' }
  | { readonly type: 'take'; readonly keep: readonly number[] }
  | { readonly type: 'close' };

export interface Answers {
  readonly configure: undefined;
  readonly status: LaneStatus;
  readonly secrets: DeviceSecrets;
  readonly rekey: number;
  readonly hold: undefined;
  readonly take: undefined;
  readonly close: undefined;
}

export type Answer = Answers[Request['type']];

export type FromWorker =
  | { readonly type: 'answer'; readonly id: number; readonly value: Answer }
  | { readonly type: 'refusal'; readonly id: number; readonly error: PortableError }
  | { readonly type: 'event'; readonly event: Exclude<TunnelEvent, { readonly type: 'closed' }> }
  /** This file was written; the thread's own event loop never turns to see it to the disk. */
  | { readonly type: 'written'; readonly path: string }
  /** The interface is gone or the loop failed. */
  | { readonly type: 'gone'; readonly error: PortableError | undefined };

export interface ToWorker {
  readonly id: number;
  readonly request: Request;
}

/** An error with the fields that cloning would lose. */
export interface PortableError {
  readonly name: string;
  readonly message: string;
  readonly code: string | undefined;
  readonly errno: number | undefined;
  readonly cause: PortableError | undefined;
}

const KINDS: Readonly<Record<string, ErrorConstructor>> = { TypeError, RangeError };

export function packError(error: unknown): PortableError {
  if (!(error instanceof Error))
    return { name: 'Error', message: String(error), code: undefined, errno: undefined, cause: undefined };
  const { code, errno } = error as { readonly code?: unknown; readonly errno?: unknown };
  return {
    name: error.name,
    message: error.message,
    code: typeof code === 'string' ? code : undefined,
    errno: typeof errno === 'number' ? errno : undefined,
    cause: error.cause === undefined ? undefined : packError(error.cause),
  };
}

export function unpackError(packed: PortableError): Error {
  const make = KINDS[packed.name] ?? Error;
  const error = new make(packed.message, packed.cause === undefined ? {} : { cause: unpackError(packed.cause) });
  if (packed.code !== undefined) Object.assign(error, { code: packed.code });
  if (packed.errno !== undefined) Object.assign(error, { errno: packed.errno });
  return error;
}
