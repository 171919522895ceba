/**
 * The whole list of published failures that we keep tests for, and where each test is. Those that need a lane or a namespace have
 * theirs among the tests of that part, which set it up; those of arithmetic where all vectors run on each cryptography; here it
 * fails when one of them is gone.
 */
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { titlesIn } from '../support/titles.ts';

const root = fileURLToPath(new URL('../../', import.meta.url));
const here = 'test/published-failures';

/** Titles in this folder begin with the place. */
const HERE = [
  'tailscale-rs #334',
  'tailscale-rs #338, gotatun 0.7.2',
  'gotatun 0.4.1, boringtun 0.7.1',
  'tailscale-rs #343',
  'tailscale-rs #283',
  'tailscale-rs #333',
  'tailscale-rs #339',
  'tailscale-rs #287',
  'tailscale-rs #341',
  'gotatun 0.7.2 (131db1f)',
  'gotatun 0.7.2 (30ea7d9)',
  'gotatun 0.4.1: one limiter',
  'gotatun 0.6.0',
  'gotatun 0.1.2',
  'gotatun 0.3.0 (audit): session indexes',
  'gotatun 0.3.0 (audit): data was not padded',
  'gotatun 0.4.1 (a89bba8)',
  'gotatun 0.7.2 (8b593e7)',
  'gotatun 0.8.0, boringtun #489',
  'gotatun 0.7.2: a changed preshared key',
  'gotatun 0.5.1, 0.4.1',
  'boringtun 40c28d2, gotatun 0.3.0',
  'boringtun #39',
  'boringtun 174cc60',
  'CVE-2021-46873: an initiation from the future burnt the key for ever',
  'CVE-2021-46873: an initiation from the future burnt the key until the server was restarted',
  'opnsense #9181, thingino #888',
  'wireguard-go ace50a0, 6ed56ff',
  'wireguard-go 842888a, 7c971d7, 9cbcff1',
  'wireguard-go ea6c1cd, 6228659',
  'wireguard-go 867a4c4, 113c8f1; tailscale #11382: a stalled packet device',
  'wireguard-go 867a4c4, 113c8f1; tailscale #11382: an interface that takes nothing',
  'wireguard-go 867a4c4, 113c8f1; tailscale #11382: a program stopped',
  'tailscale #20954',
  'wireguard-go #79, eae5e0f',
  'wireguard-go 63abb55',
  'clawpatrol #299',
  'firezone/boringtun #16',
  'CVE-2026-15733 (WGDashboard)',
  'CVE-2017-7479 (OpenVPN)',
  'CVE-2024-28882 (OpenVPN)',
  'CVE-2024-26950 (kernel)',
  'CVE-2024-26861 (kernel)',
  'wg-easy #1473, #1150',
  'wireguard-go 0.0.20220316: after an address change',
];

