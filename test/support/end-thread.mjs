/** Ends worker threads of a process that runs with --inspect, from within: `node end-thread.mjs WS-URL TITLE`, those with TITLE in their name. Prints how many. */
import { WebSocket } from 'undici';

const [url, title] = process.argv.slice(2);
const socket = new WebSocket(url);
const send = (method, params, id = 1) => socket.send(JSON.stringify({ id, method, params }));
let ended = 0;
socket.addEventListener('open', () => send('NodeWorker.enable', { waitForDebuggerOnStart: false }));
socket.addEventListener('message', ({ data }) => {
  const { method, params } = JSON.parse(data);
  // The program waits for its debugger to leave before it ends.
  if (method === 'NodeWorker.detachedFromWorker') socket.close();
  if (method !== 'NodeWorker.attachedToWorker' || !params.workerInfo.title.includes(title)) return;
  ended += 1;
  const message = JSON.stringify({ id: 1, method: 'Runtime.evaluate', params: { expression: 'process.exit(7)' } });
  send('NodeWorker.sendMessageToWorker', { sessionId: params.sessionId, message }, 2);
});
socket.addEventListener('close', () => console.log(ended));
