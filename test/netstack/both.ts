import type { ConnectionHandler, TcpConnection } from '@sealane/netstack';
import { Drain, Source } from '../../packages/netstack/test/support/sim.ts';

/** Reads and checks one stream while writing another, and ends once it has written all. */
export class Both implements ConnectionHandler {
  readonly source: Source;
  readonly drain: Drain;
  error: string | undefined;
  closed = false;

  constructor(send: number, sendSeed = 2, receiveSeed = 1) {
    this.source = new Source(sendSeed, send);
    this.drain = new Drain(receiveSeed);
    // Only the source decides when this side ends.
    this.drain.ended = true;
  }

  onConnect(connection: TcpConnection): void {
    this.source.onConnect(connection);
  }

  onWritable(connection: TcpConnection): void {
    this.source.onWritable(connection);
  }

  onReadable(connection: TcpConnection): void {
    this.drain.onReadable(connection);
  }

  onClose(_connection: TcpConnection, error: string | undefined): void {
    this.closed = true;
    this.error = error;
  }
}
