/** Preloaded into a process: its wall clock shows the Unix milliseconds CLOCK. */
const shown = Number(process.env.CLOCK);
const began = performance.now();
Date.now = () => shown + Math.floor(performance.now() - began);
