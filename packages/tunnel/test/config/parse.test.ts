import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatKey, parseKey } from '@sealane/protocol';
import { ConfigError, type ConfigProblem } from '../../src/config/error.ts';
import { formatConfig } from '../../src/config/format.ts';
import type { TunnelConfig } from '../../src/config/model.ts';
import { parseConfig } from '../../src/config/parse.ts';
import { formatAddress, formatPrefix } from '../../src/ip-text.ts';
import { CORPUS, KEYS, PRESHARED_KEY, withoutLines } from './corpus.ts';

const INTERFACE = `[Interface]\nPrivateKey = ${KEYS.alice.private}\n`;
const PEER = `[Peer]\nPublicKey = ${KEYS.bob.public}\n`;
const SECRETS = [...Object.values(KEYS).map((pair) => pair.private), PRESHARED_KEY];

function problemsOf(text: string): readonly ConfigProblem[] {
  try {
    parseConfig(text, 'wg0.conf');
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
  return [];
}

function messagesOf(text: string): string[] {
  return problemsOf(text).map((problem) => problem.message);
}

/** The configuration in text, as a person would compare it. */
function readable(config: TunnelConfig): unknown {
  const { privateKey, addresses, dns, ...own } = config.interface;
  return {
    interface: {
      ...own,
      privateKey: formatKey(privateKey),
      addresses: addresses.map(formatPrefix),
      dns: { servers: dns.servers.map(formatAddress), search: dns.search },
    },
    peers: config.peers.map(({ publicKey, presharedKey, allowedIps, ...peer }) => ({
      ...peer,
      publicKey: formatKey(publicKey),
      presharedKey: presharedKey && formatKey(presharedKey),
      allowedIps: allowedIps.map(formatPrefix),
    })),
  };
}

describe('files as people have them', () => {
  it.each(Object.entries(CORPUS))('reads %s', (_name, text) => {
    expect(readable(parseConfig(text, 'wg0.conf'))).toMatchSnapshot();
  });

  it.each(Object.entries(CORPUS))('writes and reads again: %s', (_name, text) => {
    const config = parseConfig(text, 'wg0.conf');
    const written = formatConfig(config);
    expect(withoutLines(parseConfig(written, 'wg0.conf'))).toEqual(withoutLines(config));
    expect(formatConfig(parseConfig(written, 'wg0.conf'))).toBe(written);
  });
});

describe('reading', () => {
  it('takes endpoints behind the mark after the plain one, wherever they stand', () => {
    const text = `${INTERFACE}${PEER}#@ Endpoint = b.example:2, c.example:3\nEndpoint = a.example:1\n`;
    expect(parseConfig(text, 'f').peers[0]?.endpoints).toEqual(['a.example:1', 'b.example:2', 'c.example:3']);
  });

  it('takes a list of endpoints on one line', () => {
    const text = `${INTERFACE}${PEER}Endpoint = a.example:1, [2001:DB8::1]:2,192.0.2.1:3, a.example:1\n`;
    expect(parseConfig(text, 'f').peers[0]?.endpoints).toEqual(['a.example:1', '[2001:db8::1]:2', '192.0.2.1:3']);
  });

  it('reads an IPv6 endpoint without brackets as wg does', () => {
    expect(parseConfig(`${INTERFACE}${PEER}Endpoint = 2001:db8::1:51820\n`, 'f').peers[0]?.endpoints).toEqual([
      '[2001:db8::1]:51820',
    ]);
  });

  it('keeps the interface of a link-local endpoint by its name', () => {
    const text = `${INTERFACE}${PEER}Endpoint = [fe80::1%wan0]:51820\n`;
    const config = parseConfig(text, 'f');
    expect(config.peers[0]?.endpoints).toEqual(['[fe80::1%wan0]:51820']);
    expect(parseConfig(formatConfig(config), 'f')).toEqual(config);
  });

  it('reads the addresses of a gateway and refuses other words', () => {
    const config = parseConfig(`${INTERFACE}${PEER}#@ Gateway = 10.0.0.1, fd00::1\n`, 'f');
    expect(config.peers[0]?.gateways?.map(formatAddress)).toEqual(['10.0.0.1', 'fd00::1']);
    expect(parseConfig(formatConfig(config), 'f')).toEqual(config);
    expect(messagesOf(`${INTERFACE}${PEER}#@ Gateway = gateway\n`)).toEqual([
      "wg0.conf:5: Gateway: 'gateway' is no IP address; write 10.0.0.1",
    ]);
  });

  it('needs no space behind the mark', () => {
    expect(parseConfig(`${INTERFACE}${PEER}#@Name = Bob\n#@comment\n`, 'f').peers[0]?.name).toBe('Bob');
  });

  it('takes an empty list of allowed IPs for none', () => {
    expect(parseConfig(`${INTERFACE}${PEER}AllowedIPs =\n`, 'f').peers[0]?.allowedIps).toEqual([]);
  });

  it('needs no private key where a hook sets it', () => {
    const text = '[Interface]\nPostUp = wg set %i private-key /etc/wireguard/wg0.key\n';
    expect(parseConfig(text, 'f').interface.privateKey).toEqual(new Uint8Array(32));
  });

  it.each([
    ['FwMark = off', { fwmark: 0 }],
    ['FwMark = 0xFFFFFFFF', { fwmark: 0xffff_ffff }],
    ['Table = auto', { table: 'auto' }],
    ['Table = main', { table: 254 }],
    ['Table = 0x10', { table: 16 }],
    ['Table = 010', { table: 8 }],
    ['MTU =', {}],
    ['SaveConfig = TRUE', { saveConfig: true }],
    ['PostUp = sh -c "a; b" > /dev/null', { postUp: [{ command: 'sh -c "a; b" > /dev/null', line: 3 }] }],
    ['PostUp = a = b', { postUp: [{ command: 'a = b', line: 3 }] }],
    ['PostUp = cut # here', { postUp: [{ command: 'cut', line: 3 }] }],
    ['RekeyInterval = 120', { rekeyInterval: 120 }],
  ])('reads %s', (line, expected) => {
    expect(parseConfig(INTERFACE + line, 'f').interface).toMatchObject(expected);
  });
});

describe('what wg takes without a word is taken with a warning', () => {
  it.each([
    [
      `[Peer]\nPublicKey = ${KEYS.alice.public}\n`,
      "wg0.conf:4: PublicKey: belongs to this file's own PrivateKey: this peer is left out",
      [],
    ],
    [
      `${PEER}AllowedIPs = 10.1.0.0/16\n${PEER}AllowedIPs = 10.2.0.0/16\n`,
      'wg0.conf:7: PublicKey: is already the peer of line 3: what this section says counts',
      [['10.2.0.0/16']],
    ],
    [
      `${PEER}AllowedIPs = 10.0.0.0/8, ::/0\n[Peer]\nPublicKey = ${KEYS.carol.public}\nAllowedIPs = 10.1.2.3/8\n`,
      'wg0.conf:8: AllowedIPs: 10.0.0.0/8 is already given to the peer of line 3: this peer gets it',
      [['::/0'], ['10.0.0.0/8']],
    ],
  ])('%j', (text, warning, allowedIps) => {
    const said: string[] = [];
    const { peers } = parseConfig(INTERFACE + text, 'wg0.conf', ({ message }) => said.push(message));
    expect(said).toEqual([warning]);
    expect(peers.map((peer) => peer.allowedIps.map(formatPrefix))).toEqual(allowedIps);
  });

  it('a netmask in place of a length', () => {
    const { addresses } = parseConfig(
      `${INTERFACE}Address = 10.0.0.1/255.255.255.0, 10.1.0.1/0.0.0.0, 10.2.0.1/255.255.255.255`,
      'f',
    ).interface;
    expect(addresses.map(formatPrefix)).toEqual(['10.0.0.1/24', '10.1.0.1/0', '10.2.0.1/32']);
  });
});

describe('what is wrong is said in one line', () => {
  it.each([
    ['', 'wg0.conf: [Interface]: is missing; begin the file with this section'],
    ['[Interface]\n', "wg0.conf:1: PrivateKey: is missing in [Interface]; make one by 'sealane genkey'"],
    [`${INTERFACE}[Peer]\n`, 'wg0.conf:3: PublicKey: is missing in [Peer]; ask the peer for its public key'],
    ['PrivateKey = x\n', 'wg0.conf:1: PrivateKey: stands before the first section; begin the file with [Interface]'],
    [
      '[Interface]\nPrivateKey = abc\n',
      "wg0.conf:2: PrivateKey: has 3 characters; a key has 44 characters of base64 ending in '='",
    ],
    ['[Interface]\nPrivateKey =\n', "wg0.conf:2: PrivateKey: is empty; put in a key made by 'sealane genkey'"],
    [
      `[Interface]\nPrivateKey = ${KEYS.alice.private.replace('04=', '05=')}\n`,
      "wg0.conf:2: PrivateKey: is not canonical base64 of 32 bytes; copy the key again or make one by 'sealane genkey'",
    ],
    [
      `[Interface]\nPrivateKey = ${'A'.repeat(43)}=\n`,
      "wg0.conf:2: PrivateKey: is all zeros; put in a key made by 'sealane genkey'",
    ],
    [`${INTERFACE}ListenPort = 65536`, "wg0.conf:3: ListenPort: '65536' is no number from 0 to 65535"],
    [`${INTERFACE}ListenPort = -1`, "wg0.conf:3: ListenPort: '-1' is no number from 0 to 65535"],
    [`${INTERFACE}ListenPort = 1e3`, "wg0.conf:3: ListenPort: '1e3' is no number from 0 to 65535"],
    [`${INTERFACE}MTU = 67`, "wg0.conf:3: MTU: '67' is no number from 68 to 65535"],
    [
      `${INTERFACE}Address = 10.0.0.1/255.0.255.0`,
      "wg0.conf:3: Address: '10.0.0.1/255.0.255.0' is no address with an optional /length; write 10.0.0.2/32",
    ],
    [
      `${INTERFACE}PostUp = echo \uFFFD # \uFFFD`,
      'wg0.conf:3: is not text in UTF-8; only comments may be in another encoding',
    ],
    [
      `${INTERFACE}Address = fd00::1/64\nMTU = 1200`,
      'wg0.conf:4: MTU: 1200 is too small for the IPv6 addresses here; write at least 1280',
    ],
    [
      `${INTERFACE}FwMark = 0x100000000`,
      "wg0.conf:3: FwMark: '0x100000000' is no 32-bit number (51820 or 0xca6c) and not 'off'",
    ],
    [
      `${INTERFACE}Table = vpn`,
      "wg0.conf:3: Table: 'vpn' is not 'auto', 'off', or a routing table's number or name (/etc/iproute2/rt_tables)",
    ],
    [
      `${INTERFACE}Table = Off`,
      "wg0.conf:3: Table: 'Off' would be a routing table of that name; write 'off' in small letters",
    ],
    [
      `${INTERFACE}Table = AUTO`,
      "wg0.conf:3: Table: 'AUTO' would be a routing table of that name; write 'auto' in small letters",
    ],
    [
      `${INTERFACE}Table = 08`,
      "wg0.conf:3: Table: '08' is not 'auto', 'off', or a routing table's number or name (/etc/iproute2/rt_tables)",
    ],
    [`${INTERFACE}SaveConfig = yes`, "wg0.conf:3: SaveConfig: 'yes' is neither true nor false"],
    [
      `${INTERFACE}Address = 10.0.0.300/24`,
      "wg0.conf:3: Address: '10.0.0.300/24' is no address with an optional /length; write 10.0.0.2/32",
    ],
    [
      `${INTERFACE}Address = 10.0.0.1/24, 10.0.0.1/32`,
      "wg0.conf:3: Address: '10.0.0.1/32' is already given in line 3; remove one",
    ],
    [`${INTERFACE}DNS = 1.1.1`, "wg0.conf:3: DNS: '1.1.1' is no address of a name server"],
    [`${INTERFACE}DNS = $(reboot)`, "wg0.conf:3: DNS: '$(reboot)' is neither an address nor a search domain"],
    [
      `${INTERFACE}RekeyInterval = 121`,
      "wg0.conf:3: RekeyInterval: '121' is no number from 10 to 120 seconds: sessions may be renewed earlier than the protocol does it, never later",
    ],
    [
      `${INTERFACE}${PEER}AllowedIPs = 10.0.0.0/33`,
      "wg0.conf:5: AllowedIPs: '10.0.0.0/33' is no prefix; write 10.0.0.0/8 or fd00::/64, separated by commas",
    ],
    [
      `${INTERFACE}${PEER}PersistentKeepalive = 70000`,
      "wg0.conf:5: PersistentKeepalive: '70000' is no number from 0 to 65535 and not 'off'",
    ],
    [
      `${INTERFACE}${PEER}Endpoint = vpn.example.com`,
      "wg0.conf:5: Endpoint: 'vpn.example.com' has no port; write host:51820",
    ],
    [
      `${INTERFACE}${PEER}Endpoint = vpn.example.com:0`,
      "wg0.conf:5: Endpoint: the port of 'vpn.example.com:0' is no number from 1 to 65535",
    ],
    [
      `${INTERFACE}${PEER}Endpoint = 1.2.3:51820`,
      "wg0.conf:5: Endpoint: '1.2.3:51820' has no valid IPv4 address; write 192.0.2.1:51820",
    ],
    [
      `${INTERFACE}${PEER}Endpoint = [1.2.3.4]:51820`,
      "wg0.conf:5: Endpoint: '[1.2.3.4]:51820' has no valid IPv6 address; write [2001:db8::1]:51820",
    ],
    [
      `${INTERFACE}${PEER}Endpoint = [fe80::g%eth0]:51820`,
      "wg0.conf:5: Endpoint: '[fe80::g%eth0]:51820' has no valid IPv6 address; write [2001:db8::1]:51820",
    ],
    [`${INTERFACE}${PEER}Endpoint = a;b:51820`, "wg0.conf:5: Endpoint: 'a;b:51820' has no valid host name"],
    [
      `${INTERFACE}${PEER}PostQuantum = maybe`,
      "wg0.conf:5: PostQuantum: 'maybe' is not 'yes', 'no' or the seconds between two exchanges, 10 to 86400",
    ],
    [
      `${INTERFACE}${PEER}PostQuantum = 9`,
      "wg0.conf:5: PostQuantum: '9' is not 'yes', 'no' or the seconds between two exchanges, 10 to 86400",
    ],
    [`${INTERFACE}${PEER}Cipher = rot13`, "wg0.conf:5: Cipher: 'rot13' is neither chacha20poly1305 nor aes256gcm"],
    [`${INTERFACE}just words`, "wg0.conf:3: is not of the form 'Key = Value'"],
    [`${INTERFACE}= 5`, "wg0.conf:3: is not of the form 'Key = Value'"],
    [`${INTERFACE}[Peer`, 'wg0.conf:3: is no section header; write [Interface] or [Peer]'],
    [`${INTERFACE}PostUp = a\u0007b`, 'wg0.conf:3: holds a control character; write the line again as plain text'],
  ])('%j', (text, message) => {
    expect(messagesOf(text)).toEqual([message]);
  });

  it.each([
    ['PrivatKey', 'is unknown; did you mean PrivateKey?'],
    ['Adress', 'is unknown; did you mean Address?'],
    ['Adresses', 'is unknown; did you mean Address?'],
    ['ListenPrt', 'is unknown; did you mean ListenPort?'],
    ['PostUP2', 'is unknown; did you mean PostUp?'],
    ['Dsn', 'is unknown; did you mean DNS?'],
    ['Frobnicate', 'is no key of this format; remove the line'],
    ['AllowedIPs', 'belongs to [Peer], not to [Interface]; move the line'],
    ['Jc', 'is an AmneziaWG key and Sealane speaks plain WireGuard; remove such keys here and at the peer'],
    ['H4', 'is an AmneziaWG key and Sealane speaks plain WireGuard; remove such keys here and at the peer'],
    ['IncludedApplications', 'is a key of the Android app; remove the line'],
    ['FirewallMark', 'is a key of systemd-networkd; write FwMark'],
  ])('key %s in [Interface]', (key, what) => {
    expect(messagesOf(`${INTERFACE}${key} = 1\n`)).toEqual([`wg0.conf:3: ${key}: ${what}`]);
  });

  it.each([
    ['AllowedIP', 'is unknown; did you mean AllowedIPs?'],
    ['PreShareKey', 'is unknown; did you mean PresharedKey?'],
    ['Keepalive', 'is unknown; did you mean PersistentKeepalive?'],
    ['DNS', 'belongs to [Interface], not to [Peer]; move the line'],
  ])('key %s in [Peer]', (key, what) => {
    expect(messagesOf(`${INTERFACE}${PEER}${key} = 1\n`)).toEqual([`wg0.conf:5: ${key}: ${what}`]);
  });

  it.each([
    ['Peers', 'is unknown; did you mean [Peer]?'],
    ['Interfaces', 'is unknown; did you mean [Interface]?'],
    ['WireGuardPeer', 'is a section of systemd-networkd; a wg-quick file has one [Interface] and any number of [Peer]'],
    ['Socks5', 'is a section of wireproxy; a wg-quick file has one [Interface] and any number of [Peer]'],
    ['Other', 'is unknown; there are [Interface] and [Peer]'],
  ])('section [%s], and its keys are passed over', (header, what) => {
    expect(messagesOf(`${INTERFACE}[${header}]\nX = 1\n`)).toEqual([`wg0.conf:3: [${header}]: ${what}`]);
  });

  it('refuses keys of wg behind the mark and unknown ones there too', () => {
    expect(messagesOf(`${INTERFACE}#@ ListenPort = 5\n#@ RekeyIntervall = 60\n`)).toEqual([
      "wg0.conf:3: ListenPort: is a key of wg itself; remove the '#@ ' before it",
      'wg0.conf:4: RekeyIntervall: is unknown; did you mean RekeyInterval?',
    ]);
  });

  it('collects every problem, in the order of lines, what is missing last, and counts them', () => {
    const text = '[Interface]\nMTU = 1\nListenPort = x\n[Peer]\nPublicKey = y\n';
    expect(problemsOf(text).map(({ line, field }) => [line, field])).toEqual([
      [2, 'MTU'],
      [3, 'ListenPort'],
      [5, 'PublicKey'],
      [1, 'PrivateKey'],
    ]);
    expect(() => parseConfig(text, 'wg0.conf')).toThrow(/^wg0\.conf:2: MTU: .* \(and 3 more problems\)$/);
  });

  it('never repeats a secret, however the line is broken', () => {
    const secret = KEYS.alice.private;
    const broken = [
      secret,
      `${secret} = `,
      `PrivatKey = ${secret}`,
      `PrivateKey = ${secret}${secret}`,
      `PrivateKey = ${secret.slice(0, 43)}`,
      `PrivateKey ${secret}`,
      `[${secret}]`,
      `PublicKey = ${secret}x`,
      `#@ PrivateKey = ${secret}`,
    ];
    for (const line of broken) {
      const messages = messagesOf(`[Interface]\n${line}\n[Peer]\n${line}\n`);
      expect(messages.length).toBeGreaterThan(0);
      expect(messages.join('\n')).not.toContain(secret.slice(0, 20));
    }
  });

  it.each([
    'Address',
    'AllowedIPs',
    'DNS',
    'Endpoint',
    'FwMark',
    'ListenPort',
    'MTU',
    'PersistentKeepalive',
    'PublicKey',
    'SaveConfig',
    'Table',
  ])('never repeats a key that was pasted behind %s', (field) => {
    const hex = 'c0ffee11'.repeat(8);
    const base64 = KEYS.alice.private;
    const parts = [base64.slice(0, 33), `[2001:db8::1]:=${base64.slice(0, 24)}`, hex.slice(0, 40)];
    for (const secret of [base64, base64.slice(0, 43), `x${base64}x`, hex, ...parts]) {
      const messages = [
        ...messagesOf(`${INTERFACE}${field} = ${secret}`),
        ...messagesOf(`${INTERFACE}${PEER}${field} = ${secret}`),
      ];
      expect(messages.length).toBeGreaterThan(0);
      for (const message of messages) {
        for (const whole of [base64, hex]) expect(message).not.toContain(whole.slice(2, 20));
      }
    }
  });

  it('repeats a long name of a host', () => {
    const [message] = messagesOf(`${INTERFACE}${PEER}Endpoint = averylongnameofonehost.example.org:0x1`);
    expect(message).toContain("'averylongnameofonehost.example.org:0x1'");
  });

  it('names the misspelt key before the one that is missing because of it', () => {
    expect(messagesOf(`[Interface]\nPrivatKey = ${KEYS.alice.private}\n`)[0]).toMatch(
      /wg0.conf:2: PrivatKey: .*PrivateKey/,
    );
  });

  it('shows no control characters and no endless values', () => {
    const [message] = messagesOf(`${INTERFACE}Table = \u001b[31m${'x'.repeat(5_000)}`);
    expect(message).toBe('wg0.conf:3: holds a control character; write the line again as plain text');
    const [long] = messagesOf(`${INTERFACE}Table = é${'.'.repeat(5_000)}`);
    expect(long).toMatch(/^wg0\.conf:3: Table: '\?\.{59}' is not/);
  });
});

describe('hostile text', () => {
  // Invariant: any text either parses, and then survives writing and reading, or is a ConfigError of printable lines.
  it('parses or is refused with a line number', { timeout: 60_000 }, () => {
    const word = fc.oneof(
      fc.constantFrom(
        ...Object.values(CORPUS).flatMap((text) => text.split('\n')),
        '[Interface]',
        '[Peer]',
        '#@ ',
        '=',
        '#',
        '::/0',
        'Endpoint = ',
        'off',
      ),
      fc.string({ unit: 'binary', maxLength: 40 }),
      fc.string({ unit: 'grapheme', maxLength: 20 }),
    );
    const text = fc
      .array(fc.tuple(word, fc.constantFrom('\n', '\n', '\n', '\r\n', ' ', ',', '=', '')), { maxLength: 24 })
      .map((parts) => parts.flat().join(''));
    fc.assert(
      fc.property(text, (input) => {
        const lines = input.split('\n').length;
        const problems = problemsOf(input);
        for (const { line, message } of problems) {
          expect(line).toBeLessThanOrEqual(lines);
          // oxlint-disable-next-line no-control-regex -- looking for control characters
          expect(message).not.toMatch(/[\u0000-\u001f\u007f]/);
        }
        for (const secret of SECRETS) expect(problems.some(({ message }) => message.includes(secret))).toBe(false);
        const config = problems.length === 0 ? parseConfig(input, 'f') : undefined;
        if (config === undefined) return;
        expect(withoutLines(parseConfig(formatConfig(config), 'f'))).toEqual(withoutLines(config));
      }),
      { numRuns: 2_000, seed: 4 },
    );
  });

  it('reads 10,000 peers and 130,000 allowed IPs', { timeout: 60_000 }, () => {
    const peers = Array.from({ length: 10_000 }, (_, i) => {
      const key = new Uint8Array(32);
      new DataView(key.buffer).setUint32(4, i + 1);
      const ips = Array.from({ length: 13 }, (_unused, j) => `10.${i >> 8}.${i & 255}.${j}/32`);
      return `[Peer]\nPublicKey = ${formatKey(key)}\nAllowedIPs = ${ips.join(', ')}\n`;
    });
    const config = parseConfig(INTERFACE + peers.join(''), 'wg0.conf');
    expect(config.peers).toHaveLength(10_000);
    expect(config.peers.flatMap((peer) => peer.allowedIps)).toHaveLength(130_000);
  });
});

describe('writing', () => {
  const base = parseConfig(INTERFACE + PEER, 'f');

  it('keeps its order', () => {
    const text = `[Interface]
PrivateKey = ${KEYS.alice.private}
Address = 10.0.0.1/24, fd00::1/64
DNS = 10.0.0.53, corp.example
MTU = 1400
ListenPort = 51820
FwMark = 0xca6c
Table = off
PreUp = a
PostUp = b
PreDown = c
PostDown = d
SaveConfig = true
#@ RekeyInterval = 90

[Peer]
#@ Name = Bob's phone
PublicKey = ${KEYS.bob.public}
PresharedKey = ${PRESHARED_KEY}
AllowedIPs = 10.0.0.2/32, fd00::2/128
Endpoint = vpn.example.com:51820
#@ Endpoint = [2001:db8::1]:51820
PersistentKeepalive = 25
#@ RekeyInterval = 30
#@ Cipher = aes256gcm
#@ PostQuantum = yes
`;
    expect(formatConfig(parseConfig(text, 'f'))).toBe(text);
  });

  it.each([
    ['yes', 'yes', 3_600],
    ['YES', 'yes', 3_600],
    ['3600', 'yes', 3_600],
    ['no', 'no', 0],
    ['10', '10', 10],
    ['86400', '86400', 86_400],
  ])('writes PostQuantum = %s as %s', (value, written, seconds) => {
    const config = parseConfig(`${INTERFACE}${PEER}#@ PostQuantum = ${value}\n`, 'f');
    expect(config.peers[0]?.postQuantum).toBe(seconds);
    expect(formatConfig(config)).toContain(`\n#@ PostQuantum = ${written}\n`);
  });

  it.each(['a\nPostUp = b', 'a # b', 'a\u0000', ' a', 'a\r'])('refuses the hook %j', (command) => {
    const config = { ...base, interface: { ...base.interface, postUp: [{ command, line: 1 }] } };
    expect(() => formatConfig(config)).toThrow(RangeError);
  });

  it('refuses a name that would begin a line of its own', () => {
    const peers = base.peers.map((peer) => ({ ...peer, name: 'x\nPublicKey = y' }));
    expect(() => formatConfig({ ...base, peers })).toThrow('Name: a line cannot hold this value');
  });

  it('keeps secrets as bytes', () => {
    expect(base.interface.privateKey).toEqual(parseKey(KEYS.alice.private));
  });
});
