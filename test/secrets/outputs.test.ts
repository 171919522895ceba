/** Nothing that the two programs print, log, report or complain of holds a secret key, whatever the form of either. */
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Folder, sealane } from '../cli/client-support.ts';
import { Scratch, connect, finish, launch, startServer } from '../cli/server-support.ts';
import { formsOf } from './forms.ts';

const SECRET_LINE = /^\s*(?:PrivateKey|PresharedKey)\s*=\s*(\S+)/gm;

let scratch: Scratch;
let folder: Folder;

beforeEach(async () => {
  scratch = new Scratch();
  folder = await Folder.make();
});

afterEach(async () => {
  scratch.remove();
  await folder.remove();
});

/** All keys of base64 that lie in the server's own files. */
function keysIn(path: string): string[] {
  const texts = readdirSync(path, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => readFileSync(join(entry.parentPath, entry.name), 'latin1'));
  return texts.flatMap((text) => text.match(/[A-Za-z0-9+/]{43}=/g) ?? []);
}

describe('secret keys', () => {
  it('are in no output of server and client, in good order and in trouble', { timeout: 180_000 }, async () => {
    await scratch.init();
    const said: string[] = [];
    const client = await scratch.must('peer', 'add', 'laptop');
    const secrets = new Set(Array.from(client.matchAll(SECRET_LINE), (match) => match[1]!));
    const isPublic = new Set(Array.from(client.matchAll(/PublicKey = (\S+)/g), (match) => match[1]!));
    const listed = await scratch.must('peer', 'list', '--json');
    for (const key of listed.match(/[A-Za-z0-9+/]{43}=/g) ?? []) isPublic.add(key);
    for (const key of keysIn(scratch.state)) if (!isPublic.has(key)) secrets.add(key);
    // The client's two, the server's own; the preshared key is in both.
    expect(secrets.size).toBeGreaterThanOrEqual(3);

    const { server, ready } = await startServer(scratch.state);
    const tunnel = await connect(client, ready.port);
    expect(await tunnel.reaches()).toBe(true);
    said.push(JSON.stringify(await tunnel.status()));
    for (const args of [
      ['status'],
      ['status', '--json'],
      ['peer', 'list'],
      ['peer', 'show', 'laptop'],
      ['peer', 'show', 'laptop', '--json'],
    ]) {
      const { stdout, stderr } = await scratch.run(...args);
      said.push(stdout, stderr);
    }
    await tunnel.close();

    const path = join(folder.path, 'client.conf');
    writeFileSync(path, client.replace(/^Endpoint = .*$/m, `Endpoint = 127.0.0.1:${ready.port}`), { mode: 0o600 });
    for (const args of [
      ['ping', path, '--count', '1'],
      ['ping', path, '--count', '1', '--json'],
      ['ping', path, '--size', '999999'],
      ['status'],
      ['status', '--json'],
    ]) {
      const { stdout, stderr } = await sealane(args, '', {
        STATE_DIRECTORY: folder.path,
        DEBUG: '*',
        NODE_DEBUG: 'net,dgram',
      });
      said.push(stdout, stderr);
    }
    // Broken files: what is complained of lies next to a key, or is one.
    for (const [i, broken] of [
      client.replace(/PrivateKey = (.*)/, 'PrivateKey = $1$1'),
      client.replace(/PrivateKey = .(.*)/, 'PrivateKey = $1'),
      client.replace(/PresharedKey = (.*)/, 'Presharedkey: $1'),
      client.replace(/PresharedKey = (.*)/, '$1'),
      client.replace(/PublicKey = .*/, (line) => `${line}\nEndpoint = ${[...secrets][0]}`),
    ].entries()) {
      const bad = join(folder.path, `bad${i}.conf`);
      writeFileSync(bad, broken, { mode: 0o600 });
      for (const command of ['ping', 'up']) {
        const { stdout, stderr, code } = await sealane([command, bad], '', { STATE_DIRECTORY: folder.path });
        expect(code, stdout + stderr).toBe(2);
        said.push(stdout, stderr);
      }
    }
    const { stdout, stderr } = await server.stop();
    said.push(stdout, stderr);

    // Lines for people, and a registry that is no JSON any more.
    const plain = launch(['run', '--userspace', '--listen', '0', '--state', scratch.state]);
    const ended = finish(plain);
    setTimeout(() => plain.kill('SIGTERM'), 1_500);
    const outcome = await ended;
    said.push(outcome.stdout, outcome.stderr);
    for (const entry of readdirSync(scratch.state, { recursive: true, withFileTypes: true })) {
      if (!entry.isFile() || !entry.name.endsWith('.json')) continue;
      const file = join(entry.parentPath, entry.name);
      writeFileSync(file, readFileSync(file, 'utf8').replace(/"\s*:/, '" '));
    }
    for (const args of [['status'], ['peer', 'list'], ['run', '--userspace']]) {
      const { stdout, stderr } = await scratch.run(...args);
      said.push(stdout, stderr);
    }

    const all = said.join('\n');
    expect(all.length).toBeGreaterThan(2_000);
    for (const secret of secrets) for (const form of formsOf(secret)) expect(all).not.toContain(form);
  });
});
