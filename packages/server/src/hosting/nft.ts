/** The program nft(8). All that it is given is numbers, addresses and names that were checked; nothing passes a shell. */
import { spawn } from 'node:child_process';
import type { NftProgram } from '@sealane/tunnel';
import { errorCode, errorLine, RefusedError } from '../errors.ts';

/** Applies a script as one transaction. @throws RefusedError with what nft(8) said. */
export async function nft(script: string): Promise<void> {
  await runNft(['-f', '-'], script);
}

/** Resolves to what it printed. @throws RefusedError with what nft(8) said. */
export function runNft(words: readonly string[], input = ''): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn('nft', words, { stdio: ['pipe', 'pipe', 'pipe'] });
    let [stdout, stderr] = ['', ''];
    child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
    child.once('error', (cause) => {
      const why = errorCode(cause) === 'ENOENT' ? 'it is missing: install nftables' : errorLine(cause);
      reject(new RefusedError(`cannot run the program nft: ${why}`, { cause }));
    });
    child.once('close', (status) => {
      if (status === 0) resolve(stdout);
      else
        reject(
          new RefusedError(
            `${words[0] === '-f' ? 'nftables refuses our rules' : 'nftables cannot be listed'}: ${errorLine(stderr.split('\n')[0] ?? '')}`,
          ),
        );
    });
    child.stdin.on('error', () => undefined);
    child.stdin.end(input);
  });
}

/** Undefined in place of what is not there. */
export async function unlessGone<T>(listing: Promise<T>): Promise<T | undefined> {
  try {
    return await listing;
  } catch (error) {
    // It may go on: 'did you mean ...'.
    if (errorLine(error).includes('Error: No such file or directory')) return undefined;
    throw error;
  }
}

export const nftProgram: NftProgram = {
  apply: nft,
  list: (table) => unlessGone(runNft(['--stateless', 'list', 'table', 'inet', table])),
};
