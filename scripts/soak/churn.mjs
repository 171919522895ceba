/** What happens to the tunnels beside the traffic, each at its own pace until the soak ends; everything is counted. */
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { controlPath, requestControl, requestReload } from '@sealane/tunnel';

const HOUR = 3_600_000;
/** How often an hour, as the goal of a soak has it. */
const PACE = { changes: 10_000, peers: 1_200, hangups: 240, flaps: 120, restarts: 500 };
/** Milliseconds that a link stays down. */
const FLAP = 1_000;
/** Times that a restarted tunnel is tried, half a second apart or more, before it counts as lost: tries, as all may be stopped. */
const MOST_TRIES = 120;
const TRY_INTERVAL = 500;
const LONGEST_END = 10_000;

/** @typedef {{ done: number, failed: number }} Count */

export class Churn {
  /** @type {Record<keyof typeof PACE, Count>} */
  counts = {
    changes: { done: 0, failed: 0 },
    peers: { done: 0, failed: 0 },
    hangups: { done: 0, failed: 0 },
    flaps: { done: 0, failed: 0 },
    restarts: { done: 0, failed: 0 },
  };
  /** Milliseconds until a tunnel carried packets again, by signal. @type {Record<'SIGTERM' | 'SIGKILL', number[]>} */
  back = { SIGTERM: [], SIGKILL: [] };
  /** @readonly */
  #rig;
  /** @readonly */
  #context;
  #running = true;
  /** @readonly @type {Promise<void>[]} */
  #loops = [];
  /** @type {Buffer | undefined} */
  #added;

  /** @param {import('./rig.mjs').Rig} rig */
  constructor(rig, context) {
    this.#rig = rig;
    this.#context = context;
  }

  begin() {
    const jobs = {
      changes: (n) => this.#change(n),
      peers: (n) => this.#peer(n),
      hangups: (n) => this.#hangup(n),
      ...(this.#rig.flaps.length > 0 && { flaps: (n) => this.#flap(n) }),
      restarts: (n) => this.#restart(n),
    };
    for (const [name, job] of Object.entries(jobs))
      this.#loops.push(this.#repeat(/** @type {keyof typeof PACE} */ (name), job));
  }

  async end() {
    this.#running = false;
    await Promise.race([Promise.all(this.#loops), sleep(LONGEST_END, undefined, { ref: false })]);
  }

  /** @param {keyof typeof PACE} name */
  async #repeat(name, job) {
    const started = performance.now();
    for (let n = 0; ; n++) {
      const due = started + ((n + 1) * HOUR) / PACE[name];
      // Short naps, so that the end need not wait for a long one.
      while (this.#running && performance.now() < due) await sleep(Math.min(250, due - performance.now()));
      if (!this.#running) return;
      try {
        await job(n);
        this.counts[name].done += 1;
      } catch (error) {
        if (!this.#running) return;
        this.counts[name].failed += 1;
        this.#context.watch.report(`${name}: ${error instanceof Error ? error.message : String(error)}`);
      }
    }
  }

  /** Through the client's control socket, as `wg set` does: a peer comes, changes and goes; the keepalive changes. */
  async #change(n) {
    const path = controlPath(this.#rig.client);
    if (n % 4 === 0) this.#added = randomBytes(32);
    const key = this.#added?.toString('hex');
    const prefix = `10.${100 + (n % 100)}.${n % 256}.0/24`;
    const steps = [
      ['set=1', `public_key=${key}`, 'endpoint=192.0.2.62:9', `allowed_ip=${prefix}`],
      ['set=1', `public_key=${key}`, 'update_only=true', 'replace_allowed_ips=true', `allowed_ip=${prefix}`],
      ['get=1'],
      ['set=1', `public_key=${key}`, 'remove=true'],
    ];
    await requestControl(path, steps[n % 4] ?? []);
  }

  /** Through the server's registry: a peer comes, and the next time it goes. */
  async #peer(n) {
    const { processes } = this.#context;
    const { state } = this.#rig;
    const args = n % 2 === 0 ? ['add', 'passer-by'] : ['remove', 'passer-by'];
    await processes.run(processes.program('sealaned', ['peer', ...args, '--state', state]));
  }

  /** Server and client by turns read their configuration again. */
  async #hangup(n) {
    const { lasting, client, reloads } = this.#rig;
    if (n % 2 === 1 && reloads) await requestReload(controlPath(client));
    else lasting[0]?.running.child.kill('SIGHUP');
  }

  async #flap(n) {
    const flap = this.#rig.flaps[n % this.#rig.flaps.length];
    await flap?.down();
    await sleep(FLAP);
    await flap?.up();
  }

  /** One process after the other, in good order and by force. */
  async #restart(n) {
    const { restarted } = this.#rig;
    const one = restarted[n % restarted.length];
    const signal = Math.floor(n / restarted.length) % 2 === 0 ? 'SIGTERM' : 'SIGKILL';
    if (one === undefined) return;
    this.#context.watch.expect(one.running);
    await this.#context.processes.end(one.running, signal);
    if (!this.#running) return;
    one.running = one.start();
    const from = performance.now();
    for (let tries = 1; !(await one.reach()); tries++) {
      if (!this.#running) return;
      if (tries === MOST_TRIES) throw new Error(`the ${one.name} is not back after ${signal}`);
      // Before there is an interface a try fails at once.
      await sleep(TRY_INTERVAL);
    }
    this.back[signal].push(performance.now() - from);
  }
}
