/** Shapes of configuration files as people have them, written for these tests; every key is made up. */
import type { HookCommand, TunnelConfig } from '../../src/config/model.ts';

export const KEYS = {
  alice: {
    private: 'UEkjm1F40qdG5h8ChQOVD1XawlFPgW6YcYCfyfHrW04=',
    public: 'DhnUyozqsRMm1hWbUb2pFq6aNHO10mCm154Bv7SYTg8=',
  },
  bob: {
    private: 'AEQRp3lT+uT71kprr9scZZ8mi/L/ZoTTIb5MRitS52o=',
    public: 'FPTUf9l0YeZy3/flO23e0suJAyBcZ8NfFiD5yshHVD0=',
  },
  carol: {
    private: 'IBxSzYj6IkM+UOVABeYh/JNAFAZOlXy6z/KyeV8SoE0=',
    public: '/uRW12MJ1SJeDHMZ9D/oklv1JwsUju1X8H5n7P6SrQY=',
  },
  dave: {
    private: 'aKvk8gLsn0Vf3FnH9AbiPjWxcRl++zm9zdtyD7EveV0=',
    public: '6UGOQ5vv1Q6hVPzODfXxS58Q1m9FK2omxmUWJAEvNSg=',
  },
} as const;

export const PRESHARED_KEY = 'vXY76UL5hfVEyLYcCKJCj9GCUX0lqz83RqjxPl4qDzs=';

const { alice, bob, carol, dave } = KEYS;

