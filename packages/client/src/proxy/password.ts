import { badInput, CliError, EXIT } from '../errors.ts';

const ENTER = new Set(['\r', '\n', '\u0004']);
const INTERRUPT = '\u0003';
const ERASE = new Set(['\u007f', '\b']);

/** Asks on the terminal without showing the answer; CliError when there is no terminal or the user gives up. */
export function askPassword(question: string): Promise<string> {
  const { stdin, stderr } = process;
  if (!stdin.isTTY) throw badInput('--login asks on a terminal, and there is none: use --auth FILE');
  return new Promise((resolve, reject) => {
    let answer = '';
    const finish = (): void => {
      stdin.removeListener('data', onData);
      stdin.setRawMode(false);
      stdin.pause();
      stderr.write('\n');
    };
    const onData = (bytes: Uint8Array): void => {
      for (const character of new TextDecoder().decode(bytes)) {
        if (ENTER.has(character)) {
          finish();
          resolve(answer);
          return;
        }
        if (character === INTERRUPT) {
          finish();
          reject(new CliError(EXIT.interrupted, 'interrupted'));
          return;
        }
        answer = ERASE.has(character) ? answer.slice(0, -1) : answer + character;
      }
    };
    stderr.write(question);
    stdin.setRawMode(true);
    stdin.on('data', onData);
    stdin.resume();
  });
}
