/**
 * A lane beside lane 0: a queue of the interface and sockets of its own, with a replica of lane 0's device. It carries packets and
 * decides nothing; what it is told comes by messages that a bell announces, and it reports what went by.
 */
import { receiveMessageOnPort, type MessagePort } from 'node:worker_threads';
import { LaneReplica, wipe } from '@sealane/protocol';
import { selectCrypto, type CryptoKind } from '../crypto/select.ts';
import { IdleCollector } from '../heap.ts';
import { Bell } from '../linux/bell.ts';
import { addressOf } from '../linux/foreign.ts';
import { Routes } from '../linux/routes.ts';
import { DataPath, packetMemory, type StrayDatagram } from './data-path.ts';
import { Faults } from './faults.ts';
import { clockOrigin, GONE, type FromDataLane, type ToDataLane } from './lane-messages.ts';
import { LanePoll, WAITED } from './lane-poll.ts';
import { Outlet } from './outlet.ts';

/** Milliseconds between new allowances for answers. */
const ANSWER_INTERVAL = 500;
/** Datagrams of others that are passed on between two reports: a stranger's trains must not flood lane 0. */
const MOST_STRAYS = 256;

export interface DataLaneInput {
  readonly lane: number;
  /** Descriptors of all queues of the interface, by lane. */
  readonly queues: readonly number[];
  readonly udpOffload: boolean;
  readonly crypto: CryptoKind;
  /** To lane 0. */
  readonly port: MessagePort;
  readonly bell: number;
  /** Lane 0's. */
  readonly answerBell: number;
  readonly answers: SharedArrayBuffer;
}

export class DataLane {
  readonly #input: DataLaneInput;
  readonly #replica: LaneReplica;
  readonly #path: DataPath;
  readonly #outlet: Outlet;
  readonly #collector = new IdleCollector(performance.now());
  readonly #faults = new Faults();
  readonly #notes: string[] = [];
  readonly #routes: Routes | undefined = Routes.open();
  readonly #answers: Int32Array<SharedArrayBuffer>;
  readonly #lane0: Bell;
  readonly #poll: LanePoll;
  /** Added to this thread's clock to make it lane 0's. */
  #clockOffset = 0;
  readonly #deferred: ToDataLane[] = [];
  #strays = 0;
  #running = true;
  #nextAnswers = 0;

  constructor(input: DataLaneInput) {
    this.#input = input;
    this.#answers = new Int32Array(input.answers);
    this.#lane0 = Bell.of(input.answerBell);
    const memory = packetMemory();
    const { queues, lane } = input;
    this.#replica = new LaneReplica({
      crypto: selectCrypto(input.crypto),
      lane,
      lanes: queues.length,
      refresh: () => this.#refresh(),
    });
    this.#outlet = new Outlet({
      base: addressOf(memory.bytes),
      faults: this.#faults,
      notes: this.#notes,
      forgetSource: (peer) => this.#replica.forgetSource(peer),
    });
    this.#path = new DataPath({
      tun: queues[lane]!,
      queues,
      core: this.#replica,
      faults: this.#faults,
      memory,
      outlet: this.#outlet,
      udpOffload: input.udpOffload,
      onElsewhere: (datagram) => this.#passOn(datagram),
    });
    this.#poll = new LanePoll({ bell: input.bell, tun: queues[lane]! });
  }

  /** Runs until lane 0 says that it is over, or throws. Either way lane 0 knows. */
  run(): void {
    try {
      this.#hear();
      while (this.#running) this.#turn();
      this.#report();
    } finally {
      this.#outlet.borrow(undefined);
      this.#replica.close();
      this.#path.close();
      this.#routes?.close();
      Atomics.store(this.#answers, this.#input.lane, GONE);
      Atomics.notify(this.#answers, this.#input.lane);
    }
  }

  #turn(): void {
    const before = this.#faults.total;
    const due = this.#replica.reportDue - this.#now();
    let moved = 0;
    const poll = this.#poll;
    const wait = due === Infinity ? -1 : Math.max(0, Math.ceil(due));
    if (poll.wait(this.#outlet.udp4, this.#outlet.udp6, wait) > 0) {
      if (poll.has(WAITED.bell)) {
        poll.silenceBell();
        this.#hear();
      }
      if (!this.#running) return;
      const now = this.#now();
      if (poll.has(WAITED.udp4)) moved += this.#path.receive(this.#outlet.udp4, now);
      if (poll.has(WAITED.udp6)) moved += this.#path.receive(this.#outlet.udp6, now);
      if (poll.has(WAITED.interface) || moved > 0) moved += this.#path.readInterface(now);
      // Lane 0 finds out by itself, and ends this.
      if (this.#path.gone) poll.ignoreInterface();
    }
    const now = this.#now();
    if (now >= this.#nextAnswers) {
      this.#nextAnswers = now + ANSWER_INTERVAL;
      this.#path.allowAnswers();
    }
    if (this.#replica.reportDue <= now) {
      this.#report();
      this.#lane0.ring();
    }
    if (moved > 0) return;
    if (this.#faults.total !== before) poll.rest();
    this.#collector.idle(performance.now());
  }

  /** Lane 0's clock. */
  #now(): number {
    return performance.now() + this.#clockOffset;
  }

  /** Does what lane 0 has said. */
  #hear(): void {
    // What one message defers comes before what the port has next.
    const next = (): ToDataLane | undefined => this.#deferred.shift() ?? this.#nextMessage();
    for (let message = next(); message !== undefined; message = next()) this.#follow(message);
  }

  /** Learns in the middle of a batch what has changed; the rest waits for the end of the turn, which the bell announces. */
  #refresh(): void {
    for (let message = this.#nextMessage(); message !== undefined; message = this.#nextMessage()) {
      if (message.type === 'changes') this.#follow(message);
      else this.#deferred.push(message);
    }
  }

  #nextMessage(): ToDataLane | undefined {
    const received: { readonly message: ToDataLane } | undefined = receiveMessageOnPort(this.#input.port);
    return received?.message;
  }

  #follow(message: ToDataLane): void {
    switch (message.type) {
      case 'clock':
        this.#clockOffset = clockOrigin() - message.origin;
        return;
      case 'changes':
        this.#replica.apply(message.changes);
        return;
      case 'system':
        this.#path.mtu = message.mtu;
        this.#outlet.mark = message.mark;
        return;
      case 'sockets':
        this.#outlet.borrow(message.sockets);
        return;
      case 'routes':
        if (this.#routes !== undefined) this.#outlet.checkSources(this.#routes, this.#replica.handles());
        return;
      case 'datagram':
        this.#path.openBytes(message.datagram, this.#now());
        return;
      case 'settle':
        this.#report();
        Atomics.store(this.#answers, this.#input.lane, message.turn);
        Atomics.notify(this.#answers, this.#input.lane);
        return;
      case 'close':
        this.#running = false;
    }
  }

  #passOn(datagram: StrayDatagram): void {
    if (this.#strays++ < MOST_STRAYS) {
      this.#post({ type: 'datagram', datagram });
      this.#lane0.ring();
    } else {
      this.#faults.add('lane-overflow');
    }
  }

  #report(): void {
    this.#strays = 0;
    const report = this.#replica.reportDue === Infinity ? undefined : this.#replica.report(this.#now());
    const state = { traffic: this.#path.traffic, faults: this.#faults.snapshot(), notes: [...this.#notes] };
    this.#post({ type: 'report', report, state });
    // The message has its own copies.
    wipe(...(report?.unsent ?? []));
  }

  #post(message: FromDataLane): void {
    this.#input.port.postMessage(message, []);
  }
}
