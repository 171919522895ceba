import { formatDuration, formatEndpoint } from '@sealane/tunnel';
import type { CipherSuite, DropReason, Endpoint } from '@sealane/protocol';
import { EXIT, type ExitCode } from '../errors.ts';
import type { Refusal } from './reachability.ts';

export type FailureKind =
  | Refusal
  | 'no-answer'
  | 'wrong-preshared-key'
  | 'not-wireguard'
  | 'no-echo'
  | 'lost'
  | 'altered';

/** What is wrong, in one sentence, and what a person may check, most likely first. */
export interface Diagnosis {
  readonly failure: FailureKind;
  readonly summary: string;
  readonly hints: readonly string[];
  readonly exitCode: ExitCode;
}

/** What was seen while a handshake was tried. */
export interface HandshakeEvidence {
  readonly endpoint: Endpoint;
  /** Our public key in base64. */
  readonly publicKey: string;
  /** What this configuration has for the peer. */
  readonly cipher: CipherSuite;
  readonly waitedMs: number;
  readonly refusal?: Refusal;
  readonly cookieReceived: boolean;
  readonly drops: Readonly<Record<DropReason, number>>;
  /** Unix milliseconds. */
  readonly now: number;
  /** When the configuration was last written, Unix milliseconds. */
  readonly configTime?: number;
}

const CLOCK_TOLERANCE = 60_000;

/** Why there is no session. */
export function explainHandshake(evidence: HandshakeEvidence): Diagnosis {
  const where = formatEndpoint(evidence.endpoint);
  if (evidence.refusal !== undefined) return explainRefusal(evidence.refusal, where);
  if (evidence.drops['handshake-failed'] > 0) {
    return {
      failure: 'wrong-preshared-key',
      summary: `${where} answered, but its answer cannot be opened: the preshared keys differ`,
      hints: ['compare PresharedKey on both sides; one side may have none'],
      exitCode: EXIT.failure,
    };
  }
  if (evidence.drops.malformed + evidence.drops['bad-mac1'] > 0) {
    return {
      failure: 'not-wireguard',
      summary: `something answers at ${where}, but not a WireGuard peer of ours`,
      hints: ['check the port in Endpoint'],
      exitCode: EXIT.noAnswer,
    };
  }
  return {
    failure: 'no-answer',
    summary: `no answer from ${where} for ${formatDuration(evidence.waitedMs)}`,
    hints: [...clockHints(evidence), ...silenceHints(evidence, where)],
    exitCode: EXIT.noAnswer,
  };
}

/** Why a tunnel that stands carries no echo. */
export function explainEcho(target: string, received: number, replied: boolean): Diagnosis {
  if (received > 0) {
    return {
      failure: 'lost',
      summary: `the tunnel stands, but some packets to ${target} were lost`,
      hints: ['the way to the server loses packets, or one side is overloaded'],
      exitCode: EXIT.noEcho,
    };
  }
  return {
    failure: 'no-echo',
    summary: `the handshake is fine, but ${target} answers no echo through the tunnel`,
    hints: [
      ...(replied ? ['packets do come back: the size may exceed what the far side carries (try --size 1)'] : []),
      `is ${target} the right address? --target ADDRESS names another`,
      "the server's AllowedIPs for us may not hold the Address of this configuration",
      `${target} or a firewall on it may drop echo requests`,
    ],
    exitCode: EXIT.noEcho,
  };
}

export function explainAltered(target: string): Diagnosis {
  return {
    failure: 'altered',
    summary: `packets came back from ${target} with other content than was sent`,
    hints: ['something behind the tunnel alters or repeats packets'],
    exitCode: EXIT.noEcho,
  };
}

function explainRefusal(refusal: Refusal, where: string): Diagnosis {
  const summaries: Readonly<Record<Refusal, string>> = {
    refused: `${where} is reachable, but nothing listens there (ICMP port unreachable)`,
    'network-unreachable': `no route leads to ${where} (network unreachable)`,
    'host-unreachable': `${where} is unreachable (host unreachable)`,
    forbidden: `sending to ${where} is forbidden on this computer`,
  };
  const hints: Readonly<Record<Refusal, string>> = {
    refused: 'is the server running, and is the port in Endpoint its ListenPort?',
    'network-unreachable': 'is this computer online, and does it have the address family of the endpoint?',
    'host-unreachable': 'is the address in Endpoint right, and is that host up?',
    forbidden: "a local firewall refuses it: look at 'nft list ruleset'",
  };
  return { failure: refusal, summary: summaries[refusal], hints: [hints[refusal]], exitCode: EXIT.noAnswer };
}

/** A server ignores a handshake whose timestamp is not newer than the last one of the same key. */
function clockHints({ now, configTime }: HandshakeEvidence): readonly string[] {
  if (configTime === undefined || now >= configTime - CLOCK_TOLERANCE) return [];
  const clock = new Date(now).toISOString();
  return [`this computer's clock (${clock}) is earlier than the configuration file: a server ignores a clock set back`];
}

function silenceHints({ cookieReceived, publicKey, cipher }: HandshakeEvidence, where: string): readonly string[] {
  const unknown = `the server may not know our key ${publicKey}, or a clock that was set back makes it ignore us`;
  // A server ignores handshakes of the other suite; a peer that is not Sealane knows one only.
  const causes =
    cipher === 'chacha20poly1305'
      ? [
          unknown,
          "the server may have 'Cipher = aes256gcm' for us: both ends need the same; --cipher aes256gcm tries it",
        ]
      : [
          `the server needs 'Cipher = ${cipher}' for us too ('sealaned peer set'), and no WireGuard peer but Sealane knows it`,
          unknown,
        ];
  if (cookieReceived) {
    return [
      'the server lives and its PublicKey is right: it is under load and asked for a proof of address',
      ...causes,
    ];
  }
  return [
    `PublicKey in [Peer] may not be the key of ${where}`,
    ...causes,
    'a firewall or NAT may drop UDP to that port (nothing was refused, so it is not simply closed)',
  ];
}
