/** What lane 0 and the other lanes of one tunnel tell each other; packets only as exceptions. */
import type { LaneChange, LaneReport } from '@sealane/protocol';
import type { LaneTraffic } from '../model.ts';
import type { StrayDatagram } from './data-path.ts';
import type { LaneSockets } from './sockets.ts';

/** The last word of a lane in the table of answers: it does not run any more. */
export const GONE = -1;

export type ToDataLane =
  /** The origin of lane 0's clock, in milliseconds of the system's monotonic one: all lanes state times in that. */
  | { readonly type: 'clock'; readonly origin: number }
  | { readonly type: 'changes'; readonly changes: readonly LaneChange[] }
  | { readonly type: 'system'; readonly mtu: number; readonly mark: number }
  | { readonly type: 'sockets'; readonly sockets: LaneSockets | undefined }
  /** Routes changed: pinned sources may be wrong. */
  | { readonly type: 'routes' }
  | { readonly type: 'datagram'; readonly datagram: StrayDatagram }
  /** To be answered, once all before it is done, with a report and `turn` in the table of answers. */
  | { readonly type: 'settle'; readonly turn: number }
  | { readonly type: 'close' };

export type FromDataLane =
  | { readonly type: 'report'; readonly report: LaneReport | undefined; readonly state: DataLaneState }
  | { readonly type: 'datagram'; readonly datagram: StrayDatagram };

/** Since the start. */
export interface DataLaneState {
  readonly traffic: LaneTraffic;
  readonly faults: Readonly<Record<string, number>>;
  readonly notes: readonly string[];
}

/** The system's monotonic clock where `performance.now()` of this thread is 0: threads have origins of their own. */
export function clockOrigin(): number {
  const [seconds, nanoseconds] = process.hrtime();
  return seconds * 1_000 + nanoseconds / 1e6 - performance.now();
}
