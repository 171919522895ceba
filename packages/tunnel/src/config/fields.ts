/** Which keys there are, where they belong, and what to say about the others. */

export type Section = 'Interface' | 'Peer';

export interface Field {
  readonly name: string;
  readonly sections: readonly Section[];
  /** Only Sealane knows it: may stand behind `#@ `, where wg and wg-quick see a comment. */
  readonly extension: boolean;
}

export const EXTENSION_MARK = '#@ ';

const FIELDS: readonly Field[] = [
  { name: 'PrivateKey', sections: ['Interface'], extension: false },
  { name: 'ListenPort', sections: ['Interface'], extension: false },
  { name: 'FwMark', sections: ['Interface'], extension: false },
  { name: 'Address', sections: ['Interface'], extension: false },
  { name: 'DNS', sections: ['Interface'], extension: false },
  { name: 'MTU', sections: ['Interface'], extension: false },
  { name: 'Table', sections: ['Interface'], extension: false },
  { name: 'PreUp', sections: ['Interface'], extension: false },
  { name: 'PostUp', sections: ['Interface'], extension: false },
  { name: 'PreDown', sections: ['Interface'], extension: false },
  { name: 'PostDown', sections: ['Interface'], extension: false },
  { name: 'SaveConfig', sections: ['Interface'], extension: false },
  { name: 'RekeyInterval', sections: ['Interface', 'Peer'], extension: true },
  { name: 'PublicKey', sections: ['Peer'], extension: false },
  { name: 'PresharedKey', sections: ['Peer'], extension: false },
  { name: 'AllowedIPs', sections: ['Peer'], extension: false },
  // Behind the mark it adds endpoints to the plain one, so that wg sees exactly one.
  { name: 'Endpoint', sections: ['Peer'], extension: true },
  { name: 'PersistentKeepalive', sections: ['Peer'], extension: false },
  { name: 'Cipher', sections: ['Peer'], extension: true },
  { name: 'PostQuantum', sections: ['Peer'], extension: true },
  { name: 'Name', sections: ['Peer'], extension: true },
  { name: 'Gateway', sections: ['Peer'], extension: true },
];

const BY_NAME: ReadonlyMap<string, Field> = new Map(FIELDS.map((field) => [field.name.toLowerCase(), field]));

const AMNEZIA = /^(jc|jmin|jmax|jd|s[1-4]|h[1-4]|i[1-5]|j[1-3]|itime|advancedsecurity)$/;

const FOREIGN_KEYS: ReadonlyMap<string, string> = new Map([
  ['includedapplications', 'is a key of the Android app; remove the line'],
  ['excludedapplications', 'is a key of the Android app; remove the line'],
  ['allowedapps', 'is a key of WireSock; remove the line'],
  ['disallowedapps', 'is a key of WireSock; remove the line'],
  ['disallowedips', 'is a key of WireSock; list what the tunnel carries in AllowedIPs instead'],
  ['socks5proxy', 'is a key of WireSock; remove the line'],
  ['firewallmark', 'is a key of systemd-networkd; write FwMark'],
  ['routetable', 'is a key of systemd-networkd; write Table in [Interface]'],
  ['presharedkeyfile', 'is a key of systemd-networkd; write PresharedKey and the key itself'],
  ['privatekeyfile', 'is a key of systemd-networkd; write PrivateKey and the key itself'],
  ['publickeyfile', 'is a key of systemd-networkd; write PublicKey and the key itself'],
  ['wgobfs', 'is not part of WireGuard; remove the line on both sides'],
]);

const FOREIGN_SECTIONS: ReadonlyMap<string, string> = new Map([
  ['netdev', 'systemd-networkd'],
  ['wireguard', 'systemd-networkd'],
  ['wireguardpeer', 'systemd-networkd'],
  ['network', 'systemd-networkd'],
  ['socks5', 'wireproxy'],
  ['http', 'wireproxy'],
  ['tcpclienttunnel', 'wireproxy'],
  ['tcpservertunnel', 'wireproxy'],
  ['stdiotunnel', 'wireproxy'],
  ['connection', 'NetworkManager'],
  ['ipv4', 'NetworkManager'],
  ['ipv6', 'NetworkManager'],
]);

/** Finds a key without regard to case. */
export function fieldNamed(key: string): Field | undefined {
  return BY_NAME.get(key.toLowerCase());
}

/** Finds a section by its header without brackets and without regard to case. */
export function sectionNamed(header: string): Section | undefined {
  const name = header.toLowerCase();
  if (name === 'interface') return 'Interface';
  return name === 'peer' ? 'Peer' : undefined;
}

/** What to say about a key that this section does not have. */
export function explainKey(key: string, section: Section): string {
  const known = fieldNamed(key);
  if (known !== undefined) return `belongs to [${known.sections.join('] or [')}], not to [${section}]; move the line`;
  const lower = key.toLowerCase();
  if (AMNEZIA.test(lower)) {
    return 'is an AmneziaWG key and Sealane speaks plain WireGuard; remove such keys here and at the peer';
  }
  const foreign = FOREIGN_KEYS.get(lower);
  if (foreign !== undefined) return foreign;
  const near = nearest(lower, section);
  return near === undefined ? 'is no key of this format; remove the line' : `is unknown; did you mean ${near}?`;
}

/** What to say about a section header that the format does not have. */
export function explainSection(header: string): string {
  const program = FOREIGN_SECTIONS.get(header.toLowerCase());
  if (program !== undefined) {
    return `is a section of ${program}; a wg-quick file has one [Interface] and any number of [Peer]`;
  }
  const near = (['Interface', 'Peer'] as const).find((name) => distance(header.toLowerCase(), name.toLowerCase()) <= 2);
  return near === undefined ? 'is unknown; there are [Interface] and [Peer]' : `is unknown; did you mean [${near}]?`;
}

function nearest(lower: string, section: Section): string | undefined {
  const ranked = FIELDS.map((field) => ({
    name: field.name,
    cost: misspelling(lower, field.name.toLowerCase()) + (field.sections.includes(section) ? 0 : 0.5),
  })).toSorted((a, b) => a.cost - b.cost);
  const best = ranked[0]!;
  return best.cost <= Math.max(1, Math.ceil(lower.length / 3)) ? best.name : undefined;
}

/** Half a name is as good as one wrong letter: `Keepalive`. */
function misspelling(lower: string, name: string): number {
  return lower.length >= 4 && name.endsWith(lower) ? 1 : distance(lower, name);
}

/** Levenshtein's distance with swapped neighbours counted once. */
function distance(a: string, b: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1];
      let cost = Math.min(last[j]! + 1, row[j - 1]! + 1, last[j - 1]! + (same ? 0 : 1));
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        cost = Math.min(cost, beforeLast[j - 2]! + 1);
      row.push(cost);
    }
    beforeLast = last;
    last = row;
  }
  return last[b.length]!;
}
