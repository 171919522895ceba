/** What all listeners of one `sealane proxy` share. */
import type { NetworkStack } from '@sealane/tunnel';
import type { Complaints } from './complaints.ts';
import type { Credentials } from './credentials.ts';

/** Times in milliseconds. */
export interface ProxyLimits {
  /** How long a client may take from its connection to its complete request. */
  readonly handshakeMs: number;
  /** How long the far side may take to answer a connection. */
  readonly connectMs: number;
  /** Connections of one listener; those beyond are closed at once. */
  readonly maxClients: number;
  /** UDP flows or associations of one listener. */
  readonly maxFlows: number;
  /** How long a UDP flow lives without a datagram. */
  readonly udpIdleMs: number;
}

export const DEFAULT_LIMITS: ProxyLimits = {
  handshakeMs: 10_000,
  connectMs: 30_000,
  maxClients: 4_096,
  maxFlows: 1_024,
  udpIdleMs: 120_000,
};

/** What a network cannot say of itself, and who is told of it. */
export interface ProxyVoice {
  /** Turns the failure of a connection or lookup into the one that it comes from. */
  readonly explain: (error: unknown) => Promise<unknown>;
  readonly complaints: Complaints;
}

export interface ProxyContext extends ProxyVoice {
  /** Where requests go to. */
  readonly network: NetworkStack;
  /** Whom the listeners serve; anybody who reaches them when absent. */
  readonly credentials?: Credentials;
  readonly limits: ProxyLimits;
}

/** What a forward needs, whichever way it goes. */
export type ForwardContext = Pick<ProxyContext, 'limits' | 'explain' | 'complaints'>;

/** In words, by errno. */
export const LOOKUP_FAILURES: Readonly<Record<string, string>> = {
  ENOTFOUND: 'the name has no address',
  EAI_AGAIN: 'no name server answers',
};
