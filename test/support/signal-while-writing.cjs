/** Preloaded into a process: sends it SIGTERM each time that it has opened a file whose name ends with SIGNAL_AT. */
const fs = require('node:fs');
const { syncBuiltinESMExports } = require('node:module');

const { openSync } = fs;
fs.openSync = (path, ...rest) => {
  const file = openSync(path, ...rest);
  if (String(path).endsWith(process.env.SIGNAL_AT)) process.kill(process.pid, 'SIGTERM');
  return file;
};
syncBuiltinESMExports();
