/**
 * Opens what the system refuses this process, again and again: node failed-opens.mjs interface|mark|port [name]
 * Prints what was said, and the number of descriptors after the first attempt and after all of them.
 */
import { readdirSync } from 'node:fs';
import { openTun } from '../../dist/devices/tun.js';
import { openSockets } from '../../dist/lane/sockets.js';

const attempts = {
  interface: () => openTun({ name: process.argv[3] ?? 'slrefused' }),
  mark: () => openSockets(0, 7, 1),
  port: () => openSockets(1, 0, 1),
};
const attempt = attempts[/** @type {keyof typeof attempts} */ (process.argv[2])];
/** @type {string | undefined} */
let said;
const counts = Array.from({ length: 50 }, () => {
  try {
    attempt();
    said = 'opened';
  } catch (error) {
    said = error instanceof Error ? error.message : String(error);
  }
  return readdirSync('/proc/self/fd').length;
});
console.log(JSON.stringify({ said, first: counts[0], last: counts.at(-1) }));
