/**
 * Preloaded into a process and all its threads: their clocks are ahead by the milliseconds that the file SEALANE_AHEAD holds, the monotonic one
 * (`performance.now`) by the first number, the wall clock (`Date.now`) by the second, if there is one.
 */
const { readFileSync } = require('node:fs');

const monotonic = performance.now.bind(performance);
const wall = Date.now;
let ahead = [0, 0];
let lookedAt = -Infinity;

performance.now = () => {
  look(20);
  return monotonic() + ahead[0];
};

/** A loop asks for the other clock first: both step between two of its turns. */
Date.now = () => {
  look(1_000);
  return wall() + (ahead[1] ?? 0);
};

function look(patience) {
  if (monotonic() - lookedAt < patience) return;
  lookedAt = monotonic();
  const text = readFileSync(process.env.SEALANE_AHEAD, 'utf8');
  // Who writes it empties it first.
  if (text !== '') ahead = text.split(' ').map(Number);
}
