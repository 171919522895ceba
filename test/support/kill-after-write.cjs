/** Preloaded into a process: kills it as soon as it has written the file KILL_AFTER. */
const fs = require('node:fs');
const { syncBuiltinESMExports } = require('node:module');

function die(path) {
  if (path !== process.env.KILL_AFTER) return;
  process.kill(process.pid, 'SIGKILL');
  // The signal is on its way: not a step further.
  for (;;);
}

const { writeFileSync } = fs;
fs.writeFileSync = (path, ...rest) => {
  writeFileSync(path, ...rest);
  die(path);
};

const { writeFile } = fs.promises;
fs.promises.writeFile = async (path, ...rest) => {
  await writeFile(path, ...rest);
  die(path);
};
syncBuiltinESMExports();
