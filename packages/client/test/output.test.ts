import {
  formatBytes,
  formatDuration,
  formatMilliseconds,
  formatRate,
  parseSize,
  type StatusReport,
} from '@sealane/tunnel';
import { describe, expect, it } from 'vitest';
import { CliError, errorCode, errorLine, EXIT } from '../src/errors.ts';
import { eventLine } from '../src/output/events.ts';
import { RateHistory } from '../src/output/rates.ts';
import { formatStatus } from '../src/output/status.ts';
import { styleFor } from '../src/output/terminal.ts';

describe('numbers for people', () => {
  it.each([
    [0, '0 B'],
    [1_023, '1023 B'],
    [1_536, '1.5 KiB'],
    [5 * 2 ** 30, '5.0 GiB'],
    [3 * 2 ** 60, '3072.0 PiB'],
  ])('%d bytes', (bytes, text) => expect(formatBytes(bytes)).toBe(text));

  it.each([
    [-5, '0 s'],
    [999, '0 s'],
    [59_999, '59 s'],
    [7_500_000, '2 h 5 min'],
    [3_600_000, '1 h'],
    [90_061_000, '1 d 1 h'],
  ])('%d ms as a duration', (milliseconds, text) => expect(formatDuration(milliseconds)).toBe(text));

  it('rates and milliseconds', () => {
    expect(formatRate(1_250_000, 1_000)).toBe('10.0 Mbit/s');
    expect(formatRate(250_000_000, 1_000)).toBe('2.00 Gbit/s');
    expect(formatRate(1, 0)).toBe('0.0 kbit/s');
    expect(formatMilliseconds(1.234)).toBe('1.23 ms');
    expect(formatMilliseconds(123.45)).toBe('123.5 ms');
  });

  it.each([
    ['500', 500],
    ['64K', 65_536],
    ['1.5m', 1_572_864],
    ['2GiB', 2 ** 31],
    ['10 MB', 10 * 2 ** 20],
    ['7B', 7],
    ['', undefined],
    ['-1', undefined],
    ['1e9', undefined],
    ['9999999999T', undefined],
    ['many', undefined],
  ])('reads the size %j', (text, bytes) => expect(parseSize(text)).toBe(bytes));
});

describe('errorLine', () => {
  it('is one line without control characters', () => {
    expect(errorLine(new Error('a\nb\u001b[31mc'))).toBe('a b [31mc');
    expect(errorLine('text\r\n')).toBe('text');
  });

  it('says the cause once, and not behind a line that was written for people', () => {
    expect(errorLine(new Error('cannot bind', { cause: new Error('EADDRINUSE') }))).toBe('cannot bind: EADDRINUSE');
    expect(errorLine(new Error('cannot bind: EADDRINUSE', { cause: new Error('EADDRINUSE') }))).toBe(
      'cannot bind: EADDRINUSE',
    );
    expect(errorLine(new CliError(EXIT.failure, 'in use', { cause: new Error('EBUSY') }))).toBe('in use');
  });

  it('finds the code of the system call behind an error', () => {
    const cause = Object.assign(new Error('no'), { code: 'EACCES' });
    expect(errorCode(new Error('outer', { cause: new Error('inner', { cause }) }))).toBe('EACCES');
    expect(errorCode(new Error('none'))).toBeUndefined();
  });
});

