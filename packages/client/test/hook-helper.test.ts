/** The process that runs commands: what it says of them is true, whenever a signal comes. */
import { afterEach, describe, expect, it } from 'vitest';
import { type HelperHandle, HookHelper, startHookHelper } from '../src/system/hook-helper.ts';

const SIGNALS = ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGCHLD', 'SIGCONT'] as const;
const TIMES = 40;

let handle: HelperHandle | undefined;

function helperFor(...commands: readonly string[]): HookHelper {
  handle = startHookHelper(commands, process.env);
  return new HookHelper(handle);
}

afterEach(() => {
  if (handle !== undefined) process.kill(handle.pid, 'SIGKILL');
});

describe.runIf(process.platform === 'linux')('the process that runs commands', () => {
  it('tells the status of each although signals come all the time', async () => {
    const commands = ['exit 0', 'sleep 0.01; exit 4', "trap 'exit 3' TERM; sleep 0.02 & wait; exit 7"];
    const expected = [0, 4, 7];
    const helper = helperFor(...commands);
    // It is there when it has run one.
    await helper.run(commands[0]!, () => undefined);
    let sent = 0;
    const timer = setInterval(() => process.kill(handle!.pid, SIGNALS[sent++ % SIGNALS.length]), 1);
    const statuses: (number | null)[] = [];
    try {
      for (let i = 0; i < TIMES * commands.length; i++) {
        statuses.push(await helper.run(commands[i % commands.length]!, () => undefined));
      }
    } finally {
      clearInterval(timer);
    }
    expect(sent).toBeGreaterThan(TIMES);
    expect(statuses).toEqual(Array.from({ length: TIMES }, () => expected).flat());
  });

  it('ends each that is to end, at whatever moment, and runs the next', async () => {
    const commands = ['sleep 600', 'exit 5'];
    const helper = helperFor(...commands);
    for (let i = 0; i < TIMES; i++) {
      const ended = await helper.run(commands[0]!, (end) => setTimeout(end, i % 4));
      expect(ended).toBeNull();
      // One that ends by itself at that moment has one of the two statuses.
      const isEnded = i % 2 === 0;
      const status = await helper.run(commands[1]!, (end) => isEnded && end());
      expect(isEnded ? [5, null] : [5]).toContain(status);
    }
  });

  it('runs no other, and ends when it is asked for one', async () => {
    const helper = helperFor('exit 0');
    await expect(helper.run('exit 1', () => undefined)).rejects.toThrow('the process that runs commands is gone');
    await expect(helper.run('exit 0', () => undefined)).rejects.toThrow('the process that runs commands is gone');
    handle = undefined;
  });
});
