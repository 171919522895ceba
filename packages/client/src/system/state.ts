import { chown, mkdir } from 'node:fs/promises';
import { homedir } from 'node:os';
import { isAbsolute, join } from 'node:path';
import type { UserIds } from '@sealane/tunnel';

/**
 * The folder for what outlives a run (mode 0700): $STATE_DIRECTORY, as systemd sets it, /var/lib/sealane-client for
 * root, else the XDG state folder; that of a user whom root becomes has its number behind it. Undefined when it cannot be made.
 */
export async function stateFolder(user?: UserIds & { readonly name: string }): Promise<string | undefined> {
  const folder = user === undefined ? chooseFolder() : `${chooseFolder()}-${user.uid}`;
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    if (user !== undefined) await chown(folder, user.uid, user.gid);
    return folder;
  } catch {
    return undefined;
  }
}

function chooseFolder(): string {
  const given = process.env['STATE_DIRECTORY']?.split(':', 1)[0];
  if (given !== undefined && isAbsolute(given)) return given;
  if (process.geteuid?.() === 0) return '/var/lib/sealane-client';
  const xdg = process.env['XDG_STATE_HOME'];
  return join(xdg !== undefined && isAbsolute(xdg) ? xdg : join(homedir(), '.local', 'state'), 'sealane');
}