describe('formatStatus', () => {
  const report: StatusReport = {
    name: 'wg0',
    lane: 'portable',
    crypto: 'noble 2.4.0',
    publicKey: 'OWN=',
    listenPort: 51_820,
    fwmark: 51_820,
    mtu: 1_420,
    up: true,
    underLoad: false,
    notes: ['IPv6 is off.'],
    faults: { 'send-failed': 2 },
    drops: { malformed: 0, replay: 7, 'no-route': 1 },
    peers: [
      {
        publicKey: 'PEER=',
        hasPresharedKey: true,
        endpoint: '192.0.2.1:51820',
        allowedIps: ['10.8.0.0/24'],
        persistentKeepalive: 25,
        rekeyInterval: 60_000,
        cipherSuite: 'chacha20poly1305',
        rxBytes: 2_048,
        txBytes: 1_024,
        lastHandshake: 1_000_000,
        handshakeMs: 12.5,
        sessions: 3,
        session: { role: 'initiator', ageMs: 63_000, rekeyInMs: 57_000, expiresInMs: 117_000, hedged: false },
      },
    ],
  };
  const plain = styleFor({});

  it('shows what an operator asks for, and counts only what happened', () => {
    expect(formatStatus(report, plain, 1_063_000)).toBe(
      [
        'wg0  up, lane portable, crypto noble 2.4.0, port 51820, MTU 1420, mark 0xca6c',
        '    public key    OWN=',
        '',
        '  peer PEER=',
        '    endpoint      192.0.2.1:51820',
        '    allowed       10.8.0.0/24',
        '    handshake     1 min 3 s ago, took 12.5 ms',
        '    session       initiator, 1 min 3 s old, rekey due in 57 s, expires in 1 min 57 s, 2 rekeys so far',
        '    traffic       2.0 KiB in, 1.0 KiB out',
        '    with          preshared key, keepalive every 25 s, rekey every 1 min',
        '',
        '    drops         replay 7, no-route 1',
        '',
        '    faults        send-failed 2',
        '    note          IPv6 is off.',
      ].join('\n'),
    );
  });

  it('says that a peer with another cipher is not WireGuard-compatible', () => {
    const peers = report.peers.map((peer) => ({ ...peer, cipherSuite: 'aes256gcm' as const }));
    expect(formatStatus({ ...report, peers }, plain, 1_063_000)).toContain(
      '    with          preshared key, keepalive every 25 s, aes256gcm (not WireGuard-compatible), rekey every 1 min',
    );
  });

  it('says whether a session is hedged against a later quantum computer and, if not, why', () => {
    const [peer] = report.peers;
    const line = (
      hedged: boolean,
      more: Partial<NonNullable<StatusReport['peers'][number]['postQuantum']>>,
    ): string | undefined => {
      const postQuantum = { interval: 3_600_000, exchanges: 3, ...more };
      const peers = [{ ...peer!, postQuantum, session: { ...peer!.session!, hedged } }];
      const text = formatStatus({ ...report, peers }, plain, 1_063_000);
      return /^ +post-quantum +(.*)$/m.exec(text)?.[1];
    };
    expect(line(true, { keyAgeMs: 600_000 })).toBe('hedged, key 10 min old, 3 so far');
    expect(line(false, {})).toBe('not hedged: no key is agreed on yet');
    expect(line(false, { trouble: 'mtu' })).toContain('it needs 1200');
    expect(line(false, { trouble: 'unanswered' })).toContain("write 'PostQuantum = yes' there too");
    expect(formatStatus(report, plain, 1_063_000)).not.toContain('post-quantum');
  });

  it('shows rates, and how they were, from the second look on', () => {
    const [peer] = report.peers;
    const look = (rxBytes: number): StatusReport => ({ ...report, peers: [{ ...peer!, rxBytes }] });
    const history = new RateHistory();
    history.add(look(0), 0);
    expect(formatStatus(report, plain, 1_063_000, history)).not.toContain('bit/s');
    for (const [at, rxBytes] of [
      [1_000, 1_000_000],
      [3_000, 1_000_000],
      [4_000, 1_500_000],
    ] as const) {
      history.add(look(rxBytes), at);
    }
    const text = formatStatus(report, plain, 1_063_000, history);
    expect(text).toContain('    in            4.0 Mbit/s    █▁▅\n    out           0.0 kbit/s    ▁▁▁\n');
  });

  it('keeps a bounded history, and takes a peer that begins anew', () => {
    const [peer] = report.peers;
    const history = new RateHistory();
    for (let i = 0; i < 100; i++) history.add({ ...report, peers: [{ ...peer!, rxBytes: 1_000 * i }] }, 1_000 * i);
    history.add({ ...report, peers: [{ ...peer!, rxBytes: 5 }] }, 100_000);
    const { received } = history.of('wg0', 'PEER=')!;
    expect(received).toHaveLength(30);
    expect(received.slice(-2)).toEqual([1_000, 0]);
  });

  it('says what is not there yet', () => {
    const [peer] = report.peers;
    const { endpoint: _endpoint, lastHandshake: _at, session: _session, ...rest } = peer!;
    const { publicKey: _key, ...bare } = report;
    const text = formatStatus({ ...bare, up: false, peers: [{ ...rest, allowedIps: [], sessions: 0 }] }, plain, 0);
    for (const part of [
      'down',
      'no private key is set',
      'not known yet',
      'nothing',
      'none yet',
      'none, 0 rekeys so far',
    ]) {
      expect(text).toContain(part);
    }
  });
});

describe('eventLine', () => {
  it('says what to do about a handshake with another cipher', () => {
    const endpoint = { address: Uint8Array.of(127, 0, 0, 9), port: 4_000, scopeId: 0 };
    const refused = { type: 'handshake-refused', publicKey: new Uint8Array(32), endpoint } as const;
    expect(eventLine({ ...refused, reason: 'cipher-mismatch' })).toBe(
      "a handshake was refused: cipher-mismatch; write the same 'Cipher' in [Peer] at both ends",
    );
    expect(eventLine({ ...refused, reason: 'unknown-peer' })).toBe('a handshake was refused: unknown-peer');
  });
});
