import type { PeerTraffic } from '../../src/lane-model.ts';

/** What a lane reports of a peer with which nothing happened. */
export function quiet(peer: number): PeerTraffic {
  return {
    peer,
    rxBytes: 0,
    txBytes: 0,
    sentAt: -Infinity,
    receivedAt: -Infinity,
    receivedOn: undefined,
    receivedData: false,
    begun: [],
    endpoint: undefined,
    forgetSource: false,
    other: undefined,
  };
}