const ELSEWHERE: readonly (readonly [place: string, cause: string, file: string, title: string])[] = [
  [
    'tailscale-rs #341',
    "the cookie reply's wrong type byte, against what wireguard-go sent",
    'packages/protocol/test/transcript.test.ts',
    'opens the reply and makes the mac2 that was accepted',
  ],
  [
    'boringtun a6d9d05',
    'a bug in field arithmetic',
    'packages/tunnel/test/crypto.test.ts',
    'gives every Wycheproof answer of X25519 and refuses all-zero results',
  ],
  [
    'boringtun a6d9d05',
    'a bug in field arithmetic',
    'packages/protocol/test/crypto.test.ts',
    'gives every Wycheproof answer and refuses all-zero results',
  ],
  [
    'boringtun 174cc60',
    'a stack overflow on a large configuration file',
    'packages/tunnel/test/config/parse.test.ts',
    'reads 10,000 peers and 130,000 allowed IPs',
  ],
  [
    'gotatun 0.7.2 (131db1f)',
    'datagrams of every length, 0 to 65,507 bytes, in the Linux lane',
    'packages/tunnel/test/lane/linux-lane.test.ts',
    'stands garbage of every length and goes on',
  ],
  [
    'CVE-2017-7478 (OpenVPN)',
    'a datagram reached an assertion and ended the process',
    'test/fuzz/datagrams.test.ts',
    'of all kinds change nothing and are not answered unless they should, %s',
  ],
  [
    'thingino #888',
    'a clock reset, across a killed process',
    'packages/tunnel/test/timestamp-file.test.ts',
    'never goes below a timestamp that a killed process announced',
  ],
  [
    'wireguard-go ea6c1cd, 6228659',
    'a passing error ended the receive loop',
    'packages/tunnel/test/tunnel.test.ts',
    'are counted by name, and the tunnel goes on',
  ],
  [
    'wireguard-go ea6c1cd, 6228659',
    'a passing error ended the receive loop, or made it spin',
    'packages/tunnel/test/lane/linux-lane.test.ts',
    'counts what it cannot send and does not spin',
  ],
  [
    'wireguard-go ea6c1cd, 6228659',
    'a passing error ended the receive loop, or made it spin, in a namespace with real routes and links',
    'test/netns/faults.test.ts',
    'counts, rests and goes on when $name',
  ],
  [
    'wireguard-go ace50a0, 6ed56ff',
    'private key changes in use',
    'test/netns/configuration.test.ts',
    'takes a new private key on both sides again and again under traffic',
  ],
  [
    'boringtun 174cc60',
    'a large configuration through the control socket, with the stock `wg`',
    'test/netns/configuration.test.ts',
    'takes them in one operation and routes by them',
  ],
  [
    'wireguard-go 63abb55',
    'handshakes were answered while the link of a running program was down',
    'test/netns/life.test.ts',
    'is silent while its link is down, and back when it is up',
  ],
  [
    'wireguard-go 63abb55',
    'handshakes were answered while the link was down',
    'packages/tunnel/test/lane/linux-lane.test.ts',
    'is silent while the link is down and goes on when it is up again',
  ],
  [
    'wireguard-go eae5e0f',
    'descriptors leaked when a TUN could not be opened',
    'packages/tunnel/test/lane/linux-lane.test.ts',
    'leaves no descriptor and no interface behind, with lanes: %i',
  ],
  [
    'GHSA-hqrf-67pm-wgfq (Omni)',
    'peers reached one another through the hub',
    'test/proxy/gateway.test.ts',
    'keeps peers from what the policy does not allow, and from each other',
  ],
  [
    'GHSA-hqrf-67pm-wgfq (Omni)',
    'peers reached one another through the hub, with a TUN interface',
    'test/cli/server-hosting.test.ts',
    'takes peers outside under its own address, keeps them apart, and puts everything back',
  ],
  [
    'TunnelVision CVE-2024-3661',
    'a foreign route led around the tunnel, with the server down and the client killed',
    'test/cli/client-kill-switch.test.ts',
    'lets nothing out in the clear: server down, foreign routes, client killed',
  ],
  [
    'wg-easy #1473, #1150',
    'a missing password opened the interface to all',
    'packages/client/test/proxy/proxy.test.ts',
    'a password file',
  ],
  [
    'wg-easy #1473, #1150',
    'a missing password opened the interface to all',
    'packages/tunnel/test/uapi/server.test.ts',
    'is a socket of mode 0600 in a folder of mode 0700, and nothing is left behind',
  ],
  [
    'TunnelVision CVE-2024-3661',
    'a foreign route led around the tunnel',
    'test/cli/client-up.test.ts',
    'sends everything through the tunnel but its own datagrams and what the main table knows',
  ],
  [
    'wireguard-go 0.0.20220316, sticky source',
    'dark for 15 s after an address change',
    'test/netns/sources.test.ts',
    'loses at most one ping when its source address vanishes',
  ],
  [
    'CVE-2024-26861 (kernel)',
    'workers raced on one receive counter: lanes in all orders',
    'packages/protocol/test/lanes.test.ts',
    'use no counter twice, deliver nothing twice, and agree in the end, whatever is late, lost, doubled or misled',
  ],
  [
    'CVE-2024-26861 (kernel)',
    'workers raced on one receive counter: the threads of a real tunnel, every datagram twice',
    'test/netns/lanes.test.ts',
    'accepts no packet of $name twice when every datagram comes twice, through renewals',
  ],
  [
    'wireguard-go, routing loop',
    'the outer packet was routed into its own tunnel',
    'test/netns/paths.test.ts',
    'ends a routing loop of its own datagrams',
  ],
  [
    'wireguard-go, routing loop',
    'the outer packet was routed into its own tunnel, in the portable lane',
    'packages/tunnel/test/tunnel.test.ts',
    'drop their own datagrams instead of sealing them again',
  ],
];

describe('published failures', () => {
  it.each(HERE)('%s has its test in this folder', (place) => {
    const files = readdirSync(root + here).filter((file) => file.endsWith('.test.ts') && file !== 'covered.test.ts');
    const titles = files.flatMap((file) => titlesIn(`${here}/${file}`));
    expect(titles.some((title) => title.startsWith(place))).toBe(true);
  });

  it.each(ELSEWHERE)('%s: %s is tested in %s', (_place, _cause, file, title) => {
    expect(titlesIn(file)).toContain(title);
  });
});
