/** Which MTU fits the ways to a tunnel's endpoints, as ip(8) tells of them in a namespace. */
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { twoHosts } from './client-lab.ts';
import { Lab, missing } from '../support/lab.ts';

const reason = missing('ip');
const MODULE = fileURLToPath(new URL('../../packages/client/dist/system/mtu.js', import.meta.url));

describe.skipIf(reason !== undefined)(`the MTU of a tunnel (${reason ?? 'in a namespace'})`, () => {
  it('has room for the IP header of the narrowest way, with 20 bytes to spare over IPv4', async () => {
    await using lab = await Lab.open();
    const { a, b } = await twoHosts(lab);
    await lab.join(a, 'narrow', ['192.168.89.1/24'], b, 'vn', ['192.168.89.2/24']);
    await a.must('ip', ['link', 'set', 'narrow', 'mtu', '1300']);
    await a.must('ip', ['route', 'add', '192.168.90.0/24', 'dev', 'va', 'mtu', '1400']);
    // Who bears this mark leaves by the narrow link.
    await a.must('ip', ['rule', 'add', 'fwmark', '77', 'table', '77']);
    await a.must('ip', ['route', 'add', 'default', 'dev', 'narrow', 'table', '77']);
    const mtu = async (
      endpoints: readonly string[],
      { mark = 0, ipv6 = true, name = 'wg0' } = {},
    ): Promise<{ readonly usual: number; readonly most: number }> => {
      const list = endpoints.map((text) => `{ address: parseAddress('${text}'), port: 1 }`).join(', ');
      const script = `import { parseAddress } from '@sealane/tunnel';
        import { mtuFor } from '${MODULE}';
        console.log(JSON.stringify(await mtuFor([${list}], ${JSON.stringify({ mark, ipv6, name })})));`;
      return JSON.parse(await a.must(process.execPath, ['--input-type=module', '-e', script])) as Awaited<
        ReturnType<typeof mtu>
      >;
    };
    expect(await mtu(['192.168.88.2'])).toEqual({ usual: 1_420, most: 1_440 });
    expect(await mtu(['fd88::2'])).toEqual({ usual: 1_420, most: 1_420 });
    expect(await mtu(['192.168.88.2', 'fd88::2'])).toEqual({ usual: 1_420, most: 1_420 });
    expect(await mtu(['192.168.88.2', '192.168.90.7', '192.168.90.7'])).toEqual({ usual: 1_320, most: 1_340 });
    expect(await mtu(['192.168.88.2'], { mark: 77, ipv6: false })).toEqual({ usual: 1_220, most: 1_240 });
    expect(await mtu(['192.168.89.2'])).toEqual({ usual: 1_280, most: 1_280 });
    // No way out at all, or only the tunnel's own: Ethernet is likely.
    expect(await mtu(['203.0.113.1'])).toEqual({ usual: 1_420, most: 1_420 });
    expect(await mtu(['192.168.89.2'], { name: 'narrow' })).toEqual({ usual: 1_420, most: 1_420 });
  });
});
