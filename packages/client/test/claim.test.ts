/** Names that one process at a time has in a network namespace. */
import { once } from 'node:events';
import { connect } from 'node:net';
import { describe, expect, it } from 'vitest';
import { alone, claim } from '../src/system/claim.ts';

const NAME = `test of process ${process.pid}`;

describe.runIf(process.platform === 'linux')('a name that is claimed', () => {
  it('is had by one, and by the next when that one gives it back', async () => {
    const release = await claim(NAME);
    expect(release).toBeDefined();
    expect(await claim(NAME)).toBeUndefined();
    const other = await claim(`${NAME}, another`);
    expect(other).toBeDefined();
    release!();
    other!();
    const again = await claim(NAME);
    expect(again).toBeDefined();
    again!();
  });

  it('lets those who wait for it work one after the other, but not for ever', async () => {
    let [at, most] = [0, 0];
    const work = async (): Promise<void> => {
      most = Math.max(most, ++at);
      await new Promise((resolve) => setTimeout(resolve, 20));
      at -= 1;
    };
    await Promise.all([1, 2, 3].map(() => alone(NAME, 30_000, work)));
    expect(most).toBe(1);
    const release = await claim(NAME);
    await alone(NAME, 50, work);
    expect(at).toBe(0);
    release!();
  });

  it('holds no connection of anybody', async () => {
    const release = await claim(NAME);
    const socket = connect(`\0sealane ${NAME}`);
    await once(socket, 'close');
    expect(socket.destroyed).toBe(true);
    expect(await claim(NAME)).toBeUndefined();
    release!();
  });
});
