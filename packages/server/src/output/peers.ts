import type { CipherSuite } from '@sealane/protocol';
import { formatBytes, formatDuration, type PeerReport, type StatusReport } from '@sealane/tunnel';
import type { RegistryPeer } from '../state/registry-file.ts';
import { table } from './print.ts';
import type { Style } from './style.ts';

/** A peer without its secrets, with what the running server says of it. */
export interface PeerView {
  readonly name: string;
  readonly publicKey: string;
  readonly addresses: readonly string[];
  readonly presharedKey: boolean;
  readonly postQuantum: boolean;
  readonly cipher: CipherSuite;
  readonly added: string;
  /** Absent when no server runs. */
  readonly live?: Omit<PeerReport, 'publicKey'>;
}

export function peerViews(peers: readonly RegistryPeer[], live: StatusReport | undefined): readonly PeerView[] {
  const byKey = new Map(live?.peers.map(({ publicKey, ...rest }) => [publicKey, rest]));
  return peers.map((peer) => {
    const now = byKey.get(peer.publicKey);
    return {
      name: peer.name,
      publicKey: peer.publicKey,
      addresses: peer.addresses,
      presharedKey: peer.presharedKey !== undefined,
      postQuantum: peer.postQuantum === true,
      cipher: peer.cipher ?? 'chacha20poly1305',
      added: peer.added,
      ...(now === undefined ? {} : { live: now }),
    };
  });
}

/** All peers as a table; the last columns only while a server runs, CIPHER only when one has another than WireGuard's. */
export function peerTable(peers: readonly PeerView[], now: number, style: Style): string {
  if (peers.length === 0) return "no peers: 'sealaned peer add NAME' adds one";
  const running = peers.some((peer) => peer.live !== undefined);
  const mixed = peers.some(({ cipher }) => cipher !== 'chacha20poly1305');
  const cipherColumn = (text: string): string[] => (mixed ? [text] : []);
  const head = [
    'NAME',
    'ADDRESS',
    ...cipherColumn('CIPHER'),
    ...(running ? ['ENDPOINT', 'HANDSHAKE', 'RECEIVED', 'SENT'] : ['PUBLIC KEY']),
  ];
  const rows = peers.map((peer) => [
    peer.name,
    peer.addresses.join(' '),
    ...cipherColumn(peer.cipher),
    ...(running ? liveCells(peer.live, now) : [peer.publicKey]),
  ]);
  const [first, ...rest] = table([head, ...rows]).split('\n');
  return [style.dim(first!), ...rest].join('\n');
}

/** One peer in full. */
export function peerCard(peer: PeerView, now: number, style: Style): string {
  const { live } = peer;
  const session =
    live?.session === undefined
      ? 'none'
      : `${formatDuration(live.session.ageMs)} old, ${live.session.role}, ${live.sessions} so far`;
  const rows = [
    ['public key', peer.publicKey],
    ['address', peer.addresses.join(', ')],
    ['preshared key', peer.presharedKey ? 'yes' : 'no'],
    ['post-quantum', peer.postQuantum ? hedgeText(live) : 'off'],
    ['cipher', peer.cipher === 'chacha20poly1305' ? peer.cipher : `${peer.cipher}: not WireGuard-compatible`],
    ['added', peer.added],
    ...(live === undefined
      ? [['live data', 'none: no server runs']]
      : [
          ['endpoint', live.endpoint ?? 'not seen yet'],
          ['last handshake', ago(live.lastHandshake, now)],
          ['session', session],
          ['received', formatBytes(live.rxBytes)],
          ['sent', formatBytes(live.txBytes)],
        ]),
  ];
  return `${style.bold(peer.name)}\n${table(rows.map((row) => [' ', ...row]))}`;
}

function hedgeText(live: PeerView['live']): string {
  if (live?.session === undefined) return 'on';
  if (live.session.hedged) return 'on, the session is hedged';
  const { trouble } = live.postQuantum ?? {};
  if (trouble === 'mtu') return 'on, the session is not hedged: the MTU has no room for the exchange; it needs 1200';
  const silent = trouble === 'unanswered' ? ": the peer does not answer; is 'PostQuantum = yes' there?" : '';
  return `on, the session is not hedged${silent}`;
}

function liveCells(live: PeerView['live'], now: number): string[] {
  if (live === undefined) return ['-', '-', '-', '-'];
  return [
    live.endpoint ?? '-',
    live.lastHandshake === undefined ? 'never' : ago(live.lastHandshake, now),
    formatBytes(live.rxBytes),
    formatBytes(live.txBytes),
  ];
}

function ago(time: number | undefined, now: number): string {
  return time === undefined ? 'never' : `${formatDuration(now - time)} ago`;
}
