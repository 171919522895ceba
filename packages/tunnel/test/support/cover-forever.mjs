// Covers ever newer timestamps in the file named by the argument, and announces each one afterwards.
import { timestampAt } from '@sealane/protocol';
import { TimestampFile } from '@sealane/tunnel';

const file = TimestampFile.open(process.argv[2]);
let unixMs = Date.now();
setInterval(() => {
  unixMs += 700;
  const newest = timestampAt(unixMs);
  file.cover(newest);
  process.send(Array.from(newest));
}, 1);