export const CORPUS: Readonly<Record<string, string>> = {
  'phone, all traffic': `[Interface]
PrivateKey = ${alice.private}
Address = 10.66.66.2/32, fd42:42:42::2/128
DNS = 1.1.1.1, 1.0.0.1

[Peer]
PublicKey = ${bob.public}
PresharedKey = ${PRESHARED_KEY}
Endpoint = 198.51.100.7:51820
AllowedIPs = 0.0.0.0/0, ::/0
PersistentKeepalive = 25
`,
  'commercial provider with comments': `[Interface]
# Key for laptop
# Bouncing = 1
# NAT-PMP (Port Forwarding) = off
# Accelerator = on
PrivateKey = ${alice.private}
Address = 10.2.0.2/32
DNS = 10.2.0.1

[Peer]
# NL#42
PublicKey = ${bob.public}
AllowedIPs = 0.0.0.0/0
Endpoint = 203.0.113.9:51820`,
  'server with hooks': `[Interface]
Address = 10.8.0.1/24
ListenPort = 51820
PrivateKey = ${alice.private}
PostUp = iptables -A FORWARD -i %i -j ACCEPT; iptables -t nat -A POSTROUTING -o eth0 -j MASQUERADE
PostUp = ip6tables -A FORWARD -i %i -j ACCEPT
PostDown = iptables -D FORWARD -i %i -j ACCEPT; iptables -t nat -D POSTROUTING -o eth0 -j MASQUERADE
PostDown = ip6tables -D FORWARD -i %i -j ACCEPT
SaveConfig = true

### Client bob
[Peer]
PublicKey = ${bob.public}
AllowedIPs = 10.8.0.2/32

### Client carol
[Peer]
PublicKey = ${carol.public}
PresharedKey = ${PRESHARED_KEY}
AllowedIPs = 10.8.0.3/32,10.20.0.0/16
`,
  'no space anywhere, lower case': `[interface]
privatekey=${alice.private}
address=192.168.7.2/24
dns=192.168.7.1,corp.example,internal.example
mtu=1380
table=off
[peer]
publickey=${bob.public}
endpoint=[2001:db8::7]:443
allowedips=192.168.7.0/24
persistentkeepalive=off
`,
  'windows line ends and byte order mark': `\uFEFF[Interface]\r\nPrivateKey = ${alice.private}\r\nAddress = 10.0.0.2/24\r\n\r\n[Peer]\r\nPublicKey = ${bob.public}\r\nAllowedIPs = 10.0.0.0/24\r\nEndpoint = 192.0.2.1:51820\r\n`,
  'repeated keys, trailing comments, tabs': `\t[Interface]   # home
\tPrivateKey\t=\t${alice.private}   # secret
\tAddress = 10.0.0.2/24
\tAddress = fd00::2/64
\tMTU = 1420
\tMTU = 1400 # the last one counts
\tDNS = 10.0.0.1
\tDNS = home.example
\tPreUp = echo one
\tPreUp = echo two
\tPreDown = echo three

\t[Peer] # bob
\tPublicKey = ${bob.public}
\tAllowedIPs = 10.0.0.0/24
\tAllowedIPs = fd00::/64, 10.0.1.0/24
\tEndpoint = 192.0.2.1:1
\tEndpoint = 192.0.2.2:65535
\tPersistentKeepalive = 10
\tPersistentKeepalive = 0
`,
  'peer before the interface': `[Peer]
PublicKey = ${bob.public}
AllowedIPs = 10.9.0.0/16
[Interface]
PrivateKey = ${alice.private}
ListenPort = 0
FwMark = 0xca6c
[Peer]
PublicKey = ${carol.public}
`,
  'site to site, more specific prefix elsewhere': `[Interface]
PrivateKey = ${alice.private}
Address = 172.16.0.1/30
ListenPort = 51821
FwMark = 51820
Table = 1234

[Peer]
PublicKey = ${bob.public}
AllowedIPs = 10.0.0.0/8
Endpoint = 192.0.2.77:51821

[Peer]
PublicKey = ${carol.public}
AllowedIPs = 10.1.0.0/16, 10.1.2.3/16
Endpoint = [2001:db8:1::77]:51821

[Peer]
PublicKey = ${dave.public}
AllowedIPs = 10.1.2.0/24
`,
  'mesh list with the own key in it': `[Interface]
PrivateKey = ${alice.private}
Address = 10.5.0.1/24

[Peer]
PublicKey = ${alice.public}
AllowedIPs = 10.5.0.1/32
Endpoint = 192.0.2.1:51820

[Peer]
PublicKey = ${bob.public}
AllowedIPs = 10.5.0.2/32
Endpoint = 192.0.2.2:51820
`,
  'a peer twice and a prefix at two peers': `[Interface]
PrivateKey = ${alice.private}
Address = 10.5.0.1/24
MTU = 500

[Peer]
PublicKey = ${bob.public}
PresharedKey = ${PRESHARED_KEY}
AllowedIPs = 10.5.0.2/32, 10.6.0.0/16
Endpoint = 192.0.2.2:51820
PersistentKeepalive = 25

[Peer]
PublicKey = ${carol.public}
AllowedIPs = 10.7.0.0/16, 10.5.0.3/32

[Peer]
PublicKey = ${bob.public}
AllowedIPs = 10.7.0.0/16, 10.5.0.4/32
`,
  'extensions behind the mark': `[Interface]
PrivateKey = ${alice.private}
Address = 10.4.0.2/32
#@ RekeyInterval = 60

[Peer]
#@ Name = head office
PublicKey = ${bob.public}
AllowedIPs = 10.4.0.0/16
Endpoint = 192.0.2.10:51820
#@ Endpoint = 192.0.2.11:51820, [2001:db8::11]:51820
#@ RekeyInterval = 30
#@ Cipher = aes256gcm
#@ PostQuantum = 600
#@ this is a comment for people
`,
};

/** What a file says, wherever in it: writing it again moves the lines. */
export function withoutLines(config: TunnelConfig): TunnelConfig {
  const moved = (commands: readonly HookCommand[]): HookCommand[] => commands.map((entry) => ({ ...entry, line: 0 }));
  const { preUp, postUp, preDown, postDown } = config.interface;
  const hooks = {
    preUp: moved(preUp),
    postUp: moved(postUp),
    preDown: moved(preDown),
    postDown: moved(postDown),
  };
  return { ...config, interface: { ...config.interface, ...hooks } };
}
