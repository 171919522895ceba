/** What the command line may hold: every parser returns a value or says in one line what is wrong with the text. */
import { formatPrefix, MOST_QUEUES, parsePrefix, type LaneKind } from '@sealane/tunnel';
import { InvalidArgumentError } from 'commander';
import { InputError } from './errors.ts';
import { endpointPort, isDnsServer, isPeerName } from './state/names.ts';
import { parseNetwork, type Network } from './state/pool.ts';
import type { GatewayLimits } from './userspace/gateway.ts';
import { parseRule, type Rule } from './userspace/policy.ts';

export function endpointOption(text: string): string {
  if (endpointPort(text) === undefined) {
    throw new InvalidArgumentError('expected HOST:PORT, such as vpn.example.org:51820 or [2001:db8::1]:51820.');
  }
  return text;
}

/** One block, or one of each address family. */
export function poolOption(text: string): readonly Network[] {
  const networks = list(text).map((part) => {
    try {
      return parseNetwork(part);
    } catch (error) {
      throw new InvalidArgumentError(`${(error as RangeError).message}.`);
    }
  });
  const families = new Set(networks.map(({ address }) => address.length));
  if (networks.length === 0 || families.size !== networks.length) {
    throw new InvalidArgumentError('expected one block, or one IPv4 and one IPv6 block.');
  }
  return networks;
}

export function dnsOption(text: string): readonly string[] {
  const servers = list(text);
  const wrong = servers.find((server) => !isDnsServer(server));
  if (wrong !== undefined) throw new InvalidArgumentError(`'${wrong}' is neither an address nor a domain.`);
  return servers;
}

export function mtuOption(text: string): number {
  return wholeNumber(text, 576, 65_455);
}

export function portOption(text: string): number {
  return wholeNumber(text, 0, 65_535);
}

export function keepaliveOption(text: string): number {
  return wholeNumber(text, 0, 65_535);
}

export function laneOption(text: string): LaneKind | 'auto' {
  if (text !== 'portable' && text !== 'linux' && text !== 'auto') {
    throw new InvalidArgumentError('expected portable, linux or auto.');
  }
  return text;
}

export function lanesOption(text: string): number {
  return wholeNumber(text, 1, MOST_QUEUES);
}

/** An interface name that the kernel takes (IFNAMSIZ). */
export function interfaceOption(text: string): string {
  if (!/^[A-Za-z0-9_][A-Za-z0-9_.=+-]{0,14}$/.test(text)) {
    throw new InvalidArgumentError('expected at most 15 letters, digits, dots, dashes and underscores.');
  }
  return text;
}

export function nameArgument(text: string): string {
  if (!isPeerName(text)) {
    throw new InputError(
      `the name '${text}' is not one: expected letters, digits, dots, dashes and underscores, at most 63`,
    );
  }
  return text;
}

export function prefixesOption(text: string): readonly string[] {
  const prefixes = list(text).map((part) => {
    const prefix = parsePrefix(part);
    if (prefix === undefined)
      throw new InvalidArgumentError(`'${part}' is not an address block like 10.0.0.0/8 or ::/0.`);
    return formatPrefix(prefix);
  });
  if (prefixes.length === 0) throw new InvalidArgumentError('expected at least one address block.');
  return prefixes;
}

/** One more rule of `--allow` or `--deny`. */
export function ruleOption(text: string, before: readonly Rule[]): readonly Rule[] {
  const rule = parseRule(text);
  if (rule === undefined) {
    throw new InvalidArgumentError(
      'expected CIDR[:PORTS], such as 10.0.0.0/8, 192.0.2.7:80,8000-8100 or [fd00::/8]:443.',
    );
  }
  return [...before, rule];
}

/** One more bound of `--limit` on what a peer may hold. */
export function limitOption(text: string, before: Partial<GatewayLimits>): Partial<GatewayLimits> {
  const parts = /^([a-z-]+)=([0-9]{1,7})([KMG]?)$/i.exec(text);
  const name = parts === null ? undefined : LIMITS.get(parts[1]!);
  const unit = (parts?.[3] ?? '').toUpperCase();
  if (parts === null || name === undefined || (unit !== '' && name !== 'maxBufferBytesPerSource')) {
    throw new InvalidArgumentError('expected connections=N, half-open=N, flows=N or memory=SIZE, such as memory=32M.');
  }
  const value = Number(parts[2]) * 1_024 ** ['', 'K', 'M', 'G'].indexOf(unit);
  const least = name === 'maxBufferBytesPerSource' ? LEAST_MEMORY : 1;
  if (value < least) throw new InvalidArgumentError(`${parts[1]} must be at least ${least}.`);
  return { ...before, [name]: value };
}

const LIMITS: ReadonlyMap<string, keyof GatewayLimits> = new Map([
  ['connections', 'maxConnectionsPerSource'],
  ['half-open', 'maxHalfOpenPerSource'],
  ['flows', 'maxUdpFlowsPerSource'],
  ['memory', 'maxBufferBytesPerSource'],
]);
/** Two useful windows, one each way. */
const LEAST_MEMORY = 131_072;

function wholeNumber(text: string, from: number, to: number): number {
  const value = /^[0-9]{1,9}$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= from && value <= to)) throw new InvalidArgumentError(`expected a whole number from ${from} to ${to}.`);
  return value;
}

function list(text: string): string[] {
  return text
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '');
}
