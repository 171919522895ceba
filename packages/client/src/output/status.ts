import {
  formatBytes,
  formatDuration,
  formatMilliseconds,
  formatRate,
  type LaneTraffic,
  type PeerReport,
  type StatusReport,
} from '@sealane/tunnel';
import { sparkline, type RateHistory } from './rates.ts';
import type { Style } from './terminal.ts';

const LABEL_WIDTH = 14;

/** A tunnel for people, with its rates if it was looked at before; `now` is Unix milliseconds. */
export function formatStatus(report: StatusReport, style: Style, now: number, history?: RateHistory): string {
  const { name, lane, lanes, crypto, listenPort, fwmark, mtu, up } = report;
  const facts = [
    up ? style.green('up') : style.red('down'),
    lanes === undefined ? `lane ${lane}` : `${lanes.length} lanes ${lane}`,
    `crypto ${crypto}`,
    `port ${listenPort}`,
    `MTU ${mtu}`,
    ...(fwmark === 0 ? [] : [`mark 0x${fwmark.toString(16)}`]),
    ...(report.underLoad ? [style.yellow('under load')] : []),
  ];
  return [
    `${style.bold(name)}  ${facts.join(', ')}`,
    field('public key', report.publicKey ?? style.yellow('no private key is set'), style),
    ...report.peers.flatMap((peer) => ['', ...peerLines(peer, style, now), ...rateLines(name, peer, style, history)]),
    ...(lanes ?? []).map((traffic, i) => field(i === 0 ? 'lanes' : '', laneText(traffic, i), style)),
    ...countLines('drops', report.drops, style),
    ...countLines('faults', report.faults, style),
    ...report.notes.map((text) => field('note', text, style)),
  ].join('\n');
}

function peerLines(peer: PeerReport, style: Style, now: number): readonly string[] {
  return [
    `  ${style.dim('peer')} ${style.bold(peer.publicKey)}`,
    field('endpoint', peer.endpoint ?? style.dim('not known yet'), style),
    field('allowed', peer.allowedIps.join(', ') || style.dim('nothing'), style),
    field('handshake', handshakeText(peer, style, now), style),
    field('session', sessionText(peer, style), style),
    ...(peer.postQuantum === undefined ? [] : [field('post-quantum', hedgeText(peer, style), style)]),
    field('traffic', `${formatBytes(peer.rxBytes)} in, ${formatBytes(peer.txBytes)} out`, style),
    ...extras(peer).map((text) => field('with', text, style)),
  ];
}

function rateLines(name: string, { publicKey }: PeerReport, style: Style, history?: RateHistory): readonly string[] {
  const rates = history?.of(name, publicKey);
  if (rates === undefined) return [];
  return [['in', rates.received] as const, ['out', rates.sent] as const].map(([label, list]) =>
    field(label, `${formatRate(list.at(-1) ?? 0, 1_000).padEnd(13)} ${style.cyan(sparkline(list))}`, style),
  );
}

function handshakeText({ lastHandshake, handshakeMs }: PeerReport, style: Style, now: number): string {
  if (lastHandshake === undefined) return style.yellow('none yet');
  const took = handshakeMs === undefined ? '' : `, took ${formatMilliseconds(handshakeMs)}`;
  return `${formatDuration(now - lastHandshake)} ago${took}`;
}

function sessionText({ session, sessions }: PeerReport, style: Style): string {
  const rekeys = Math.max(0, sessions - 1);
  const count = rekeys === 1 ? '1 rekey so far' : `${rekeys} rekeys so far`;
  if (session === undefined) return `${style.yellow('none')}, ${count}`;
  return [
    `${session.role}, ${formatDuration(session.ageMs)} old`,
    rekeyText(session.rekeyInMs),
    `expires in ${formatDuration(session.expiresInMs)}`,
    count,
  ].join(', ');
}

/** Whether the session is hedged against a later quantum computer and, if not, why. */
function hedgeText({ session, postQuantum }: PeerReport, style: Style): string {
  if (postQuantum === undefined) return '';
  const { keyAgeMs, trouble, exchanges } = postQuantum;
  const key = keyAgeMs === undefined ? '' : `, key ${formatDuration(keyAgeMs)} old, ${exchanges} so far`;
  if (session === undefined) return `no session${key}`;
  if (session.hedged) return `${style.green('hedged')}${key}`;
  return `${style.yellow('not hedged')}: ${hedgeTrouble(trouble)}`;
}

/** What keeps a session from being hedged. */
function hedgeTrouble(trouble: 'unanswered' | 'mtu' | undefined): string {
  if (trouble === 'unanswered') return "the peer does not answer; write 'PostQuantum = yes' there too";
  if (trouble === 'mtu') return 'the MTU has no room for the exchange; it needs 1200';
  return 'no key is agreed on yet';
}

function rekeyText(rekeyInMs: number | undefined): string {
  if (rekeyInMs === undefined) return 'the peer renews it';
  return rekeyInMs > 0 ? `rekey due in ${formatDuration(rekeyInMs)}` : 'rekey due with the next packet';
}

function extras(peer: PeerReport): readonly string[] {
  const parts = [
    ...(peer.hasPresharedKey ? ['preshared key'] : []),
    ...(peer.persistentKeepalive > 0 ? [`keepalive every ${peer.persistentKeepalive} s`] : []),
    ...(peer.cipherSuite === 'chacha20poly1305' ? [] : [`${peer.cipherSuite} (not WireGuard-compatible)`]),
    ...(peer.rekeyInterval < 120_000 ? [`rekey every ${formatDuration(peer.rekeyInterval)}`] : []),
  ];
  return parts.length === 0 ? [] : [parts.join(', ')];
}

function laneText({ received, sent, handedOver }: LaneTraffic, lane: number): string {
  const others = handedOver === 0 ? '' : `, ${handedOver} of them for other lanes`;
  return `${lane}: ${received} datagrams in${others}, ${sent} out`;
}

function countLines(label: string, counts: Readonly<Record<string, number>>, style: Style): readonly string[] {
  const some = Object.entries(counts).filter(([, count]) => count > 0);
  return some.length === 0 ? [] : ['', field(label, some.map(([what, count]) => `${what} ${count}`).join(', '), style)];
}

function field(label: string, text: string, style: Style): string {
  return `    ${style.dim(label.padEnd(LABEL_WIDTH))}${text}`;
}
