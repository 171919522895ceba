import { formatAddress, parseConfig, type TunnelConfig } from '@sealane/tunnel';
import { describe, expect, it } from 'vitest';
import { CliError } from '../src/errors.ts';
import { chooseTarget } from '../src/ping/target.ts';

const KEYS = {
  own: 'YAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=',
  first: 'xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=',
  second: 'TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0=',
};

function configOf(
  address: string,
  ...peers: readonly { readonly allowedIps: string; readonly endpoint?: string }[]
): TunnelConfig {
  const keys = [KEYS.first, KEYS.second];
  const sections = peers.map(
    ({ allowedIps, endpoint }, i) =>
      `[Peer]\nPublicKey = ${keys[i]}\nAllowedIPs = ${allowedIps}\n${endpoint === undefined ? '' : `Endpoint = ${endpoint}\n`}`,
  );
  return parseConfig(
    `[Interface]\nPrivateKey = ${KEYS.own}\n${address === '' ? '' : `Address = ${address}\n`}${sections.join('')}`,
    'x.conf',
  );
}

const ENDPOINT = '192.0.2.1:51820';

describe('chooseTarget', () => {
  it.each([
    ['the first host of the first allowed network', '10.8.0.5/32', '10.8.0.0/24', '10.8.0.1'],
    ['another host when the first is ours', '10.8.0.1/32', '10.8.0.0/24', '10.8.0.2'],
    ['a single address itself', '10.8.0.5/32', '10.8.0.9/32, 10.9.0.0/16', '10.8.0.9'],
    ['not a default route', '10.8.0.5/32', '0.0.0.0/0, 10.8.0.0/24', '10.8.0.1'],
    ['not the half of a default route', '10.8.0.5/24', '0.0.0.0/1, 128.0.0.0/1', '10.8.0.1'],
    ['an own network that a peer has', '10.8.0.5/24, fd08::5/64', '::/0', 'fd08::1'],
    ['the own network when all traffic goes through the tunnel', '10.8.0.5/24', '0.0.0.0/0', '10.8.0.1'],
    ['a family that we have an address of', 'fd08::5/128', '10.8.0.0/24, fd08::/64', 'fd08::1'],
    ['the first of two in a network of two', '10.8.0.1/31', '10.8.0.0/31', '10.8.0.0'],
  ])('takes %s', (_what, address, allowedIps, expected) => {
    const { address: chosen } = chooseTarget(
      configOf(address, { allowedIps, endpoint: ENDPOINT }),
      'x.conf',
      undefined,
    );
    expect(formatAddress(chosen)).toBe(expected);
  });

  it('finds the peer that owns a given address by the longest prefix', () => {
    const config = configOf(
      '10.8.0.5/32',
      { allowedIps: '10.0.0.0/8', endpoint: ENDPOINT },
      { allowedIps: '10.8.0.0/16', endpoint: '192.0.2.2:51820' },
    );
    expect(chooseTarget(config, 'x.conf', '10.8.3.4').peer.endpoints).toEqual(['192.0.2.2:51820']);
    expect(chooseTarget(config, 'x.conf', '10.9.3.4').peer.endpoints).toEqual([ENDPOINT]);
  });

  it.each([
    ['', '10.8.0.0/24', undefined, 'x.conf: Address is missing: a ping needs an inner address of its own'],
    ['10.8.0.5/32', '0.0.0.0/0', undefined, 'x.conf: AllowedIPs name no host to ping: say which by --target ADDRESS'],
    ['10.8.0.5/32', '10.8.0.0/24', 'host', "--target 'host' is no IP address"],
    ['10.8.0.5/32', '10.8.0.0/24', '10.9.0.1', 'x.conf: 10.9.0.1 belongs to no peer: it is in no AllowedIPs'],
    [
      '10.8.0.5/32',
      '10.8.0.0/24, ::/0',
      'fd08::1',
      'x.conf: fd08::1 cannot be pinged: no Address of that family is given',
    ],
  ])('with Address %j and AllowedIPs %j refuses the target %j', (address, allowedIps, given, message) => {
    const config = configOf(address, { allowedIps, endpoint: ENDPOINT });
    expect(() => chooseTarget(config, 'x.conf', given)).toThrow(new CliError(2, message));
  });

  it('refuses a peer that it does not know how to reach', () => {
    const nobody = configOf('10.8.0.5/32', { allowedIps: '10.8.0.0/24' });
    for (const given of [undefined, '10.8.0.1']) {
      expect(() => chooseTarget(nobody, 'x.conf', given)).toThrow(
        'x.conf: Endpoint is missing: no peer can be reached, so there is nobody to ping',
      );
    }
    const another = configOf(
      '10.8.0.5/32',
      { allowedIps: '10.8.0.0/24' },
      { allowedIps: '10.9.0.0/24', endpoint: ENDPOINT },
    );
    expect(() => chooseTarget(another, 'x.conf', '10.8.0.1')).toThrow(
      'x.conf: the peer that owns 10.8.0.1 has no Endpoint to begin with',
    );
  });
});
