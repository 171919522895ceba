// Preloaded into the demonstration's processes: ends them, with their own clean-up, when the one that started them is gone.
import { isMainThread } from 'node:worker_threads';

if (isMainThread) {
  process.stdin.resume();
  process.stdin.once('end', () => {
    process.kill(process.pid, 'SIGTERM');
  });
  process.stdin.unref();
}
