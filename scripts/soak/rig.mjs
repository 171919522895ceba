/**
 * Two servers and three clients as processes. `server` and `client` carry the traffic and live as long as the soak does, and so does
 * `roamer`, a client of the second server; that server, and a guest of the first one, are those that are killed and started again.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { readyEntry } from '../demo/loopback.mjs';

const TRAFFIC = fileURLToPath(new URL('traffic.mjs', import.meta.url));
const START_LIMIT = 60_000;

/**
 * @typedef {import('../demo/processes.mjs').Processes} Processes
 * @typedef {{ child: import('node:child_process').ChildProcess, done: Promise<{ code: number, stdout: string, stderr: string }>, lines: (listener: (line: string) => void) => unknown }} Running
 * @typedef {{ name: string, running: Running, start: () => Running, reach: () => Promise<boolean> }} Restarted
 * @typedef {{ name: string, down: () => Promise<unknown>, up: () => Promise<unknown> }} Flap
 * @typedef {object} Rig
 * @property {string} kind
 * @property {{ name: string, running: Running }[]} lasting
 * @property {Restarted[]} restarted
 * @property {Running} sender
 * @property {string} state of the server that lasts
 * @property {string} client the name of its client, for its control socket
 * @property {boolean} reloads whether that client reads its file again
 * @property {Flap[]} flaps
 */

/** What both rigs share: servers, configurations, echo. */
export class Builder {
  /**
   * @param {{ processes: Processes, watch: import('./watch.mjs').Watch, directory: string, undo: (() => unknown)[] }} context
   */
  constructor({ processes, watch, directory, undo }) {
    this.processes = processes;
    this.watch = watch;
    this.directory = directory;
    this.undo = undo;
  }

  ip(...args) {
    return this.processes.run(this.processes.command(['ip', ...args]));
  }

  sealaned(...args) {
    return this.processes.run(this.processes.program('sealaned', args));
  }

  /** A server's state folder and the configurations of its peers. */
  async state(name, endpoint, pool, peers, allowedIps = pool) {
    const state = join(this.directory, name);
    await this.sealaned('init', '--state', state, '--endpoint', endpoint, '--pool', pool);
    const configs = [];
    for (const peer of peers) {
      const file = join(this.directory, `${peer}.conf`);
      const options = ['--state', state, '--out', file, '--allowed-ips', allowedIps, '--keepalive', '5'];
      await this.sealaned('peer', 'add', peer, ...options);
      // Where there is a resolver it would be asked: a tunnel of addresses alone has none.
      writeFileSync(file, readFileSync(file, 'utf8').replace(/^DNS.*\n/m, ''), { mode: 0o600 });
      configs.push(file);
    }
    return { state, configs };
  }

  start(name, program, args, prefix = []) {
    return this.watch.follow(name, this.processes.program(program, args, prefix));
  }

  /** Waits until a server says that it is ready. */
  ready(server) {
    return this.processes.line(server, readyEntry);
  }

  async echo(port, prefix = []) {
    const running = this.processes.command([...prefix, process.execPath, TRAFFIC, 'echo', String(port)]);
    this.watch.follow('the echo', running);
    await this.processes.line(running, (line) => (line === 'ready' ? true : undefined));
  }

  sender(host, port, prefix = []) {
    const running = this.processes.command([...prefix, process.execPath, TRAFFIC, 'send', host, String(port)]);
    return this.watch.follow('the sender', running);
  }

  /** Waits until `reach` holds. */
  async reached(what, reach) {
    const end = Date.now() + START_LIMIT;
    while (!(await reach())) if (Date.now() > end) throw new Error(`${what} does not get through`);
  }
}
