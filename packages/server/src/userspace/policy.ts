/** Where the gateway may go for its peers. The most specific rule decides; of equals, the one that denies. */
import { formatPrefix, maskPrefix, parseAddress, parsePort, parsePrefix } from '@sealane/tunnel';
import type { Prefix } from '@sealane/protocol';

export interface PortRange {
  readonly from: number;
  readonly to: number;
}

export interface Rule {
  readonly prefix: Prefix;
  /** Every port when empty. */
  readonly ports: readonly PortRange[];
}

export interface PolicyOptions {
  readonly allow?: readonly Rule[];
  readonly deny?: readonly Rule[];
  /** The peers' own networks: peers reach nothing in them through the gateway, each other included. */
  readonly peerNetworks?: readonly Prefix[];
}

/**
 * What is only for this computer, for its link or for no host at all, and where clouds keep credentials. A rule for it or
 * for something inside opens it; one that merely includes it does not.
 */
const PROTECTED: readonly string[] = [
  '0.0.0.0/8',
  '127.0.0.0/8',
  '169.254.0.0/16',
  '224.0.0.0/4',
  '240.0.0.0/4',
  // Metadata services outside of the link-local range.
  '100.100.100.200/32',
  '168.63.129.16/32',
  '192.0.0.192/32',
  'fd00:42::42/128',
  'fd00:c1::a9fe:a9fe/128',
  'fd00:ec2::254/128',
  'fd20:ce::254/128',
  '::/96',
  '::ffff:0:0/96',
  // RFC 6052, RFC 8215, RFC 3056: IPv4 addresses in another form.
  '64:ff9b::/96',
  '64:ff9b:1::/48',
  '2002::/16',
  'fe80::/10',
  'ff00::/8',
];

/** Reads `CIDR[:PORTS]` with PORTS such as `443` or `80,8000-8100`; IPv6 with ports in brackets, `[fd00::/8]:443`. */
export function parseRule(text: string): Rule | undefined {
  const parts =
    /^\[([^\]]+)\](?::([\d,-]+))?$/.exec(text) ??
    /^([\d./]+)(?::([\d,-]+))?$/.exec(text) ??
    /^([\da-fA-F:./]+)$/.exec(text);
  const prefix = parts === null ? undefined : parsePrefix(parts[1]!);
  if (prefix === undefined) return undefined;
  const ports = parts?.[2] === undefined ? [] : parsePorts(parts[2]);
  return ports === undefined ? undefined : { prefix: maskPrefix(prefix), ports };
}

export function formatRule({ prefix, ports }: Rule): string {
  const network = formatPrefix(prefix);
  if (ports.length === 0) return network;
  const list = ports.map(({ from, to }) => (from === to ? String(from) : `${from}-${to}`)).join(',');
  return prefix.address.length === 4 ? `${network}:${list}` : `[${network}]:${list}`;
}

/** A rule with what it decides. */
export interface DecidedRule extends Rule {
  readonly isAllowed: boolean;
  /** Nobody wrote it: it protects what is never meant. */
  readonly isBuiltIn: boolean;
}

export class Policy {
  readonly #rules: readonly DecidedRule[];
  readonly #allowsOthers: boolean;

  constructor({ allow = [], deny = [], peerNetworks = [] }: PolicyOptions = {}) {
    const protectedPrefixes = [...PROTECTED.map((text) => parsePrefix(text)!), ...peerNetworks.map(maskPrefix)];
    // A rule that someone wrote goes before one of ours for the same addresses.
    const weigh = ({ prefix, ports }: Rule, kind: 'built-in' | 'allow' | 'deny'): number =>
      prefix.length * 8 + (ports.length > 0 ? 4 : 0) + ['built-in', 'allow', 'deny'].indexOf(kind);
    const builtIn = protectedPrefixes.map((prefix) => ({ prefix, ports: [] }));
    this.#rules = [
      ...builtIn.map((rule) => ({ ...rule, isAllowed: false, isBuiltIn: true, weight: weigh(rule, 'built-in') })),
      ...deny.map((rule) => ({ ...rule, isAllowed: false, isBuiltIn: false, weight: weigh(rule, 'deny') })),
      ...allow.map((rule) => ({ ...rule, isAllowed: true, isBuiltIn: false, weight: weigh(rule, 'allow') })),
    ].toSorted((one, other) => other.weight - one.weight);
    // Who names what may be reached means that the rest may not; opening something protected says nothing of the rest.
    this.#allowsOthers = allow.every(({ prefix }) =>
      protectedPrefixes.some((wide) => wide.length <= prefix.length && contains(wide, prefix.address)),
    );
  }

  /** In the order in which they are asked: the first that fits decides. */
  get rules(): readonly DecidedRule[] {
    return this.#rules;
  }

  /** Whether peers may reach what no rule speaks of. */
  get allowsOthers(): boolean {
    return this.#allowsOthers;
  }

  /** Whether peers may reach this address and port; false for what is no address. */
  allows(address: string, port: number): boolean {
    const bytes = parseAddress(address);
    if (bytes === undefined) return false;
    const rule = this.#rules.find(({ prefix, ports }) => contains(prefix, bytes) && covers(ports, port));
    return rule === undefined ? this.#allowsOthers : rule.isAllowed;
  }
}

function covers(ports: readonly PortRange[], port: number): boolean {
  return ports.length === 0 || ports.some(({ from, to }) => port >= from && port <= to);
}

function contains({ address: network, length }: Prefix, address: Uint8Array): boolean {
  if (network.length !== address.length) return false;
  const whole = length >> 3;
  for (let i = 0; i < whole; i++) if (network[i] !== address[i]) return false;
  const rest = length & 7;
  return rest === 0 || (network[whole]! ^ address[whole]!) >> (8 - rest) === 0;
}

function parsePorts(text: string): readonly PortRange[] | undefined {
  const ranges: PortRange[] = [];
  for (const part of text.split(',')) {
    const [first = '', last = first, ...more] = part.split('-');
    const from = parsePort(first);
    const to = parsePort(last);
    if (from === undefined || to === undefined || from > to || more.length > 0) return undefined;
    ranges.push({ from, to });
  }
  return ranges;
}
