/** The lanes beside lane 0, as lane 0 sees them: told what changed, asked to catch up, heard when they report. */
import { receiveMessageOnPort, type MessagePort } from 'node:worker_threads';
import { laneOf, type LaneChange, type LaneReport } from '@sealane/protocol';
import { Bell } from '../linux/bell.ts';
import type { StrayDatagram } from './data-path.ts';
import { clockOrigin, GONE, type DataLaneState, type FromDataLane, type ToDataLane } from './lane-messages.ts';
import type { LaneSockets } from './sockets.ts';

/** Milliseconds: one wait, and how many of them a thread that does not even start is given. */
const WAIT = 500;
const WAITS = 60;

/** One lane: its end of the channel and its bell. */
export interface LaneLink {
  readonly port: MessagePort;
  readonly bell: number;
}

interface Lane {
  readonly port: MessagePort;
  readonly bell: Bell;
  state: DataLaneState | undefined;
}

export interface DataLaneHandlers {
  readonly onReport: (report: LaneReport) => void;
  readonly onDatagram: (datagram: StrayDatagram) => void;
}

export class DataLanes {
  readonly #lanes: readonly Lane[];
  readonly #answers: Int32Array<SharedArrayBuffer>;
  readonly #handlers: DataLaneHandlers;
  #turn = 0;

  /** `answers` has a word for every lane, lane 0 included. */
  constructor(links: readonly LaneLink[], answers: SharedArrayBuffer, handlers: DataLaneHandlers) {
    this.#lanes = links.map(({ port, bell }) => ({ port, bell: Bell.of(bell), state: undefined }));
    this.#answers = new Int32Array(answers);
    this.#handlers = handlers;
    this.#tell({ type: 'clock', origin: clockOrigin() });
  }

  /** Lane 0 included. */
  get count(): number {
    return this.#lanes.length + 1;
  }

  get states(): readonly DataLaneState[] {
    return this.#lanes.flatMap(({ state }) => state ?? []);
  }

  follow(changes: readonly LaneChange[]): void {
    if (changes.length > 0) this.#tell({ type: 'changes', changes });
  }

  describeSystem(mtu: number, mark: number): void {
    this.#tell({ type: 'system', mtu, mark });
  }

  routesChanged(): void {
    this.#tell({ type: 'routes' });
  }

  /** Gives each lane its sockets, or takes them away; when this returns, no lane uses those before. */
  handOver(sockets: readonly LaneSockets[] | undefined): void {
    for (const [i, lane] of this.#lanes.entries()) this.#post(lane, { type: 'sockets', sockets: sockets?.[i] });
    this.settle();
  }

  /** Passes a datagram on to the lane that opens it. */
  relay(datagram: StrayDatagram): void {
    const { bytes } = datagram;
    const lane = this.#lanes[laneOf(bytes[4]!, this.count) - 1];
    if (lane !== undefined) this.#post(lane, { type: 'datagram', datagram });
  }

  /** Returns when every lane has done all that it was told before; what they reported has been handled. */
  settle(): void {
    const turn = (this.#turn = (this.#turn + 1) & 0x7fff_ffff);
    this.#tell({ type: 'settle', turn });
    for (let i = 0; i < this.#lanes.length; i++) this.#await(i + 1, turn);
    this.receive();
  }

  /** Handles what the lanes reported. */
  receive(): void {
    for (const lane of this.#lanes) {
      for (let message = nextMessage(lane.port); message !== undefined; message = nextMessage(lane.port)) {
        if (message.type === 'datagram') {
          this.#handlers.onDatagram(message.datagram);
          continue;
        }
        lane.state = message.state;
        if (message.report !== undefined) this.#handlers.onReport(message.report);
      }
    }
  }

  /** Ends the lanes: when this returns they touch neither sockets nor interface any more. */
  close(): void {
    this.#tell({ type: 'close' });
    for (let i = 0; i < this.#lanes.length; i++) this.#await(i + 1, GONE);
    this.receive();
    for (const { port } of this.#lanes) port.close();
  }

  #tell(message: ToDataLane): void {
    for (const lane of this.#lanes) this.#post(lane, message);
  }

  #post(lane: Lane, message: ToDataLane): void {
    lane.port.postMessage(message, []);
    lane.bell.ring();
  }

  #await(lane: number, answer: number): void {
    for (let waits = 0; ; waits++) {
      const seen = Atomics.load(this.#answers, lane);
      if (seen === answer || seen === GONE) return;
      if (waits === WAITS) throw new Error(`packet thread ${lane} does not answer`);
      Atomics.wait(this.#answers, lane, seen, WAIT);
    }
  }
}

/** Ends the lanes in place of a lane 0 that could not start. */
export function endLanes({
  links,
  answers,
}: {
  readonly links: readonly LaneLink[];
  readonly answers: SharedArrayBuffer;
}): void {
  new DataLanes(links, answers, { onReport: () => {}, onDatagram: () => {} }).close();
}

function nextMessage(port: MessagePort): FromDataLane | undefined {
  const received: { readonly message: FromDataLane } | undefined = receiveMessageOnPort(port);
  return received?.message;
}
